"""What routing believes of backends, moved by attempts and ticks as the data plane and the control plane move it."""

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.claim import Claim
from gateway.exchange import Verdict
from gateway.policy.routing.ejection import (
    LEAST_WEIGHT,
    PROBES,
    QUIET,
    SLOW_START,
    USUAL,
    Cause,
    EjectionState,
    State,
)
from gateway.policy.routing.health import Health
from gateway.policy.routing.latency_model import MOST_SAMPLES
from gateway.policy.routing.outlier import Signal
from gateway.policy.routing.pool_state import PoolState

RNG = Random(1)


def pool(count: int = 4) -> tuple[PoolState, list[Health]]:
    peers = PoolState("gpu", 0.0)
    peers.follow(f"gpu/{number}" for number in range(count))
    return peers, list(peers.members.values())


def attempt(
    health: Health, now: float, verdict: Verdict = Verdict.GOOD, *, ttft: float = 0.05, met: bool = True
) -> None:
    lease = health.lease(100)
    if verdict is Verdict.GOOD:
        health.began(lease, ttft)
    lease.release()
    health.ended(lease, verdict, now, RNG, tpot=0.02 * ttft / 0.05, met=met)


def test_a_lease_gives_back_what_it_took_once() -> None:
    _, (health, *_) = pool()
    first, second = health.lease(100), health.lease(50)
    assert (second.tokens, second.in_flight) == (150, 1)
    assert (health.slots.in_flight, health.latency.prefilling) == (2, 150)
    first.prefilled()
    first.prefilled()
    assert health.latency.prefilling == 50
    for lease in (first, second, first, second):
        lease.release()
        lease.prefilled()
    assert (health.slots.in_flight, health.latency.prefilling) == (0, 0)
    assert repr(health) == "<Health gpu/0 in_service weight 1.00 0 in flight>"


ends = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(Verdict), st.booleans()), max_size=60)


@given(ends)
def test_counters_come_back_to_zero_and_no_more_than_half_is_ever_out(
    rows: Sequence[tuple[int, Verdict, bool]],
) -> None:
    peers, healths = pool()
    now = 0.0
    for index, verdict, later in rows:
        attempt(healths[index], now, verdict)
        assert sum(health.outlier.ejection.out for health in healths) <= 2
        if later:
            now += 10.0
            peers.tick(now, {}, RNG)
            assert all(LEAST_WEIGHT <= health.outlier.weight <= 1.0 for health in healths)
    assert all(
        (health.slots.in_flight, health.latency.prefilling, health.outlier.probing) == (0, 0, False)
        for health in healths
    )
    for transition in peers.take_transitions():
        assert (transition.cause is not None) == (transition.after.state is State.EJECTED)
    assert peers.take_transitions() == []


def test_five_failures_in_a_row_eject_at_once_and_a_good_answer_forgives() -> None:
    peers, (health, *_) = pool()
    for number in range(3 * USUAL.consecutive_failures):
        attempt(health, 1.0, Verdict.GOOD if number % USUAL.consecutive_failures == 4 else Verdict.BAD)
    assert not health.outlier.ejection.out
    for _ in range(USUAL.consecutive_failures):
        attempt(health, 2.0, Verdict.BAD)
    assert health.outlier.ejection.reason == "5 failures in a row"
    assert [each.cause for each in peers.take_transitions()] == [Cause.FAILURES]
    attempt(health, 2.5, Verdict.BAD)
    assert peers.take_transitions() == []


def test_the_last_half_stays_whatever_fails() -> None:
    _, healths = pool()
    for health in healths:
        for _ in range(USUAL.consecutive_failures):
            attempt(health, 1.0, Verdict.BAD)
    assert [health.outlier.ejection.out for health in healths] == [True, True, False, False]
    _, (alone,) = pool(1)
    for _ in range(20):
        attempt(alone, 1.0, Verdict.BAD)
    assert not alone.outlier.ejection.out


def ejected() -> tuple[PoolState, Health]:
    peers, healths = pool()
    for health in healths[1:]:
        for _ in range(20):
            attempt(health, 1.0)
    for _ in range(USUAL.consecutive_failures):
        attempt(healths[0], 1.0, Verdict.BAD)
    peers.tick(40.0, {}, RNG)
    assert healths[0].outlier.ejection.state is State.HALF_OPEN
    peers.take_transitions()
    return peers, healths[0]


