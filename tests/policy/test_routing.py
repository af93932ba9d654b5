"""Picking a backend, its readiness, and whether to try another."""

from collections import Counter
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.canary.split import Split
from gateway.policy.routing import readiness
from gateway.policy.routing.pick import FEW, least_loaded
from gateway.policy.routing.readiness import Readiness, State
from gateway.policy.routing.retry import MAX_RETRIES, may_retry


@dataclass(frozen=True)
class Engine:
    name: int
    in_flight: int


class Watched(Random):
    """Remembers what it drew."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.drawn: list[float] = []

    def random(self) -> float:
        self.drawn.append(super().random())
        return self.drawn[-1]


engines = st.lists(st.integers(0, 9), min_size=1, max_size=12).map(
    lambda loads: [Engine(name, load) for name, load in enumerate(loads)]
)


@given(engines, st.integers())
def test_the_pick_is_a_candidate_and_of_few_the_least_loaded(candidates: list[Engine], seed: int) -> None:
    chosen = least_loaded(candidates, Random(seed))
    assert chosen in candidates
    if len(candidates) <= FEW:
        assert chosen.in_flight == min(each.in_flight for each in candidates)


@given(st.lists(st.integers(0, 9), min_size=FEW + 1, max_size=30), st.integers())
def test_of_many_the_better_of_two_different_ones_is_picked(loads: list[int], seed: int) -> None:
    candidates = [Engine(name, load) for name, load in enumerate(loads)]
    rng = Watched(seed)
    chosen = least_loaded(candidates, rng)
    first = int(rng.drawn[0] * len(candidates))
    second = (first + 1 + int(rng.drawn[1] * (len(candidates) - 1))) % len(candidates)
    assert first != second
    assert chosen.in_flight == min(candidates[first].in_flight, candidates[second].in_flight)


@pytest.mark.parametrize("count", [2, 4, 9])
def test_equals_share_evenly(count: int) -> None:
    rng = Random(7)
    picks = Counter(least_loaded([Engine(name, 3) for name in range(count)], rng).name for _ in range(9000))
    assert len(picks) == count
    assert max(picks.values()) < 1.15 * 9000 / count


weights = st.lists(st.floats(0, 100), min_size=1, max_size=6).filter(lambda each: sum(each) > 1e-6)


@given(weights, st.floats(0, 1, exclude_max=True))
def test_a_version_without_weight_is_never_drawn(shares: list[float], chance: float) -> None:
    split = Split(list(enumerate(shares)))
    assert shares[split.draw(chance)] > 0


@given(weights)
def test_versions_are_drawn_in_proportion(shares: list[float]) -> None:
    split = Split(list(enumerate(shares)))
    steps = 2000
    drawn = Counter(split.draw((step + 0.5) / steps) for step in range(steps))
    for version, share in enumerate(shares):
        assert drawn[version] / steps == pytest.approx(share / sum(shares), abs=2 / steps)


@pytest.mark.parametrize("shares", [[], [0.0], [1.0, -1.0]])
def test_a_split_without_any_weight_is_refused(shares: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        Split(list(enumerate(shares)))


def test_one_bad_probe_is_forgiven_and_a_second_is_not() -> None:
    ready = readiness.probe_passed(Readiness())
    once = readiness.probe_failed(ready, "503")
    assert (once.state, once.eligible) == (State.READY, True)
    twice = readiness.probe_failed(once, "503")
    assert (twice.state, twice.eligible, twice.reason) == (State.NOT_READY, False, "503")
    assert readiness.probe_passed(twice).state is State.READY


def test_an_engine_that_never_passed_falls_at_once() -> None:
    assert Readiness().eligible
    assert readiness.probe_failed(Readiness(), "refused").state is State.NOT_READY


def test_three_failed_connects_in_a_row_need_no_probe() -> None:
    state = readiness.probe_passed(Readiness())
    for _ in range(2):
        state = readiness.connect_failed(state, "refused")
        assert state.eligible
    assert readiness.connected(state).failed_connects == 0
    assert not readiness.connect_failed(state, "refused").eligible
    assert readiness.connected(Readiness()) == Readiness()


@given(st.booleans(), st.integers(1, 5), st.booleans(), st.floats(-1, 1))
def test_a_retry_needs_hope_silence_time_and_a_try_left(worth: bool, tries: int, begun: bool, left: float) -> None:
    allowed = may_retry(worth=worth, attempts=tries, begun=begun, time_left=left)
    assert allowed == (worth and not begun and left > 0 and tries <= MAX_RETRIES)
