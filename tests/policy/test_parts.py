"""The parts of a backend, each on its own: slots, evidence for a limit, latency model, symptoms, what follows."""

from random import Random

from gateway.claim import Claim, SlotRules
from gateway.policy.routing.activity import Activity
from gateway.policy.routing.ejection import LEAST_WEIGHT, PROBES, Cause, EjectionState, State
from gateway.policy.routing.health import Health
from gateway.policy.routing.latency_model import FEWEST_SAMPLES, MOST_SAMPLES, LatencyModel, PoolLatency
from gateway.policy.routing.limit_evidence import UNLIMITED, LimitEvidence
from gateway.policy.routing.outlier import OutlierState, Signal, Symptoms
from gateway.policy.routing.pool_state import PoolState
from gateway.policy.routing.residual import Residual
from gateway.policy.routing.slots import Slots

RNG = Random(1)


class Rules(SlotRules):
    """Let through what is of the highest class, and remember who holds what."""

    @property
    def is_strict(self) -> bool:
        return True

    def __init__(self) -> None:
        self.held: list[Claim] = []

    def allows(self, claim: Claim, in_flight: int, limit: int) -> bool:
        return claim.priority == 0 and in_flight < limit

    def took(self, claim: Claim, now: float) -> None:
        self.held.append(claim)

    def released(self, claim: Claim) -> None:
        self.held.remove(claim)


def test_a_slot_goes_back_under_the_rules_that_it_was_taken_under() -> None:
    slots, rules, first, second = Slots(), Rules(), Claim(10), Claim(20)
    assert repr(slots) == "<Slots 0 of any number in use>"
    before = slots.take(first, 0.0)
    slots.rule_by(rules)
    slots.limit_to(3)
    after = slots.take(second, 1.0)
    assert (before, after, rules.held, slots.kv) == (None, rules, [second], 30)
    assert repr(slots) == "<Slots 2 of 3 in use>"
    assert slots.has_slot()
    assert not slots.has_slot(Claim(priority=1))
    assert not slots.give_back(first, before)
    assert slots.give_back(second, after)
    assert (rules.held, slots.kv, slots.in_flight, slots.evidence.peak) == ([], 0, 0, 2)


def test_a_limit_and_a_kv_capacity_are_bounds_until_they_are_lifted() -> None:
    slots = Slots()
    slots.limit_kv_to(15)
    slots.take(Claim(10), 0.0)
    assert not slots.fits(10)
    slots.limit_kv_to(None)
    assert slots.kv_capacity == UNLIMITED
    assert slots.fits(10)
    slots.limit_to(1)
    assert (slots.has_free, slots.spare) == (False, 0)
    slots.limit_to(4)
    assert (slots.has_free, slots.spare) == (True, 3)


def test_slots_are_bounded_in_requests_and_in_tokens() -> None:
    peers = PoolState("gpu", 0.0)
    health = Health("gpu/0", peers)
    health.slots.limit_to(2)
    health.slots.kv_capacity = 100
    assert health.slots.has_slot(Claim(1000)), "an empty backend takes any"
    first = health.lease(10, Claim(60))
    assert health.slots.has_slot(Claim(40))
    assert not health.slots.has_slot(Claim(41))
    second = health.lease(10, Claim(40))
    assert not health.slots.has_slot()
    assert (health.slots.evidence.peak, health.slots.kv) == (2, 100)
    first.release()
    first.release()
    assert (health.slots.kv, health.slots.in_flight) == (40, 1)
    second.release()
    assert (health.slots.kv, health.slots.in_flight) == (0, 0)


def test_only_what_was_let_in_under_a_limit_is_evidence_against_it() -> None:
    evidence = LimitEvidence()
    evidence.reached(3)
    evidence.reached(2)
    evidence.judged(0, late=True)
    evidence.judged(0, late=False)
    assert repr(evidence) == "<LimitEvidence at most 3, 1 of 2 late>"
    evidence.begin_era()
    evidence.judged(0, late=True)
    assert (evidence.begun, evidence.late) == (0, 0)
    evidence.clear(1)
    assert (evidence.peak, evidence.saturated) == (1, False)


def test_two_requests_say_how_many_are_too_many_unless_one_is_worked_on_beside_as_many() -> None:
    evidence = LimitEvidence()
    evidence.took(0, 9)
    evidence.refused("one", 9, 1.0)
    assert not evidence.saturated
    evidence.took(evidence.bearing.turn, 9)
    evidence.refused("another", 9, 1.0)
    assert not evidence.saturated, "the word of the first was refuted"
    evidence.refused("a third", 8, 1.0)
    evidence.refused("a fourth", 12, 1.0)
    assert (evidence.saturated, evidence.borne) == (True, 9)