def test_three_good_probes_bring_it_back_slowly() -> None:
    peers, health = ejected()
    for _ in range(PROBES):
        attempt(health, 41.0)
    assert health.outlier.ejection.state is State.SLOW_START
    assert health.outlier.weight == LEAST_WEIGHT
    peers.tick(71.0, {}, RNG)
    assert health.outlier.weight == 0.5
    peers.tick(102.0, {}, RNG)
    assert (health.outlier.weight, health.outlier.ejection.state) == (1.0, State.IN_SERVICE)


@pytest.mark.parametrize(("verdict", "ttft"), [(Verdict.BAD, 0.05), (Verdict.GOOD, 5.0)], ids=["failed", "slow"])
def test_a_bad_probe_sends_it_out_again(verdict: Verdict, ttft: float) -> None:
    peers, health = ejected()
    attempt(health, 41.0, verdict, ttft=ttft)
    assert health.outlier.ejection.state is State.EJECTED
    assert [each.cause for each in peers.take_transitions()] == [Cause.PROBE]
    assert not health.outlier.probing


def test_a_probe_that_says_nothing_leaves_the_way_open() -> None:
    _, health = ejected()
    attempt(health, 41.0, Verdict.UNCOUNTED)
    assert health.wants_probe


def test_whoever_comes_back_is_tried_first_and_the_last_half_never() -> None:
    for count, tried in ((1, 0), (2, 1), (3, 1), (4, 2)):
        peers, healths = pool(count)
        for health in healths:
            attempt(health, 0.0)
        everybody = [health.id for health in healths]
        peers.tick(1.0, dict.fromkeys(everybody, Signal(gone=True)), RNG)
        peers.tick(2.0, dict.fromkeys(everybody, Signal()), RNG)
        assert sum(health.outlier.ejection.state is State.HALF_OPEN for health in healths) == tried
    returned = next(health for health in healths if health.outlier.ejection.out)
    for _ in range(PROBES):
        attempt(returned, 3.0)
    assert returned.outlier.ejection.state is State.SLOW_START
    assert not any(transition.cause for transition in peers.take_transitions())


def down_and_up(peers: PoolState, *healths: Health, now: float) -> None:
    """Let probes find that these cannot be reached, and then that they can."""
    peers.tick(now, {health.id: Signal(gone=True) for health in healths}, RNG)
    peers.tick(now + 1, {health.id: Signal() for health in healths}, RNG)


def test_engines_that_come_up_after_the_gateway_start_in_service() -> None:
    peers, healths = pool(2)
    peers.tick(1.0, {health.id: Signal(gone=True) for health in healths}, RNG)
    peers.tick(2.0, {healths[0].id: Signal()}, RNG)
    peers.tick(3.0, {healths[1].id: Signal()}, RNG)
    assert [health.outlier.ejection.state for health in healths] == [State.IN_SERVICE] * 2
    assert not peers.take_transitions()


def test_one_that_comes_up_beside_others_at_work_gets_its_share_slowly() -> None:
    peers, (new, *others) = pool(4)
    for health in others:
        attempt(health, 9.0)
    down_and_up(peers, new, now=9.0)
    assert (new.outlier.ejection.state, new.outlier.weight) == (State.SLOW_START, LEAST_WEIGHT)
    peers.tick(15.0, {}, RNG)
    assert new.outlier.ejection.state is State.IN_SERVICE


def test_one_that_was_ejected_before_it_ever_worked_is_tried_by_single_requests() -> None:
    peers, (sick, *_) = pool(4)
    sick.outlier.ejection = EjectionState(ejections=1)
    down_and_up(peers, sick, now=9.0)
    assert sick.outlier.ejection.state is State.HALF_OPEN


