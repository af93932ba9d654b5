"""From runs to comparisons and to the page."""

from dataclasses import replace
from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from loadtest.scenarios.benchmarks import chart, document, verdicts
from loadtest.scenarios.gateways import ROUND_ROBIN, TIDEGATE
from loadtest.scenarios.runs import Middle, Run
from loadtest.scenarios.scenario import load, shipped

RUN = Run("brown-out", TIDEGATE, 1, 1000, 0, 0, 0, 0, 0, 0, 250.0, 0.1, 0.4, 0.02, 3.0, 11.0)
BROWN_OUT = next(load(path) for path in shipped() if path.stem == "brown-out")


def runs(gateway: str, *missed: int) -> list[Run]:
    return [
        replace(RUN, gateway=gateway, seed=seed, missed=count, late_ttft=count)
        for seed, count in enumerate(missed, start=1)
    ]


@given(st.lists(st.one_of(st.none(), st.floats(0, 1e6)), max_size=9))
def test_a_middle_is_the_median_of_what_there_is_unless_most_is_not(values: list[float | None]) -> None:
    known = sorted(value for value in values if value is not None)
    found = Middle.of(values)
    assert found.low == (known[0] if known else None)
    assert found.high == (known[-1] if known else None)
    assert found.median == (median(known) if len(known) > len(values) - len(known) else None)


class TestPage:
    FOUND = (
        *runs(TIDEGATE, 10, 12, 11),
        *runs(ROUND_ROBIN, 250, 250, 250),
        *runs("nginx round robin", 240, 250, 260),
        *runs("nginx least_conn", 44, 40, 40),
    )

    def test_tells_every_gateway_with_its_interval_and_what_falls_short(self) -> None:
        page = document(self.FOUND, [BROWN_OUT], {"cpu": "of the test"})
        assert "| nginx least_conn | 4.13 (3.56 to 4.71) | 124 late ttft | 250 |" in page
        assert "(below" not in page
        assert [reached for _, reached in verdicts(self.FOUND, BROWN_OUT)] == [False, True]
        assert "- cpu: of the test" in page
        assert "Brown-out" in page

    def test_a_win_and_a_loss_are_told_in_the_same_words_under_their_own_titles(self) -> None:
        won = document(self.FOUND, [BROWN_OUT], {})
        lost = document([*self.FOUND, *runs("Envoy", 1, 2, 1)], [BROWN_OUT], {})
        line = "- Brown-out of one engine: 1.10 % (0.85 to 1.35) missed, "
        fewer, more = "### Tidegate missed fewer than every other gateway\n\n", "### Another gateway missed fewer\n\n"
        assert f"{fewer}{line}4.13 % (3.56 to 4.71) behind nginx least_conn: 3.6x fewer" in won
        assert f"{more}None." in won
        assert f"{more}{line}0.13 % (0.00 to 0.28) behind Envoy" in lost
        assert f"{fewer}None." in lost

    def test_says_where_configuration_alone_decides(self) -> None:
        found = [run for run in self.FOUND if run.gateway != ROUND_ROBIN]
        assert "configuration alone" not in document(self.FOUND, [BROWN_OUT], {}).split("## All scenarios")[1]
        same = document([*found, *runs(ROUND_ROBIN, 11, 10, 12)], [BROWN_OUT], {})
        assert "Tidegate round robin shows no difference: configuration alone does it." in same

    def test_a_gateway_that_never_recovered_says_so(self) -> None:
        found = [replace(run, recovered=None) for run in runs(TIDEGATE, 10, 10, 10)]
        assert "| never |" in document(found, [BROWN_OUT], {})

    def test_streams_are_added_up_over_repetitions(self) -> None:
        found = [replace(run, streams="chat=1/100 batch=30/50") for run in runs(TIDEGATE, 1, 1)]
        assert "| chat 1.00 %, batch 60.0 % |" in document(found, [BROWN_OUT], {})

    def test_the_picture_has_a_dot_for_each_gateway(self) -> None:
        picture = chart(self.FOUND, [BROWN_OUT])
        assert "<title>nginx least_conn: 4.13 % (3.56 to 4.71)</title>" in picture
        assert picture.count("<title>") == 1 + 4
