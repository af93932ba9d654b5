"""A rollout goes forward when it may, back when it must, and stays where it is otherwise; and it always says why."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.canary.plan import OnStall, Plan
from gateway.policy.canary.rollout import (
    BY_PEOPLE,
    MIRRORING,
    TRANSITIONS,
    Decision,
    Event,
    Phase,
    Refused,
    Rollout,
    Seen,
    decide,
    may_resume,
    may_start,
    move,
    resumed,
)

PLAN = Plan("v1", "v2", hold=60.0, min_requests=100, max_hold=600.0)
STEP = Rollout(Phase.STEP, 1, 1000.0, 900.0)
FINE = Seen(requests=100, bounds={"ttft": 0.01})

plans = st.builds(
    Plan,
    stable=st.just("v1"),
    candidate=st.just("v2"),
    steps=st.sampled_from([(1.0, 5.0, 25.0, 50.0, 100.0), (10.0,), (50.0, 100.0)]),
    on_stall=st.sampled_from(OnStall),
    mirror=st.sampled_from([0.0, 10.0]),
    manual=st.booleans(),
)
seens = st.builds(
    Seen,
    unready=st.sampled_from([0.0, 1.0, 31.0]),
    worse=st.sampled_from(["", "worse"]),
    guard=st.sampled_from(["", "burns"]),
    requests=st.integers(0, 400),
    bounds=st.dictionaries(st.sampled_from(["ttft", "availability"]), st.floats(-0.1, 0.1)),
    budget_left=st.none() | st.floats(-1, 1),
)


def moved(plan: Plan, rollout: Rollout, seen: Seen, now: float) -> Rollout:
    decision = decide(plan, rollout, seen, now)
    if decision.event is None:
        return rollout
    return move(rollout, decision.event, now, actor="tidegate", reason=decision.reason, step=decision.step)


@given(plans, st.lists(st.tuples(seens, st.floats(0, 5000), st.none() | st.sampled_from(sorted(BY_PEOPLE)))))
def test_a_rollout_never_skips_a_step_nor_serves_what_is_worse(
    plan: Plan, story: list[tuple[Seen, float, Event | None]]
) -> None:
    rollout, now = Rollout(), 0.0
    for seen, seconds, asked in story:
        now += seconds
        before = rollout
        if asked is not None:
            try:
                rollout = move(rollout, asked, now, actor="ann", reason="asked")
            except Refused:
                assert (before.phase, asked) not in TRANSITIONS
        else:
            rollout = moved(plan, rollout, seen, now)
        assert 0 <= rollout.weight(plan) <= 100
        assert rollout.reason
        if asked is None and rollout is not before:
            check(plan, before, rollout, seen)


def check(plan: Plan, before: Rollout, after: Rollout, seen: Seen) -> None:
    """What must hold of a move that the gateway made by itself."""
    if after.phase is Phase.STEP and before.phase is Phase.STEP:
        assert after.step == before.step + 1
    if before.is_live and (seen.worse or seen.guard or seen.unready > 30):
        assert after.phase is Phase.ROLLED_BACK
        assert after.weight(plan) == 0
    if after.weight(plan) > before.weight(plan):
        assert before.phase is Phase.WAITING or (seen.worse, seen.guard) == ("", "")
        enough = seen.requests >= plan.min_requests and all(bound < plan.margin for bound in seen.bounds.values())
        assert enough or before.phase is Phase.WAITING or plan.on_stall is OnStall.PROMOTE


@given(plans)
def test_a_good_candidate_walks_every_step_and_is_promoted(plan: Plan) -> None:
    plan = replace(plan, manual=False)
    rollout, now, weights = Rollout(), 0.0, []
    while rollout.phase is not Phase.PROMOTED:
        now += plan.hold
        rollout = moved(plan, rollout, Seen(requests=plan.min_requests), now)
        if rollout.mirrored(plan):
            assert not weights
        elif rollout.phase is Phase.STEP:
            weights.append(rollout.weight(plan))
    assert weights == list(plan.steps)
    assert rollout.weight(plan) == 100


@pytest.mark.parametrize(
    ("seen", "now", "decision"),
    [
        (FINE, 1059.0, Decision(None, "held for 59 s of 60 s")),
        (FINE, 1060.0, Decision(Event.ADVANCE, "held for 60 s, 100 requests, no SLI is worse", 2)),
        (replace(FINE, requests=99), 1060.0, Decision(None, "99 requests of `min_requests` 100")),
        (
            replace(FINE, bounds={"ttft": 0.025}),
            1060.0,
            Decision(None, "ttft may still miss 2.50 percentage points more often than stable's (`margin` 2)"),
        ),
        (
            replace(FINE, requests=9),
            1600.0,
            Decision(
                Event.PAUSE,
                "9 requests of `min_requests` 100, for 600 s (`max_hold` 600 s, `on_stall: pause`)",
            ),
        ),
        (replace(FINE, worse="it is worse"), 1001.0, Decision(Event.ROLLBACK, "it is worse")),
        (replace(FINE, guard="it burns"), 1001.0, Decision(Event.ROLLBACK, "it burns")),
        (
            replace(FINE, unready=31.0),
            1001.0,
            Decision(Event.ROLLBACK, "no backend of v2 has been ready for 31 s"),
        ),
        (
            replace(FINE, budget_left=0.049),
            1060.0,
            Decision(Event.PAUSE, "4.9 % of the error budget is left, below 5 % (`pause_below`)"),
        ),
        (
            replace(FINE, budget_left=0.051),
            1060.0,
            Decision(Event.ADVANCE, "held for 60 s, 100 requests, no SLI is worse", 2),
        ),
    ],
)
def test_what_is_decided_in_a_step_and_in_what_words(seen: Seen, now: float, decision: Decision) -> None:
    assert decide(PLAN, STEP, seen, now) == decision


@pytest.mark.parametrize(
    ("on_stall", "event"),
    [(OnStall.PROMOTE, Event.ADVANCE), (OnStall.ROLLBACK, Event.ROLLBACK), (OnStall.PAUSE, Event.PAUSE)],
)
def test_a_step_that_stalls_does_what_the_route_says(on_stall: OnStall, event: Event) -> None:
    assert decide(replace(PLAN, on_stall=on_stall), STEP, Seen(), 9999.0).event is event


def test_a_rollout_does_not_start_on_a_spent_budget_and_says_so() -> None:
    spent = Seen(budget_left=0.071)
    for rollout in (Rollout(), Rollout(Phase.WAITING)):
        decision = decide(PLAN, rollout, spent, 0.0)
        assert decision.event is None
        assert decision.reason.startswith("7.1 % of the error budget is left, and no rollout starts below 10 %")
    assert may_start(PLAN, None) == ""
    assert may_start(PLAN, 0.1) == ""
    assert may_resume(PLAN, None) == may_resume(PLAN, 0.05) == ""
    assert may_resume(PLAN, 0.049).startswith("4.9 % of the error budget is left, and no rollout goes on below 5 %")


def test_a_candidate_waits_until_it_is_ready_and_for_a_person_where_the_route_says_so() -> None:
    assert decide(PLAN, Rollout(), Seen(), 0.0) == Decision(Event.START, "v2 is new")
    assert decide(replace(PLAN, manual=True), Rollout(), Seen(), 0.0).event is None
    assert decide(PLAN, Rollout(Phase.WAITING), Seen(unready=0.1), 0.0) == Decision(None, "no backend of v2 is ready")
    assert decide(PLAN, Rollout(Phase.WAITING), Seen(), 0.0) == Decision(Event.READY, "v2 is ready", 0)
    mirroring = replace(PLAN, mirror=10.0)
    assert decide(mirroring, Rollout(Phase.WAITING), Seen(), 0.0).step == MIRRORING


def test_a_paused_rollout_keeps_its_share_and_still_rolls_back() -> None:
    paused = move(STEP, Event.PAUSE, 1010.0, actor="ann", reason="lunch")
    assert (paused.weight(PLAN), paused.step, paused.started) == (5.0, 1, 900.0)
    assert decide(PLAN, paused, FINE, 9999.0) == Decision(None, "lunch")
    assert decide(PLAN, paused, replace(FINE, worse="bad"), 9999.0).event is Event.ROLLBACK
    back = move(paused, Event.RESUME, 1020.0, actor="ann", reason="on")
    assert (back.phase, back.step, back.since) == (Phase.STEP, 1, 1020.0)


@pytest.mark.parametrize("phase", [Phase.PROMOTED, Phase.ROLLED_BACK])
def test_what_is_over_stays_so_by_itself(phase: Phase) -> None:
    over = Rollout(phase, 2, reason="because")
    assert decide(PLAN, over, replace(FINE, worse="bad"), 1e9) == Decision(None, "because")


def test_what_makes_no_sense_is_refused_in_words() -> None:
    with pytest.raises(Refused, match="cannot resume a rollout that is rolled back; what it can: start"):
        move(Rollout(Phase.ROLLED_BACK), Event.RESUME, 0.0, actor="ann", reason="")
    with pytest.raises(Refused, match="in progress; what it can: pause, promote, rollback"):
        move(STEP, Event.START, 0.0, actor="ann", reason="")
    restarted = move(Rollout(Phase.ROLLED_BACK, 3), Event.START, 50.0, actor="ann", reason="fixed")
    assert (restarted.phase, restarted.step, restarted.started) == (Phase.WAITING, 0, 50.0)


@pytest.mark.parametrize(("weight", "step"), [(5.0, 0), (25.0, 1), (1.0, 0), (100.0, 2)])
def test_other_steps_begin_at_the_share_that_it_had(weight: float, step: int) -> None:
    plan = replace(PLAN, steps=(5.0, 20.0, 100.0))
    assert resumed(plan, STEP, weight).step == step
    assert resumed(plan, Rollout(Phase.STEP, MIRRORING), weight).step == MIRRORING
    assert resumed(plan, Rollout(Phase.ROLLED_BACK, 4), weight).step == 4