def test_without_requests_a_half_open_one_returns_by_time() -> None:
    peers, health = ejected()
    peers.tick(40.0 + QUIET - 1, {}, RNG)
    assert health.outlier.ejection.state is State.HALF_OPEN
    peers.tick(40.0 + QUIET, {}, RNG)
    assert (health.outlier.ejection.state, health.outlier.weight) == (State.SLOW_START, LEAST_WEIGHT)
    peers.tick(40.0 + QUIET + SLOW_START, {}, RNG)
    assert health.outlier.weight == LEAST_WEIGHT, "while nothing comes its share does not grow"
    (peer, *_) = (each for each in peers.members.values() if each is not health)
    for second in range(int(SLOW_START) + 1):
        attempt(peer, 161.0 + second)
        peers.tick(161.0 + second, {}, RNG)
    assert (health.outlier.ejection.state, health.outlier.weight) == (State.IN_SERVICE, 1.0)
    assert health.outlier.ejection.ejections == 1, "if it is sick still, it goes for longer"


@pytest.mark.parametrize(
    "signal",
    [Signal(gone=True), Signal(failing="availability burns"), Signal(slow="ttft burns")],
    ids=["not ready", "failing", "slow"],
)
def test_time_returns_no_half_open_one_of_which_probes_or_requests_say_no_good(signal: Signal) -> None:
    peers, health = ejected()
    peers.tick(95.0, {health.id: signal}, RNG)
    peers.tick(95.0 + QUIET - 1, {health.id: Signal()}, RNG)
    assert health.outlier.ejection.state is State.HALF_OPEN
    peers.tick(95.0 + QUIET, {}, RNG)
    assert health.outlier.ejection.state is State.SLOW_START


def test_time_returns_no_half_open_one_that_is_at_work() -> None:
    peers, health = ejected()
    lease = health.lease(100)
    peers.tick(40.0 + 2 * QUIET, {}, RNG)
    assert health.outlier.ejection.state is State.HALF_OPEN
    lease.release()
    health.ended(lease, Verdict.UNCOUNTED, 161.0, RNG)
    peers.tick(40.0 + 3 * QUIET, {}, RNG)
    assert health.outlier.ejection.state is State.SLOW_START


def test_a_burn_ejects_for_failing_at_once_and_for_slowness_only_who_stands_out() -> None:
    peers, healths = pool()
    for health in healths:
        for _ in range(30):
            attempt(health, 1.0, ttft=0.25 if health is healths[1] else 0.05)
    failing, slow = Signal(burn=20.0, failing="availability burns"), Signal(burn=20.0, slow="ttft")
    peers.tick(2.0, {healths[0].id: failing, healths[1].id: slow}, RNG)
    assert [health.outlier.ejection.out for health in healths] == [True, True, False, False]
    assert healths[0].outlier.ejection.reason == "availability burns"
    assert healths[1].outlier.ejection.reason.startswith("ttft: ")
    assert healths[1].residual_ratio is not None
    assert healths[1].residual_ratio > 2


def test_a_workload_that_burns_everyone_ejects_nobody() -> None:
    peers, healths = pool()
    for health in healths:
        for _ in range(30):
            attempt(health, 1.0, ttft=3.0, met=False)
    peers.tick(2.0, {health.id: Signal(burn=50.0, slow="ttft burns") for health in healths}, RNG)
    assert not any(health.outlier.ejection.out for health in healths)
    assert peers.panic
    assert repr(peers) == "<PoolState gpu 4 backends 0 out in panic>"
    assert all(health.outlier.weight == LEAST_WEIGHT for health in healths)
    peers.tick(3.0, {health.id: Signal(burn=50.0, slow="ttft burns") for health in healths[:1]}, RNG)
    assert healths[0].sickness is None
    assert not healths[0].outlier.ejection.out


def test_an_answer_that_was_no_stream_teaches_nothing_about_speed() -> None:
    peers, (health, *_) = pool()
    lease = health.lease(100)
    lease.release()
    health.ended(lease, Verdict.GOOD, 1.0, RNG)
    peers.tick(0.0, {}, RNG)
    assert (
        health.symptoms.residual.failing.seen,
        health.symptoms.residual.tpot.weight,
        health.symptoms.residual.ttft.weight,
    ) == (1.0, 0.0, 0.0)


def test_a_busy_backend_is_learnt_from_by_samples() -> None:
    peers, (health, *_) = pool()
    most = peers.latency.samples
    assert most * len(peers.members) <= MOST_SAMPLES
    for _ in range(3 * most):
        attempt(health, 0.1)
    peers.tick(0.0, {}, RNG)
    assert health.latency.ttft.samples == health.symptoms.residual.late.seen == most
    assert health.symptoms.residual.failing.seen == 3 * most


