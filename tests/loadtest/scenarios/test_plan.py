"""Which runs a command asks for, and which are left."""

from pathlib import Path

from loadtest.scenarios.finished import Finished, clear, commit
from loadtest.scenarios.gateways import APART, ROUND_ROBIN, TIDEGATE
from loadtest.scenarios.plan import Plan
from loadtest.scenarios.scenario import Scenario, load, shipped

STEADY, QUIET = (next(load(each) for each in shipped() if each.stem == name) for name in ("steady", "quiet-service"))


def plan(out: Path, *scenarios: Scenario, seeds: int = 2, again: bool = False) -> Plan:
    return Plan(scenarios, (TIDEGATE, ROUND_ROBIN), range(1, 1 + seeds), out, None, again=again)


def finish(out: Path, seed: int, at: str, *gateways: str) -> Path:
    folder = out / "steady" / f"{seed}"
    folder.mkdir(parents=True)
    Finished(at, gateways, "").write(folder)
    return folder


def test_all_scenarios_come_before_any_is_repeated(tmp_path: Path) -> None:
    found = [(run.scenario.name, run.seed) for run in plan(tmp_path, STEADY, QUIET).wanted()]
    assert found == [("steady", 1), ("quiet-service", 1), ("steady", 2), ("quiet-service", 2)]


def test_a_quiet_service_has_no_more_seeds_than_it_says(tmp_path: Path) -> None:
    assert len(plan(tmp_path, QUIET, seeds=9).wanted()) == QUIET.repeat == 5


def test_what_this_commit_has_played_with_these_gateways_is_not_left(tmp_path: Path) -> None:
    finish(tmp_path, 1, commit(), TIDEGATE, ROUND_ROBIN, "Envoy")
    finish(tmp_path, 2, commit(), TIDEGATE)
    assert [run.seed for run in plan(tmp_path, STEADY).left()] == [2]


def test_what_another_commit_has_played_is_left(tmp_path: Path) -> None:
    finish(tmp_path, 1, "another", TIDEGATE, ROUND_ROBIN)
    assert [run.seed for run in plan(tmp_path, STEADY).left()] == [1, 2]


def test_what_was_refused_or_is_to_be_played_again_is_left(tmp_path: Path) -> None:
    clear(finish(tmp_path, 1, commit(), TIDEGATE, ROUND_ROBIN))
    finish(tmp_path, 2, commit(), TIDEGATE, ROUND_ROBIN)
    assert [run.seed for run in plan(tmp_path, STEADY).left()] == [1]
    assert [run.seed for run in plan(tmp_path, STEADY, again=True).left()] == [1, 2]


def test_gateways_that_play_alone_do_so_only_in_scenarios_that_there_are() -> None:
    assert set().union(*APART.values()) <= {path.stem for path in shipped()}
