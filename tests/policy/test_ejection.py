"""Out of service and back: the table of states, and the rules that look at the whole pool."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import BAD
from gateway.policy.routing import ejection
from gateway.policy.routing.ejection import (
    JITTER,
    LEAST_WEIGHT,
    PAUSE,
    PROBES,
    QUIET,
    SLOW_START,
    TRANSITIONS,
    USUAL,
    WARM_UP,
    EjectionState,
    Event,
    Member,
    Ruling,
    State,
    Thresholds,
    eject,
    elapse,
    failed,
    needed,
    rule,
)
from gateway.policy.routing.health import Health
from gateway.policy.routing.pool_state import PoolState

RNG = Random(1)


def test_the_table_has_no_dead_ends() -> None:
    assert {state for state, _ in TRANSITIONS} == set(State)
    for state, event in product(State, Event):
        assert TRANSITIONS.get((state, event), state) in State


@given(st.integers(0, 30), st.integers())
def test_an_ejection_lasts_longer_each_time_and_never_too_long(recent: int, seed: int) -> None:
    standing = ejection.eject(EjectionState(ejections=recent), 100.0, "why", Random(seed))
    seconds = standing.until - 100.0
    expected = min(USUAL.max_ejection_time, USUAL.base_ejection_time * (recent + 1))
    assert expected * (1 - JITTER) <= seconds <= min(USUAL.max_ejection_time, expected * (1 + JITTER))
    assert (standing.state, standing.since, standing.reason) == (State.EJECTED, 100.0, "why")
    assert standing.out


def test_the_way_out_and_back() -> None:
    standing = ejection.eject(EjectionState(), 0.0, "failed", RNG)
    assert ejection.elapse(standing, standing.until - 0.01) is standing
    standing = ejection.elapse(standing, standing.until)
    assert standing.state is State.HALF_OPEN
    assert standing.out
    for _ in range(PROBES - 1):
        standing = ejection.answered(standing, 40.0)
        assert standing.state is State.HALF_OPEN
    standing = ejection.answered(standing, 41.0)
    assert (standing.state, standing.until) == (State.SLOW_START, 41.0 + SLOW_START)
    assert not standing.out
    assert ejection.answered(standing, 42.0) is standing
    standing = ejection.elapse(standing, 101.0)
    assert (standing.state, standing.ejections) == (State.IN_SERVICE, 1)
    assert ejection.elapse(standing, 101.0 + USUAL.max_ejection_time - 1) is standing
    assert ejection.elapse(standing, 101.0 + USUAL.max_ejection_time).ejections == 0


def test_a_failed_probe_ejects_for_as_long_as_before() -> None:
    standing = ejection.elapse(ejection.eject(EjectionState(), 0.0, "slow", RNG), 40.0)
    again = ejection.failed(standing, 40.0, "its probe failed", RNG)
    assert (again.state, again.ejections) == (State.EJECTED, 1)
    assert again.until - 40.0 <= USUAL.base_ejection_time * (1 + JITTER)
    with pytest.raises(KeyError):
        ejection.eject(again, 41.0, "out already", RNG)


@pytest.mark.parametrize("state", State)
def test_whoever_can_be_reached_again_is_tried_before_it_is_trusted(state: State) -> None:
    standing = EjectionState(state, 0.0, 60.0, 1)
    back, reason = ejection.returned(standing, 10.0), "could not be reached, and can be again"
    until = standing.until if state is State.HALF_OPEN else 10.0 + QUIET
    assert back == EjectionState(State.HALF_OPEN, 10.0, until, 1, 0, reason, returned=True)


def test_whoever_restarts_because_it_fails_is_not_tried_sooner_for_it() -> None:
    standing = EjectionState(State.EJECTED, 0.0, 60.0, 2)
    assert ejection.returned(standing, 10.0) is standing


@pytest.mark.parametrize("state", State)
def test_whoever_is_new_gets_its_share_slowly(state: State) -> None:
    standing = EjectionState(state, 0.0, 60.0)
    new = ejection.began(standing, 10.0)
    if state is State.IN_SERVICE:
        assert new == EjectionState(State.SLOW_START, 10.0, 10.0 + WARM_UP, 0, 0, "was reached for the first time")
    else:
        assert new is standing


def test_without_requests_half_open_ends_by_time_and_slowly() -> None:
    out = ejection.eject(EjectionState(), 0.0, "5 failures in a row", RNG)
    standing = ejection.elapse(out, out.until)
    assert standing.reason == "was ejected: 5 failures in a row"
    assert ejection.elapse(standing, out.until + QUIET - 0.1) is standing
    back = ejection.elapse(standing, out.until + QUIET)
    assert (back.state, back.until, back.ejections) == (State.SLOW_START, out.until + QUIET + SLOW_START, 1)
    assert back.reason == "no request in 60 s, and its probes pass"


@pytest.mark.parametrize("state", State)
def test_a_share_that_no_request_has_tried_does_not_grow_while_nothing_is_at_work(state: State) -> None:
    standing = EjectionState(state, 10.0, 70.0)
    held = ejection.idled(standing, 5.0)
    if state is State.SLOW_START:
        assert (held.since, held.until) == (15.0, 75.0)
    else:
        assert held is standing
    tried = EjectionState(State.SLOW_START, 10.0, 70.0, answered=PROBES)
    assert ejection.idled(tried, 5.0) is tried


def test_half_open_does_not_end_by_time_while_requests_come() -> None:
    standing = ejection.returned(EjectionState(), 0.0)
    standing = ejection.answered(standing, QUIET - 1)
    assert ejection.elapse(standing, QUIET).answered == 1
    standing = ejection.unsettled(standing, 100.0)
    assert ejection.elapse(standing, 99.0 + QUIET) is standing
    assert ejection.elapse(standing, 100.0 + QUIET).state is State.SLOW_START
    well = EjectionState()
    assert ejection.unsettled(well, 100.0) is well


def test_whoever_fails_that_trial_is_soon_tried_again() -> None:
    out = ejection.failed(ejection.returned(EjectionState(), 10.0), 11.0, "its probe was slow", RNG)
    assert (out.state, out.ejections) == (State.EJECTED, 0)
    assert PAUSE * (1 - JITTER) <= out.until - 11.0 <= PAUSE * (1 + JITTER)


def test_whoever_stands_that_trial_is_back_sooner_than_after_an_ejection() -> None:
    standing = ejection.returned(EjectionState(), 10.0)
    for _ in range(PROBES):
        standing = ejection.answered(standing, 12.0)
    assert (standing.state, standing.until) == (State.SLOW_START, 12.0 + WARM_UP)
    assert ejection.weight(1.0, standing, 12.0 + WARM_UP / 2) == 0.5


def test_during_slow_start_it_can_be_ejected_again() -> None:
    standing = EjectionState(State.SLOW_START, 0.0, 60.0, 1)
    assert ejection.eject(standing, 10.0, "again", RNG).ejections == 2


@given(st.floats(0.001, 1000), st.sampled_from(State), st.floats(0, 100))
def test_weights_keep_their_bounds(burn: float, state: State, elapsed: float) -> None:
    weight = ejection.weight(burn, EjectionState(state, 0.0, SLOW_START), elapsed)
    assert LEAST_WEIGHT <= weight <= 1.0
    if state is not State.SLOW_START:
        assert weight == max(LEAST_WEIGHT, min(1.0, 1.0 / burn))


def test_slow_start_grows_to_the_full_weight() -> None:
    standing = EjectionState(State.SLOW_START, 0.0, SLOW_START)
    weights = [ejection.weight(1.0, standing, seconds) for seconds in (0.0, 15.0, 30.0, 60.0, 90.0)]
    assert weights == [LEAST_WEIGHT, 0.25, 0.5, 1.0, 1.0]


members = st.lists(
    st.builds(
        Member,
        standing=st.sampled_from([EjectionState(), EjectionState(State.EJECTED), EjectionState(State.HALF_OPEN)]),
        gone=st.booleans(),
        burning=st.booleans(),
        guilty=st.booleans(),
    ),
    min_size=1,
    max_size=9,
)


@given(members)
def test_at_most_half_is_out_and_a_panic_ejects_nobody(pool: Sequence[Member]) -> None:
    ruling = rule(pool)
    out_before = [member.gone or member.standing.out for member in pool]
    if ruling.panic:
        assert ruling.eject == ()
        unfit = sum(member.gone or member.burning or member.standing.out for member in pool)
        assert unfit * 2 > len(pool) > 1
    for index in ruling.eject:
        assert pool[index].guilty
        assert not out_before[index]
    if ruling.eject:
        assert (sum(out_before) + len(ruling.eject)) * 2 <= len(pool)


def test_two_of_four_may_go_and_three_are_a_panic() -> None:
    sick = Member(EjectionState(), burning=True, guilty=True, reason="slow")
    well = Member(EjectionState())
    assert rule([sick, sick, well, well]) == Ruling((0, 1), panic=False)
    assert rule([sick, sick, sick, well]) == Ruling((), panic=True)
    assert rule([sick]) == Ruling((), panic=False)
    assert rule([sick, well]) == Ruling((0,), panic=False)


def test_backends_that_are_merely_gone_are_no_panic() -> None:
    gone, well = Member(EjectionState(), gone=True), Member(EjectionState())
    assert rule([gone, gone, gone, well]) == Ruling((), panic=False)
    assert rule([gone, gone, Member(EjectionState(), burning=True), well]) == Ruling((), panic=True)


def test_load_that_burns_everyone_ejects_nobody() -> None:
    burning = Member(EjectionState(), burning=True, guilty=False)
    assert rule([burning] * 4) == Ruling((), panic=True)
    assert rule([burning] * 4).reason == "4 of 4 backends are ejected, not ready or far beyond their budget"
    assert rule([burning, *[Member(EjectionState())] * 3]) == Ruling((), panic=False)


def test_a_slow_backend_stays_where_the_rest_could_not_take_over_what_it_carries() -> None:
    slow = Member(EjectionState(), burning=True, guilty=True, reason="slow", slow=True, carries=5, spare=59)
    failing = replace(slow, slow=False)
    small = Member(EjectionState(), spare=4)
    assert rule([slow, small]) == Ruling((), panic=False)
    assert rule([slow, replace(small, spare=5)]) == Ruling((0,), panic=False)
    assert rule([failing, small]) == Ruling((0,), panic=False), "to fail is worse than to wait"
    full = replace(small, spare=0)
    assert rule([slow, slow, replace(small, spare=10), full, full]) == Ruling((0, 1), panic=False)
    assert rule([slow, slow, replace(small, spare=9), full, full]) == Ruling((0,), panic=False)


def test_a_slow_backend_is_needed_where_the_rest_has_no_free_slot() -> None:
    out = eject(EjectionState(), 0.0, "slow", Random(1), slow=True)
    full = Member(EjectionState(), spare=0)
    assert rule([Member(out), full, full]).needed == (0,)
    assert rule([Member(out), full, Member(EjectionState(), spare=1)]).needed == ()
    assert rule([Member(out, gone=True), full, full, full]).needed == ()
    assert rule([Member(replace(out, slow=False)), full, full]).needed == ()
    back = needed(out, 9.0)
    assert (back.state, back.reason) == (State.SLOW_START, "is slow, and the rest of its pool has no free slot")
    half_open = elapse(out, out.until)
    assert half_open.slow
    assert needed(half_open, 50.0).state is State.SLOW_START
    for other in (replace(out, slow=False), failed(half_open, 50.0, "failed", Random(1)), back):
        assert needed(other, 60.0) is other


def test_one_that_was_away_is_needed_where_the_rest_has_no_free_slot_once_it_works() -> None:
    away = ejection.returned(EjectionState(), 10.0)
    full = Member(EjectionState(), spare=0)
    assert rule([Member(away, works=True), full, full]).needed == (0,)
    assert rule([Member(away), full, full]).needed == (), "it may hang"
    assert rule([Member(away, works=True), full, Member(EjectionState(), spare=1)]).needed == ()
    back = needed(ejection.answered(away, 11.0), 12.0)
    why = "could not be reached, and can be again, and the rest of its pool has no free slot"
    assert (back.state, back.until, back.reason) == (State.SLOW_START, 12.0 + WARM_UP, why)
    sick = elapse(failed(away, 11.0, "failed", RNG), 20.0)
    assert rule([Member(sick, works=True), full, full]).needed == (), "its trial failed"
    assert needed(sick, 21.0) is sick
    slow = failed(away, 11.0, "slow", RNG, slow=True)
    assert needed(slow, 12.0).state is State.SLOW_START


def test_a_slow_backend_returns_when_its_pool_has_been_full_for_two_seconds() -> None:
    peers = PoolState("gpu", 0.0)
    peers.follow(["gpu/a", "gpu/b"])
    slow, other = peers.members.values()
    slow.eject("slow", 0.0, Random(1))
    other.slots.limit = 1
    held = other.lease(10)
    for tick in range(1, 8):
        peers.tick(tick * 0.25, {}, Random(1))
        assert slow.outlier.ejection.out
    held.release()
    peers.tick(2.0, {}, Random(1))
    other.lease(10)
    for tick in range(9, 17):
        assert slow.outlier.ejection.out
        peers.tick(tick * 0.25, {}, Random(1))
    assert slow.outlier.ejection.state is State.SLOW_START
    assert slow.available(5.0)


def test_thresholds_say_how_long_an_ejection_lasts_and_counts() -> None:
    short = Thresholds(base_ejection_time=2.0, max_ejection_time=5.0)
    standing = EjectionState()
    for number, expected in enumerate((2.0, 4.0, 5.0, 5.0)):
        out = ejection.eject(replace(standing, ejections=number), 0.0, "why", RNG, by=short)
        assert expected * (1 - JITTER) <= out.until <= min(5.0, expected * (1 + JITTER))
    again = ejection.failed(ejection.elapse(out, 6.0, short), 6.0, "why", RNG, by=short)
    assert 6.0 + 5.0 * (1 - JITTER) <= again.until <= 11.0
    calm = EjectionState(since=0.0, ejections=2)
    assert ejection.elapse(calm, 4.9, short) is calm
    assert ejection.elapse(calm, 5.0, short).ejections == 1
    well = EjectionState()
    assert ejection.elapse(well, 5.0, short) is well


@pytest.mark.parametrize(("percent", "ejected"), [(0, 0), (24, 0), (25, 1), (49, 1), (50, 2)])
def test_thresholds_say_how_many_may_be_out(percent: int, ejected: int) -> None:
    sick, well = Member(EjectionState(), burning=True, guilty=True, reason="fails"), Member(EjectionState())
    few = Thresholds(max_ejection_percent=percent)
    assert few.most_out(4) == ejected
    assert rule([sick, sick, well, well], few) == Ruling(tuple(range(ejected)), panic=False)
    assert rule([sick, sick, sick, well], few).panic, "a panic is when half is in trouble, whatever may be out"


def test_a_pool_ejects_by_its_own_thresholds_from_its_next_reload_on() -> None:
    peers = PoolState("gpu", 0.0)
    names = ["gpu/a", "gpu/b", "gpu/c", "gpu/d"]
    peers.follow(names)
    first, second, third, _ = peers.members.values()

    def fails(health: Health, times: int) -> None:
        for _ in range(times):
            health.ended(health.lease(10), BAD, 1.0, RNG)

    fails(first, 4)
    assert not first.outlier.ejection.out
    strict = Thresholds(consecutive_failures=2, max_ejection_percent=25, base_ejection_time=100.0)
    peers.follow(names, thresholds=strict)
    fails(second, 2)
    assert second.outlier.ejection.out
    assert second.outlier.ejection.until > 80.0
    fails(third, 5)
    assert not third.outlier.ejection.out, "one of four may be out"
    peers.follow(names)
    assert second.outlier.ejection.out, "an ejection that runs keeps its end"
    fails(third, 1)
    assert third.outlier.ejection.out