def test_patience_is_granted_and_bounded() -> None:
    _, (health, *_) = pool()
    health.refused(0.0, 5.0, busy=False)
    assert not health.available(4.9)
    assert health.available(5.0)
    health.refused(0.0, 10_000.0, busy=False)
    assert health.available(31.0)
    assert health.takes(Claim(), 0.0), "what is merely sick is asked where nobody else serves"


def test_one_that_names_no_time_is_left_alone_ever_longer_until_it_works() -> None:
    _, (health, *_) = pool()
    pauses, now = [], 100.0
    for _ in range(7):
        health.refused(now, None, busy=True)
        health.refused(now + 0.1, None, busy=True)  # sent before the first was known
        pauses.append(round(health.backoff.hold_until - now - 0.1, 6))
        now = health.backoff.hold_until
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    health.activity.answered(now, 1.0)
    health.refused(now, None, busy=True)
    assert health.backoff.hold_until == now + 0.25
    assert "1 refusals" in repr(health.activity)


def test_one_at_capacity_takes_another_for_each_that_ends() -> None:
    _, (health, *_) = pool()
    leases = [health.lease(10) for _ in range(4)]
    health.refused(0.0, 30.0, busy=True)
    leases.pop().release()
    assert not health.takes(Claim(), 0.1), "it was busy beside three"
    leases.pop().release()
    assert health.takes(Claim(), 0.1)
    health.refused(0.1, None, busy=True)
    assert health.backoff.room == 1, "the fewest count"
    assert health.takes(Claim(), 0.5), "it is asked again after the gateway's own pause"
    assert not health.available(29.0), "but others are preferred to it for as long as it asked for"


def test_what_an_idle_one_refuses_says_nothing_of_others() -> None:
    _, (health, *_) = pool()
    health.lease(10)
    health.refused(0.0, 30.0, busy=True, alone=True)
    assert health.takes(Claim(), 0.0)
    assert health.takes_again(Claim(), 0.0)
    assert (health.slots.evidence.saturated, health.available(0.0), health.available(30.0)) == (False, False, True)


def test_one_that_works_shows_it_by_answers_of_its_usual_length() -> None:
    _, (health, *_) = pool()
    assert not health.activity.works(0.0), "nothing was ever seen of it"
    attempt(health, 100.0)
    assert health.activity.works(110.0)
    assert not health.activity.works(111.0)
    for _ in range(100):
        health.activity.answered(200.0, 30.0)
    assert health.activity.works(255.0)
    assert not health.activity.works(261.0)


def test_those_that_stay_keep_what_is_known_of_them() -> None:
    peers, healths = pool(2)
    healths[0].outlier.ejection = EjectionState(State.EJECTED)
    peers.follow(["gpu/0", "gpu/9"])
    assert peers.members["gpu/0"] is healths[0]
    assert list(peers.members) == ["gpu/0", "gpu/9"]
    assert USUAL.min_requests == 10


def test_a_lower_limit_is_judged_by_what_it_let_in() -> None:
    _, (health, *_) = pool()
    health.slots.limit_to(10)
    before = health.lease(10)
    health.slots.limit_to(5)
    after = health.lease(10)
    health.slots.evidence.judged(before.era, late=True)
    health.slots.evidence.judged(after.era, late=True)
    health.slots.evidence.judged(after.era, late=False)
    for request in ("one", "another"):
        health.refused(0.0, None, busy=True, request=request)
    assert (
        health.slots.evidence.begun,
        health.slots.evidence.late,
        health.slots.evidence.saturated,
        health.slots.evidence.borne,
    ) == (2, 1, True, 1)
    health.slots.looked_at()
    assert (
        health.slots.evidence.begun,
        health.slots.evidence.late,
        health.slots.evidence.saturated,
        health.slots.evidence.peak,
    ) == (0, 0, False, 2)
    health.slots.limit_to(8)
    health.slots.evidence.judged(after.era, late=False)
    assert health.slots.evidence.begun == 1, "a higher limit lets the same in"