def test_a_pools_samples_of_one_tick_are_shared_among_its_backends() -> None:
    pool = PoolLatency(5.0)
    assert (pool.is_known, pool.learnt_at, pool.samples) == (False, 5.0, MOST_SAMPLES)
    assert repr(pool).startswith("<PoolLatency ttft <Fit ")
    for backends, samples in ((0, MOST_SAMPLES), (4, MOST_SAMPLES // 4), (1000, FEWEST_SAMPLES)):
        pool.share_among(backends)
        assert pool.samples == samples


def test_work_ahead_makes_a_prediction_longer_until_its_first_token() -> None:
    model = LatencyModel(PoolLatency(0.0))
    idle = model.predicted(100, 0)
    model.sent(10_000)
    assert model.predicted(100, 0) > idle
    assert repr(model).endswith(", 10000 tokens to prefill>")
    model.prefilled(10_000)
    assert model.predicted(100, 0) == idle
    model.told(8.0, 0.0)
    model.learn(Residual(), 0.0)
    model.tick(0.0, 0.0)
    assert model.predicted(100, 0) > idle, "others wait in the engine"
    assert (model.reach, model.predicted_tpot(1)) == (0.0, 0.0)
    model.forget()
    assert model.ttft.samples == model.tpot.samples == 0.0


def test_symptoms_are_detected_and_nothing_follows_by_itself() -> None:
    symptoms = Symptoms()
    for _ in range(3):
        symptoms.failed()
    assert repr(symptoms) == "<Symptoms 3 failures in a row, burn 1.0>"
    symptoms.forgive()
    assert (symptoms.failures, symptoms.residual.failing.hits) == (0, 3.0)
    assert symptoms.failed_in_a_row == 3, "what followed from them is no answer"
    symptoms.renew()
    symptoms.failed(7.0)
    assert (symptoms.failed_in_a_row, symptoms.failed_at) == (4, 7.0)
    symptoms.answered()
    assert symptoms.failed_in_a_row == 0
    assert (symptoms.failures, symptoms.residual.failing.seen) == (0, 2.0)
    assert not symptoms.told(Signal(gone=True))
    assert symptoms.told(Signal(slow="ttft burns"))
    assert (symptoms.signal.burns, symptoms.guilt([]), symptoms.sickness([])) == (True, "", None)
    assert not symptoms.told(Signal(failing="availability burns", slow="ttft burns"))
    assert symptoms.guilt([]) == "availability burns"


def test_a_state_tells_its_transitions_and_a_probe_ends_it() -> None:
    state = OutlierState("gpu/0")
    assert state.elapse(1.0) is None
    moved = state.eject("5 failures in a row", 1.0, RNG, Cause.FAILURES)
    assert moved is not None
    assert (moved.backend, moved.before, moved.after, moved.cause) == (
        "gpu/0",
        State.IN_SERVICE,
        state.ejection,
        Cause.FAILURES,
    )
    assert not state.wants_probe
    state.elapse(state.ejection.until)
    assert state.wants_probe
    state.probe()
    assert not state.wants_probe
    state.probed()
    state.weigh(4.0, 50.0)
    for _ in range(PROBES):
        assert (state.ejection.state, state.weight) == (State.HALF_OPEN, 0.25)
        moved = state.probe_ended(50.0, RNG, good=True, slow=False)
    assert moved is not None
    assert repr(state) == f"<OutlierState slow_start weight {LEAST_WEIGHT:.2f}>"
    state.restore(EjectionState(State.EJECTED, reason="before a restart"))
    assert state.ejection.out


def test_activity_goes_forward_only() -> None:
    activity = Activity()
    activity.asked(1.0)
    for at in (3.0, 2.0):
        activity.worked(at)
    activity.woke(3.0)
    assert (activity.asked_at, activity.worked_at, activity.woke_at) == (1.0, 3.0, 3.0)


def test_what_works_is_asked_again_soon_after_it_refuses() -> None:
    activity = Activity()
    for _ in range(3):
        activity.backoff.refused(activity.backoff.hold_until, None, busy=True)
    assert repr(activity) == "<Activity at -inf, <Backoff until 1.8, 3 refusals in a row>>"
    activity.began(5.0, 0.1)
    activity.backoff.refused(5.0, None, busy=True, beside=2)
    assert activity.backoff.hold_until == 5.25
    assert activity.backoff.is_closed(2, 5.1)
    assert not activity.backoff.is_closed(1, 5.1)
