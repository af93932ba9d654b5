"""Quiet services as scenarios: what is played, and what counts as harm."""

from loadtest.routing.quiet import VARIANTS
from loadtest.scenarios.quiet import SEEDS, family, verdicts
from loadtest.scenarios.runs import Run


def run(gateway: str, seed: int, missed: int) -> Run:
    return Run("quiet", gateway, seed, 150, missed, missed, 0, 0, 0, 0, 1.0, 0.1, 0.2, 0.1, 0.0, 1.0)


def test_every_variant_is_a_scenario_with_ten_seeds() -> None:
    scenarios = family()
    assert len({scenario.name for scenario in scenarios}) == len(VARIANTS) >= 10
    assert all(scenario.repeat == SEEDS == 10 and scenario.faults for scenario in scenarios)


def test_one_unlucky_request_is_no_harm_and_a_pattern_is() -> None:
    peers = [run("nginx least_conn", seed, 5) for seed in range(10)]
    lucky = [run("Tidegate", seed, 5 + (seed == 3)) for seed in range(10)]
    assert all(reached for _, reached in verdicts([*peers, *lucky]))
    worse = [run("Tidegate", seed, 7) for seed in range(10)]
    assert [reached for _, reached in verdicts([*peers, *worse])] == [False]
    bad = [run("Tidegate", seed, 5 if seed else 60) for seed in range(10)]
    assert verdicts([*peers, *bad])[-1] == ("seed 0: 60 of 150 missed, against 5", False)
