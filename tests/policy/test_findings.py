"""What one gateway finds about a backend by its answers, and what others make of it."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import BAD, Fault, Verdict
from gateway.policy.routing import ejection
from gateway.policy.routing.ejection import (
    JITTER,
    PROBES,
    QUIET,
    SLOW_START,
    TURN,
    USUAL,
    Cause,
    EjectionState,
    Finding,
    State,
    Thresholds,
    Transition,
)
from gateway.policy.routing.health import Health
from gateway.policy.routing.outlier import Signal
from gateway.policy.routing.pool_state import PoolState

RNG = Random(1)
ROW = Finding(40.0, "5 failures in a row", since=9.0, in_row=True)
BURN = Finding(40.0, "availability burns", share=0.4)
SLOW = Finding(40.0, "ttft burns", slow=True)


def pool(count: int = 4, thresholds: Thresholds = USUAL) -> tuple[PoolState, list[Health]]:
    peers = PoolState("gpu", 0.0)
    peers.follow((f"gpu/{number}" for number in range(count)), thresholds=thresholds)
    return peers, list(peers.members.values())


def attempt(health: Health, now: float, verdict: Verdict = Verdict.GOOD, fault: Fault = Fault.ANSWER) -> None:
    lease = health.lease(100, now=now - 0.5)
    lease.release()
    health.ended(lease, verdict, now, RNG, fault=fault)


def tell(health: Health, finding: Finding, now: float, rng: Random = RNG) -> None:
    peers = health.peers
    assert isinstance(peers, PoolState)
    peers.told(health.id, finding, now, rng)


def fail(health: Health, *faults: Fault, at: float = 10.0) -> Transition:
    for number, fault in enumerate(faults):
        attempt(health, at + number / 10, BAD, fault)
    (transition,) = health.peers.take_transitions()
    return transition


@given(st.lists(st.sampled_from(Fault), min_size=5, max_size=5), st.booleans())
def test_a_row_of_failures_concerns_others_only_if_all_of_it_was_answers(faults: list[Fault], works: bool) -> None:
    _, (first, *_) = pool()
    if works:
        first.activity.worked(10.05)
    finding = fail(first, *faults).finding
    broke_off = faults[-1] is Fault.BREAK
    assert (finding is None) == (Fault.SILENCE in faults or (broke_off and not works))
    if finding is not None:
        assert (finding.since, finding.in_row, finding.slow) == (10.0, True, False)
        assert finding.until == first.outlier.ejection.until


def test_silence_before_a_good_answer_is_not_held_against_what_follows() -> None:
    _, (first, *_) = pool()
    attempt(first, 1.0, BAD, Fault.SILENCE)
    attempt(first, 2.0)
    assert fail(first, *[Fault.ANSWER] * 5).finding is not None


@pytest.mark.parametrize(("silent", "told"), [(0, True), (1, True), (2, False), (10, False)])
def test_a_burn_concerns_others_if_its_failures_were_answers_but_for_one_of_ten(silent: int, told: bool) -> None:
    peers, (first, *_) = pool()
    for number in range(10):
        attempt(first, 10.0, BAD, Fault.SILENCE if number < silent else Fault.ANSWER)
        attempt(first, 10.0)
    peers.tick(10.0, {first.id: Signal(burn=50.0, failing="availability burns")}, RNG)
    (transition,) = peers.take_transitions()
    assert transition.cause is Cause.BURN
    assert (transition.finding is not None) is told
    if transition.finding is not None:
        assert transition.finding.share == pytest.approx(0.5)


@pytest.mark.parametrize(("fault", "told"), [(Fault.ANSWER, True), (Fault.BREAK, True), (Fault.SILENCE, False)])
def test_a_trial_that_failed_concerns_others_unless_nothing_came(fault: Fault, told: bool) -> None:
    _, (first, *_) = pool()
    first.outlier.restore(EjectionState(State.HALF_OPEN, 0.0, 60.0, 1))
    transition = fail(first, fault, at=12.0)
    assert transition.cause is Cause.PROBE
    assert (transition.finding is not None) is told
    assert transition.finding is None or transition.finding.since == 11.5, "when the trial was sent"


@pytest.mark.parametrize("finding", [ROW, BURN, SLOW])
def test_what_another_found_is_out_here_within_a_tick_and_a_little_longer_than_there(finding: Finding) -> None:
    peers, (first, *_) = pool()
    tell(first, finding, 10.0, RNG)
    assert not first.outlier.ejection.out, "the rules for the whole pool come first"
    peers.tick(10.25, {}, RNG)
    standing = first.outlier.ejection
    assert (standing.state, standing.since, standing.ejections) == (State.EJECTED, 10.25, 1)
    assert finding.until + TURN <= standing.until <= finding.until + 2 * TURN
    assert standing.reason == f"another gateway found: {finding.reason}"
    (transition,) = peers.take_transitions()
    assert (transition.cause, transition.finding) == (Cause.PEER, None), "it is not told again as this one's own"
    assert first.symptoms.finding is None


def test_the_one_that_found_it_tries_it_first_and_its_failed_trials_keep_it_out_everywhere() -> None:
    peers, (first, *_) = pool()
    tell(first, ROW, 10.0, RNG)
    peers.tick(10.0, {}, RNG)
    before = first.outlier.ejection.until
    tell(first, Finding(before + 30.0, "a request that tried it failed", since=before - 1, in_row=True), before, RNG)
    assert first.outlier.ejection.until >= before + 30.0 + TURN
    peers.tick(first.outlier.ejection.until, {}, RNG)
    half_open = first.outlier.ejection
    assert (half_open.state, half_open.by_peer) == (State.HALF_OPEN, True)
    tell(first, Finding(half_open.since + 30.0, "again", since=half_open.since, in_row=True), half_open.since + 1, RNG)
    out = first.outlier.ejection
    assert (out.state, out.ejections) == (State.EJECTED, 1), "it is the same trouble"


def test_one_that_this_gateway_ejected_itself_is_its_own_to_try() -> None:
    _, (first, *_) = pool()
    fail(first, *[Fault.SILENCE] * 5)
    before = first.outlier.ejection
    tell(first, Finding(200.0, "worse", since=9.0, in_row=True), 11.0, RNG)
    assert first.outlier.ejection is before


def test_good_answers_to_later_requests_speak_against_failures_in_a_row() -> None:
    peers, (first, second, *_) = pool()
    attempt(first, 9.0)
    attempt(second, 10.0)
    for each in (first, second):
        tell(each, ROW, 10.5, RNG)
    peers.tick(10.5, {}, RNG)
    assert first.outlier.ejection.out, "it answered well before they began"
    assert not second.outlier.ejection.out, "requests of one tenant may fail, and all others not"


def test_a_share_of_failures_is_believed_where_little_is_known_or_as_much_fails() -> None:
    peers, (well, failing, idle, _) = pool()
    for number in range(40):
        attempt(well, 10.0)
        attempt(failing, 10.0, BAD if number % 5 == 0 else Verdict.GOOD)
    for each in (well, failing, idle):
        tell(each, BURN, 10.0, RNG)
    peers.tick(10.0, {}, RNG)
    assert [each.outlier.ejection.out for each in (well, failing, idle)] == [False, True, True]
    assert well.symptoms.finding is not None, "it may come to fail here too"
    peers.tick(40.0, {}, RNG)
    assert well.symptoms.finding is None, "it is over"


def test_one_that_is_slow_elsewhere_stays_where_it_is_known_to_be_quick() -> None:
    peers, (quick, idle, *_) = pool()
    for _ in range(20):
        quick.symptoms.residual.ttft.add(1.0)
    for each in (quick, idle):
        tell(each, SLOW, 10.0, RNG)
    peers.tick(10.0, {}, RNG)
    assert [each.outlier.ejection.out for each in (quick, idle)] == [False, True]
    assert idle.outlier.ejection.slow


def test_one_that_is_slow_elsewhere_stays_where_the_rest_could_not_take_over_its_load() -> None:
    peers, (first, second, *_) = pool(2)
    second.slots.limit_to(1)
    leases = [first.lease(10), first.lease(10)]
    tell(first, SLOW, 10.0, RNG)
    peers.tick(10.0, {}, RNG)
    assert not first.outlier.ejection.out
    for lease in leases:
        lease.release()
    peers.tick(10.25, {}, RNG)
    assert first.outlier.ejection.out


def test_a_finding_of_long_ago_changes_nothing() -> None:
    peers, (first, *_) = pool()
    tell(first, Finding(9.9, "long ago"), 10.0, RNG)
    peers.tick(10.0, {}, RNG)
    assert first.outlier.ejection == EjectionState()


@pytest.mark.parametrize("finding", [replace(each, since=20.0, until=90.0) for each in (ROW, BURN, SLOW)])
@pytest.mark.parametrize(("back", "told"), [(30.0, False), (24.0, True)])
def test_what_was_found_before_a_backend_was_away_is_over(finding: Finding, back: float, told: bool) -> None:
    peers, (first, *_) = pool()
    attempt(first, 1.0)
    peers.tick(21.0, {first.id: Signal(gone=True)}, RNG)
    peers.tick(back, {first.id: Signal()}, RNG)
    for number in range(3):
        attempt(first, 19.0 + number / 10)
    peers.take_transitions()
    first.outlier.restore(EjectionState())
    tell(first, finding, back + 5.0)
    peers.tick(back + 5.0, {first.id: Signal()}, RNG)
    assert first.outlier.ejection.out is told, "gateways see within seconds that it is back"


def test_a_finding_that_waits_for_room_ends_when_the_backend_comes_back() -> None:
    peers, (first, *_) = pool(1)
    tell(first, ROW, 10.0)
    peers.tick(10.0, {}, RNG)
    assert first.symptoms.finding is not None
    peers.tick(11.0, {first.id: Signal(gone=True)}, RNG)
    peers.tick(30.0, {first.id: Signal()}, RNG)
    assert first.symptoms.finding is None


def test_the_only_backend_of_a_pool_stays() -> None:
    peers, (only,) = pool(1)
    tell(only, ROW, 10.0, RNG)
    for number in range(20):
        peers.tick(10.0 + number / 4, {}, RNG)
        assert only.available(10.0 + number / 4)
        assert not peers.panic


def test_more_than_half_that_several_gateways_found_are_a_panic() -> None:
    peers, healths = pool(4)
    for each in healths:
        tell(each, ROW, 10.0, RNG)
    peers.tick(10.0, {}, RNG)
    assert peers.panic
    assert all(each.available(10.0) for each in healths)
    assert not any(each.outlier.ejection.out for each in healths)


Told = tuple[int, float, bool, bool]
tells = st.tuples(st.integers(0, 7), st.floats(-50.0, 1e6), st.booleans(), st.booleans())


@given(
    st.integers(1, 8),
    st.integers(0, 50),
    st.lists(st.one_of(tells, st.floats(0.0, 60.0)), max_size=60),
    st.integers(),
)
def test_whatever_others_find_the_bounds_of_a_pool_hold_and_all_come_back(
    count: int, percent: int, events: Sequence[Told | float], seed: int
) -> None:
    rng, now = Random(seed), 10.0
    thresholds = Thresholds(max_ejection_percent=percent)
    peers, healths = pool(count, thresholds)
    for event in events:
        if isinstance(event, float):
            now += event
        else:
            which, seconds, slow, in_row = event
            finding = Finding(now + seconds, "why", slow, since=now - 1.0, in_row=in_row)
            tell(healths[which % count], finding, now, rng)
        peers.tick(now, {}, rng)
        out = [each for each in healths if each.outlier.ejection.out]
        assert len(out) <= thresholds.most_out(count)
        assert len(out) < count
        for each in out:
            assert each.outlier.ejection.until <= now + max(thresholds.max_ejection_time, QUIET)
        assert any(each.available(now) for each in healths)
    longest = thresholds.max_ejection_time
    for _ in range(3):
        now += 1e6 + longest + QUIET + SLOW_START
        peers.tick(now, {}, rng)
    assert not any(each.outlier.ejection.out for each in healths)


@given(st.floats(0.0, 400.0), st.floats(0.0, 1e9), st.sampled_from(State), st.booleans(), st.integers())
def test_told_lasts_no_longer_than_ejections_do(
    now: float, left: float, state: State, by_peer: bool, seed: int
) -> None:
    standing = EjectionState(state, 0.0, now + 20.0, 2, by_peer=by_peer)
    after = ejection.told(standing, now, Finding(now + left, "why"), Random(seed))
    if standing.out and not by_peer:
        assert after is standing
        return
    assert (after.state, after.by_peer) == (State.EJECTED, True)
    assert after.until <= now + USUAL.max_ejection_time
    assert after.ejections == 2 + (not standing.out)
    trial = ejection.elapse(after, after.until)
    assert (trial.state, trial.by_peer) == (State.HALF_OPEN, True)
    failed = ejection.failed(trial, after.until, "failed here", Random(seed))
    assert not failed.by_peer, "now it is this gateway's own finding"
    assert failed.until - after.until <= USUAL.max_ejection_time * (1 + JITTER)
    for _ in range(PROBES):
        trial = ejection.answered(trial, after.until)
    assert trial.state is State.SLOW_START


steps = st.tuples(
    st.integers(0, 2), st.integers(0, 3), st.sampled_from(["good", *Fault]), st.sampled_from([0.0, 0.3, 20.0])
)


@given(st.lists(steps, max_size=200))
def test_what_gateways_tell_each_other_comes_from_what_they_saw_and_does_not_echo(
    happened: Sequence[tuple[int, int, str, float]],
) -> None:
    now, told, peer = 10.0, 0, 0
    pools = [pool(4) for _ in range(3)]

    def tick() -> None:
        nonlocal told, peer
        for peers, healths in pools:
            peers.tick(now, {}, RNG)
            assert sum(each.outlier.ejection.out for each in healths) <= 2
            for moved in peers.take_transitions():
                peer += moved.cause is Cause.PEER
                if moved.finding is not None:
                    told += 1
                    for other, _ in pools:
                        if other is not peers:
                            other.told(moved.backend, moved.finding, now, RNG)

    for which, backend, end, seconds in happened:
        health = pools[which][1][backend]
        if end == "good":
            attempt(health, now)
        else:
            attempt(health, now, BAD, Fault(end))
        now += seconds
        tick()
    assert peer <= 2 * told
    before = told
    for _ in range(int(USUAL.max_ejection_time) // 3):
        now += 12.0
        for _, healths in pools:
            for each in healths:
                if each.wants_probe:
                    attempt(each, now)
        tick()
    assert told == before, "good answers are no news"
    assert not any(each.outlier.ejection.out for _, healths in pools for each in healths)


def test_a_finding_that_has_ended_before_the_pool_rules_takes_nothing_out() -> None:
    peers, (first, *_) = pool()
    first.eject("", 10.0, RNG)
    assert first.outlier.ejection.state is State.IN_SERVICE
    assert peers.take_transitions() == []
