"""From runs to comparisons and to the page."""

from dataclasses import replace
from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from loadtest.scenarios.benchmarks import document, verdicts
from loadtest.scenarios.gateways import ROUND_ROBIN, TIDEGATE
from loadtest.scenarios.runs import Middle, Run, compare
from loadtest.scenarios.scenario import load, shipped

RUN = Run("brown-out", TIDEGATE, 1, 1000, 0, 0, 0, 0, 0, 0, 250.0, 0.1, 0.4, 0.02, 3.0, 11.0)
BROWN_OUT = next(load(path) for path in shipped() if path.stem == "brown-out")


def runs(gateway: str, *missed: int) -> list[Run]:
    return [
        replace(RUN, gateway=gateway, seed=seed, missed=count, late_ttft=count)
        for seed, count in enumerate(missed, start=1)
    ]


class TestCompare:
    def test_the_best_other_counts_by_the_median(self) -> None:
        found = compare(runs(TIDEGATE, 9, 10, 300), {"a": runs("a", 500, 500, 0), "b": runs("b", 100, 80, 90)})
        assert (found.against, found.times, found.at_least) == ("b", 9.0, False)
        assert found.told() == "9.0x fewer than b"
        assert found.reaches(5)
        assert not found.reaches(10)

    def test_none_missed_counts_as_less_than_one(self) -> None:
        found = compare(runs(TIDEGATE, 0, 0, 1), {"a": runs("a", 30, 30, 30)})
        assert found.told() == "over 30.0x fewer than a"

    def test_where_nobody_missed_there_is_nothing_to_gain(self) -> None:
        assert compare(runs(TIDEGATE, 0), {"a": runs("a", 0)}).reaches(5)

    def test_some_where_another_has_none_is_never_enough(self) -> None:
        found = compare(runs(TIDEGATE, 1), {"a": runs("a", 0)})
        assert not found.reaches(1)
        assert found.told() == "a missed none"


@given(st.lists(st.one_of(st.none(), st.floats(0, 1e6)), max_size=9))
def test_a_middle_is_the_median_of_what_there_is_unless_most_is_not(values: list[float | None]) -> None:
    known = sorted(value for value in values if value is not None)
    found = Middle.of(values)
    assert found.low == (known[0] if known else None)
    assert found.high == (known[-1] if known else None)
    assert found.median == (median(known) if len(known) > len(values) - len(known) else None)


class TestPage:
    def test_tells_every_gateway_and_what_falls_short(self) -> None:
        found = [
            *runs(TIDEGATE, 10, 12, 11),
            *runs(ROUND_ROBIN, 250, 250, 250),
            *runs("nginx round robin", 240, 250, 260),
            *runs("nginx least_conn", 44, 40, 40),
        ]
        page = document(found, [BROWN_OUT], {"cpu": "of the test"})
        assert "| nginx least_conn | 4.00 (4.00 to 4.40) | 124 late ttft | 250 |" in page
        assert "3.6x fewer than nginx least_conn (aim 5x, not reached); 22.7x fewer than" in page
        assert [reached for _, reached in verdicts(found, BROWN_OUT)] == [False, True]
        assert "- cpu: of the test" in page
        assert "Brown-out" in page

    def test_a_gateway_that_never_recovered_says_so(self) -> None:
        found = [replace(run, recovered=None) for run in runs(TIDEGATE, 10, 10, 10)]
        assert "| never |" in document(found, [BROWN_OUT], {})
