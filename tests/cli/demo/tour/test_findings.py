"""When a step of the tour has happened, and what is said of it."""

import math
from typing import Any

import pytest

from gateway.cli.demo.tour.findings import (
    back_in_service,
    batch_yields,
    moved_away,
    promoted,
    rolled_back,
    steady,
)
from tests.cli.demo.moments import at

STARTED = "2026-01-01T00:01:00Z"


class TestSteadyLoad:
    def test_it_is_told_with_latencies_and_shares(self) -> None:
        found = steady([at(0), at(8, met=100, attempts={"a": 60, "b": 40})])

        assert found.happened
        assert found.words == (
            "All 100 interactive requests met the objective. Half of the first tokens came within 20 ms, 99 % within "
            "40 ms. Shares of the engines: 60 %, 40 %."
        )

    @pytest.mark.parametrize("later", [at(7.5, met=100), at(8, met=49), at(8, met=98, missed=2), at(8)])
    def test_it_takes_seconds_requests_and_the_objective(self, later: Any) -> None:
        assert not steady([at(0), later]).happened

    def test_misses_that_the_objective_allows_are_told(self) -> None:
        found = steady([at(0), at(8, met=198, missed=2)])

        assert found.happened
        assert found.words.startswith("Of 200 interactive requests 2 missed the objective.")

    def test_without_an_answer_it_says_so(self) -> None:
        assert steady([at(0), at(20)]).words.startswith("No interactive request was answered.")


class TestABrownOut:
    BEFORE = at(0, met=90, attempts={"a": 30, "b": 60})

    def test_it_has_happened_once_the_burn_rate_rose_and_the_share_moved(self) -> None:
        burning = at(2, met=120, attempts={"a": 38, "b": 82}, burn=12.4, retries=3)
        spared = at(7, met=220, attempts={"a": 40, "b": 180}, burn=4.0, retries=4)

        found = moved_away([self.BEFORE, burning, spared], "gpu/a")

        assert found.happened
        assert found.words == (
            "The engine's burn rate rose to 12, where 1 spends the error budget exactly. Its share fell from 33 % "
            "to 2 %. The gateway retried 4 failed attempts at other engines. All 130 interactive requests met the "
            "objective."
        )

    def test_an_ejection_is_told(self) -> None:
        out = at(7, met=220, attempts={"a": 38, "b": 182}, burn=31.0, retries=1, ejection="ejected")
        moments = [self.BEFORE, at(2, met=120, attempts={"a": 38, "b": 82}), out]

        words = moved_away(moments, "gpu/a").words

        assert "to 0 % (it is ejected). The gateway retried 1 failed attempt at other" in words

    @pytest.mark.parametrize(
        "later",
        [
            at(7, met=220, attempts={"a": 40, "b": 180}, burn=9.9),
            at(7, met=220, attempts={"a": 60, "b": 160}, burn=31.0),
            at(7, met=200, missed=20, attempts={"a": 40, "b": 180}, burn=31.0),
        ],
        ids=["burns too little", "keeps its share", "users notice"],
    )
    def test_it_has_not_where_one_part_is_missing(self, later: Any) -> None:
        assert not moved_away([self.BEFORE, at(2, met=120, attempts={"a": 38, "b": 82}), later], "gpu/a").happened

    def test_the_share_is_that_of_the_last_seconds_and_unknown_before(self) -> None:
        found = moved_away([self.BEFORE, at(2, met=120, attempts={"a": 30, "b": 90}, burn=20.0)], "gpu/a")

        assert not found.happened
        assert "from 33 % to -" in found.words


class TestOverload:
    BEFORE = at(0, met=100, shed={"batch": 5}, queued={0.01: 100.0, math.inf: 100.0})

    def test_it_has_happened_once_batch_waited_and_was_refused(self) -> None:
        queued = {0.01: 300.0, math.inf: 300.0}
        deep = at(5, met=200, waiting=31)
        end = at(10, met=300, waiting=20, shed={"batch": 17}, queued=queued)

        found = batch_yields([self.BEFORE, deep, end])

        assert found.happened
        assert found.words == (
            "Up to 31 batch requests waited at once, and 12 got 429 with Retry-After. No interactive ones were "
            "refused, and 99 % of them waited less than 10 ms for a slot. All 200 interactive requests met the "
            "objective."
        )

    @pytest.mark.parametrize(
        "later",
        [
            at(9.5, met=300, waiting=20, shed={"batch": 17}),
            at(10, met=300, shed={"batch": 17}),
            at(10, met=300, waiting=20, shed={"batch": 5}),
            at(10, met=300, waiting=20, shed={"batch": 17, "interactive": 1}),
            at(10, met=300, missed=50, waiting=20, shed={"batch": 17}),
        ],
        ids=["too early", "none waits", "none is refused", "an interactive one is refused", "users notice"],
    )
    def test_it_has_not_where_one_part_is_missing(self, later: Any) -> None:
        assert not batch_yields([self.BEFORE, later]).happened


class TestComingBack:
    BEFORE = at(0, met=100, attempts={"a": 30, "b": 70})

    @pytest.mark.parametrize(("state", "words"), [("slow_start", "slow start"), ("in_service", "in service")])
    def test_it_is_back_once_it_has_a_share(self, state: str, words: str) -> None:
        found = back_in_service([self.BEFORE, at(5, met=200, attempts={"a": 40, "b": 160}, ejection=state)], "gpu/a")

        assert found.happened
        assert found.words == (
            f"The engine's state is {words}, and its share 10 %. All 100 interactive requests met the objective."
        )

    @pytest.mark.parametrize(
        "later",
        [
            at(5, met=200, attempts={"a": 40, "b": 160}, ejection="half_open"),
            at(5, met=200, attempts={"a": 34, "b": 166}),
            at(3, met=200, attempts={"a": 40, "b": 160}),
        ],
        ids=["on trial", "hardly any requests", "not long enough to tell"],
    )
    def test_it_is_not_before(self, later: Any) -> None:
        assert not back_in_service([self.BEFORE, later], "gpu/a").happened


class TestARollback:
    def test_it_is_told_with_its_evidence(self) -> None:
        gone = {
            "phase": "rolled_back",
            "started": STARTED,
            "since": "2026-01-01T00:01:07Z",
            "reason": "ttft is worse than stable's: e-value 259 has reached 100",
        }

        found = rolled_back([at(0), at(8, met=90, missed=10, rollout=gone)])

        assert found.happened
        assert found.words == (
            "The gateway rolled v2 back 7 s after its start: ttft is worse than stable's: e-value 259 has reached 100. "
            "Of 100 interactive requests 10 missed the objective."
        )

    def test_one_of_a_rollout_before_is_another(self) -> None:
        gone = {"phase": "rolled_back", "started": STARTED, "reason": "worse", "decision": "rolled back"}

        found = rolled_back([at(0, rollout=gone), at(8, rollout=gone)])

        assert not found.happened
        assert found.words == "The rollout is in this state: rolled back; rolled back."

    def test_until_then_it_says_what_the_rollout_waits_for(self) -> None:
        assert rolled_back([at(0), at(8)]).words == "The rollout is in this state: idle; waits for `start`."


class TestAPromotion:
    def test_it_is_told_with_each_share(self) -> None:
        def move(second: int, weight: float) -> dict[str, Any]:
            return {"at": f"2026-01-01T00:01:{second:02}Z", "weight": weight}

        before = {"at": "2026-01-01T00:00:30Z", "weight": 25.0}
        history = [before, move(0, 0.0), move(1, 25.0), move(19, 50.0), move(28, 95.0), move(33, 100.0)]
        done = {"phase": "promoted", "started": STARTED, "reason": "held for 5 s", "history": history}

        found = promoted([at(0), at(35, met=500, rollout=done)])

        assert found.happened
        assert found.words == (
            "v2 had 25 % after 1 s, 50 % after 19 s, 95 % after 28 s, 100 % after 33 s, and is promoted: held for 5 s. "
            "All 500 interactive requests met the objective."
        )

    def test_until_then_it_says_what_the_rollout_waits_for(self) -> None:
        halfway = {"phase": "step", "weight": 25.0, "started": STARTED, "decision": "worst case 3 points"}
        found = promoted([at(0), at(8, rollout=halfway)])

        assert not found.happened
        assert found.words == "The rollout is in this state: step 1 of 3; worst case 3 points."
