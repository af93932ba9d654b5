"""A rollout goes forward when it may, back when it must, and stays where it is otherwise; and it always says why."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.canary.forecast import SliEvidence, Traffic
from gateway.policy.canary.outlook import outlook
from gateway.policy.canary.plan import LADDER, OnStall, Plan
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
    may_stand_in,
    migrated,
    move,
    resume_blocker,
    start_blocker,
)

PLAN = Plan("v1", "v2", (1.0, 5.0, 25.0, 50.0, 95.0), hold=60.0, last_hold=60.0, min_requests=100, max_hold=600.0)
AUTO = Plan("v1", "v2")
STEP = Rollout(Phase.STEP, 1, 1000.0, 900.0, share=5.0)
TTFT = SliEvidence(0.01, (9900, 100), (990, 10), 0.01)
FINE = Seen(traffic=Traffic(10.0, {"ttft": TTFT}, 100))

plans = st.builds(
    Plan,
    stable=st.just("v1"),
    candidate=st.just("v2"),
    steps=st.sampled_from([(), (1.0, 5.0, 25.0, 50.0, 100.0), (10.0,), (50.0, 100.0)]),
    on_stall=st.sampled_from(OnStall),
    mirror=st.sampled_from([0.0, 10.0]),
    manual=st.booleans(),
)
standings = st.builds(
    SliEvidence,
    budget=st.sampled_from([0.001, 0.01]),
    stable=st.tuples(st.integers(0, 9999), st.integers(0, 99)),
    candidate=st.tuples(st.integers(0, 9999), st.integers(0, 99)),
    upper=st.none() | st.floats(-0.1, 0.1),
)
seens = st.builds(
    Seen,
    unready=st.sampled_from([0.0, 1.0, 31.0]),
    stable_ready=st.booleans(),
    worse=st.sampled_from([None, "worse"]),
    guard=st.sampled_from([None, "burns"]),
    failing=st.sampled_from([None, "all failed"]),
    doubt=st.sampled_from([None, "odd"]),
    traffic=st.builds(
        Traffic,
        rate=st.sampled_from([0.0, 0.05, 12.0]),
        slis=st.dictionaries(st.sampled_from(["ttft", "availability"]), standings),
        requests=st.integers(0, 400),
    ),
    watched=st.sampled_from([0.0, 1000.0]),
    budget_left=st.none() | st.floats(-1, 1),
)


def moved(plan: Plan, rollout: Rollout, seen: Seen, now: float) -> Rollout:
    decision = decide(plan, rollout, seen, now)
    if decision.event is None:
        return rollout
    return move(rollout, decision.event, now, actor="tidegate", decision=decision)


def asked(rollout: Rollout, event: Event, now: float, reason: str = "asked") -> Rollout:
    return move(rollout, event, now, actor="ann", decision=Decision(event, reason))


@given(plans, st.lists(st.tuples(seens, st.floats(0, 5000), st.none() | st.sampled_from(sorted(BY_PEOPLE)))))
def test_a_rollout_never_skips_a_step_nor_serves_what_is_worse(
    plan: Plan, story: list[tuple[Seen, float, Event | None]]
) -> None:
    rollout, now = Rollout(), 0.0
    for seen, seconds, event in story:
        now += seconds
        before = rollout
        if event is not None:
            try:
                rollout = asked(rollout, event, now)
            except Refused:
                assert (before.phase, event) not in TRANSITIONS
        else:
            rollout = moved(plan, rollout, seen, now)
        assert 0 <= rollout.share <= 100
        assert rollout.reason
        assert outlook(plan, rollout, seen, now, "m") is not None
        if event is None and rollout is not before:
            check(plan, before, rollout, seen)
        if event in {Event.PAUSE, Event.RESUME}:
            assert rollout.share == before.share


def check(plan: Plan, before: Rollout, after: Rollout, seen: Seen) -> None:
    """What must hold of a move that the gateway made."""
    if after.phase is Phase.STEP and before.phase is Phase.STEP and before.step != MIRRORING:
        assert after.share == plan.after(before.share)
    if before.is_live and seen.stable_ready and (seen.worse or seen.guard or seen.unready > 30):
        assert after.phase is Phase.ROLLED_BACK
        assert after.share == 0
    if after.share > before.share:
        assert seen.stable_ready
        assert before.phase is Phase.WAITING or (seen.worse, seen.guard, seen.doubt) == (None, None, None)
        to = 0.0 if before.step == MIRRORING else after.share
        enough = seen.traffic.requests >= plan.min_requests and all(
            each.may_go_on(to, plan.margin) for each in seen.traffic.slis.values()
        )
        assert enough or before.step == MIRRORING or before.phase is Phase.WAITING or plan.on_stall is OnStall.PROMOTE


@given(plans)
def test_a_good_candidate_walks_every_step_and_is_promoted(plan: Plan) -> None:
    plan = replace(plan, manual=False)
    rollout, now = Rollout(), 0.0
    shares: list[float] = []
    while rollout.phase is not Phase.PROMOTED:
        now += plan.held_for(rollout.share)
        rollout = moved(plan, rollout, Seen(traffic=Traffic(100.0, {}, plan.min_requests)), now)
        if rollout.mirrored(plan):
            assert not shares
        elif rollout.phase is Phase.STEP:
            shares.append(rollout.share)
    assert shares == list(plan.shares)
    assert shares[-1] == 95
    assert rollout.share == 100


def standing(**values: Any) -> Seen:
    return replace(FINE, traffic=Traffic(10.0, {"ttft": replace(TTFT, **values)}, 100))


def requests(count: int, rate: float = 10.0) -> Seen:
    return replace(FINE, traffic=Traffic(rate, {"ttft": TTFT}, count))


@pytest.mark.parametrize(
    ("seen", "now", "event", "words"),
    [
        (FINE, 1059.0, None, "held for 59 s of 60 s"),
        (FINE, 1060.0, Event.ADVANCE, "held for 60 s, 100 requests, no SLI is worse"),
        (requests(99), 1059.0, None, "held for 59 s of 60 s; 99 requests of `min_requests` 100"),
        (requests(99), 1060.0, None, "99 requests of `min_requests` 100"),
        (
            standing(upper=0.05),
            1060.0,
            None,
            "worst case for ttft: 5 points below stable; must be under 4 before the 25 % step (`margin` 1)",
        ),
        (standing(upper=None), 1060.0, None, "v1 has had no request to judge ttft by"),
        (standing(upper=None, candidate=(0, 0)), 1060.0, None, "v2 has had no request to judge ttft by"),
        (
            requests(9),
            1600.0,
            Event.PAUSE,
            "9 requests of `min_requests` 100: about 91 more requests of v2, 3 min at this rate; held for 10 min "
            "(`max_hold` 10 min, `on_stall: pause`): tidegate canary resume m",
        ),
        (
            requests(9, 0.0),
            1600.0,
            Event.PAUSE,
            "9 requests of `min_requests` 100: about 91 more requests of v2, and har",
        ),
        (replace(FINE, worse="it is worse"), 1001.0, Event.ROLLBACK, "it is worse"),
        (replace(FINE, guard="it burns"), 1001.0, Event.ROLLBACK, "it burns"),
        (replace(FINE, unready=31.0), 1001.0, Event.ROLLBACK, "no backend of v2 has been ready for 31 s"),
        (
            replace(FINE, doubt="one key"),
            1001.0,
            Event.PAUSE,
            "one key: compare both with `tidegate canary report m`, then `resume` or `rollback`",
        ),
        (
            replace(FINE, budget_left=0.049),
            1060.0,
            Event.PAUSE,
            "4.9 % of the error budget is left, and no rollout goes on below 5 % (`pause_below`): resume it when old "
            "failures have left the window, or now with `tidegate canary resume m --despite-budget`",
        ),
        (replace(FINE, budget_left=0.051), 1060.0, Event.ADVANCE, "held for 60 s, 100 requests, no SLI is worse"),
    ],
)
def test_what_is_decided_in_a_step_and_in_what_words(seen: Seen, now: float, event: Event | None, words: str) -> None:
    decision = decide(PLAN, STEP, seen, now, "m")
    assert decision.event is event
    assert decision.reason.startswith(words)
    if event is Event.ADVANCE:
        assert (decision.step, decision.share) == (2, 25.0)


@pytest.mark.parametrize(
    ("on_stall", "event"),
    [(OnStall.PROMOTE, Event.ADVANCE), (OnStall.ROLLBACK, Event.ROLLBACK), (OnStall.PAUSE, Event.PAUSE)],
)
def test_a_step_that_stalls_does_what_the_route_says(on_stall: OnStall, event: Event) -> None:
    assert decide(replace(PLAN, on_stall=on_stall), STEP, Seen(), 9999.0).event is event


def test_without_a_limit_of_its_own_a_step_may_last_many_times_what_was_predicted() -> None:
    plan = replace(PLAN, max_hold=None)
    assert decide(plan, STEP, requests(9), 1000.0 + 7199).event is None
    assert decide(plan, STEP, requests(9), 1000.0 + 7201).event is Event.PAUSE
    assert decide(plan, replace(STEP, predicted=3600.0), requests(9), 1000.0 + 7201).event is None


def test_the_last_step_keeps_five_per_cent_of_stable_and_is_held_longer() -> None:
    last = Rollout(Phase.STEP, 4, 1000.0, 900.0, share=95.0)
    assert decide(AUTO, last, FINE, 1000.0 + 3599).event is None
    assert decide(AUTO, last, FINE, 1000.0 + 3600).event is Event.FINISH
    assert replace(AUTO, steps=(1.0, 50.0, 100.0)).shares == (1.0, 50.0, 95.0)
    assert replace(AUTO, steps=(10.0,)).shares == (10.0, 95.0)


def test_an_edit_of_the_steps_never_moves_the_share() -> None:
    """One more request moves when the gateway or a person decides, never because somebody saved a file."""
    for steps in ((50.0, 100.0), (1.0,), ()):
        edited = replace(PLAN, steps=steps)
        for phase in (Phase.PAUSED, Phase.STEP):
            rollout = replace(STEP, phase=phase)
            assert moved(edited, rollout, FINE, 1001.0).share == 5.0
    assert replace(PLAN, steps=(50.0, 100.0)).place(5.0) == 0
    assert replace(PLAN, steps=(50.0, 100.0)).after(5.0) == 50.0


def test_a_rollout_does_not_start_on_a_spent_budget_and_promotion_is_not_the_only_way_out() -> None:
    spent = Seen(budget_left=0.071)
    for rollout in (Rollout(), Rollout(Phase.WAITING)):
        decision = decide(PLAN, rollout, spent, 0.0, "m")
        assert decision.event is None
        assert decision.reason.startswith("7.1 % of the error budget is left, and no rollout starts below 10 %")
        assert "`tidegate canary start m --despite-budget`" in decision.reason
        assert "--despite-budget" in outlook(PLAN, rollout, spent, 0.0, "m").command
    assert start_blocker(PLAN, None) is None
    assert start_blocker(PLAN, 0.1) is None
    assert resume_blocker(PLAN, None) is resume_blocker(PLAN, 0.05) is None
    assert str(resume_blocker(PLAN, -0.5)).startswith(
        "the error budget is overspent by 50 %, and no rollout goes on below 5 %"
    )


def test_a_rollout_despite_the_budget_goes_step_by_step() -> None:
    spent = replace(FINE, budget_left=-3.0)
    waiting = Rollout(Phase.WAITING, despite_budget=True)
    step = moved(PLAN, waiting, spent, 1000.0)
    assert (step.phase, step.share, step.despite_budget) == (Phase.STEP, 1.0, True)
    step = moved(PLAN, step, spent, 1060.0)
    assert (step.phase, step.share, step.despite_budget) == (Phase.STEP, 5.0, True)
    again = asked(asked(step, Event.ROLLBACK, 1.0), Event.START, 2.0)
    assert not again.despite_budget


def test_a_candidate_waits_until_it_is_ready_and_for_a_person_where_the_route_says_so() -> None:
    assert decide(PLAN, Rollout(), Seen(), 0.0) == Decision(Event.START, "v2 is new")
    by_hand = decide(replace(PLAN, manual=True), Rollout(), Seen(), 0.0, "m")
    assert by_hand == Decision(None, "waits for `tidegate canary start m`")
    assert decide(PLAN, Rollout(Phase.WAITING), Seen(unready=0.1), 0.0) == Decision(None, "no backend of v2 is ready")
    ready = decide(PLAN, Rollout(Phase.WAITING), FINE, 0.0)
    said = "v2 is ready; promotion in about 7 min at 10 requests/s"
    assert (ready.event, ready.reason, ready.step, ready.share) == (Event.READY, said, 0, 1.0)
    mirroring = replace(PLAN, mirror=10.0)
    assert decide(mirroring, Rollout(Phase.WAITING), Seen(), 0.0).step == MIRRORING


@pytest.mark.parametrize(
    "rollout", [Rollout(), Rollout(Phase.WAITING), STEP, replace(STEP, share=95.0), replace(STEP, step=MIRRORING)]
)
def test_nothing_begins_or_goes_on_while_stable_is_not_ready(rollout: Rollout) -> None:
    away = replace(FINE, stable_ready=False)
    assert decide(PLAN, rollout, away, 99_000.0) == Decision(None, "waits: stable v1 has no ready backend")
    ahead = outlook(PLAN, rollout, away, 99_000.0, "m")
    assert ahead.words == "goes on once v1 is ready; v2 serves meanwhile if it is ready"
    assert ahead.command == "tidegate canary promote m, if v1 is gone for good"
    assert decide(PLAN, rollout, FINE, 99_000.0).event is not None
    assert asked(rollout, Event.PROMOTE, 99_000.0).phase is Phase.PROMOTED


@pytest.mark.parametrize("against", [{"worse": "worse"}, {"guard": "burns"}, {"unready": 31.0}], ids=str)
@pytest.mark.parametrize("phase", [Phase.STEP, Phase.PAUSED])
def test_no_candidate_goes_back_to_a_stable_that_is_not_ready(phase: Phase, against: dict[str, Any]) -> None:
    rollout, seen = replace(STEP, phase=phase), replace(FINE, **against)
    assert decide(PLAN, rollout, replace(seen, stable_ready=False), 1001.0).event is None
    assert decide(PLAN, rollout, seen, 1001.0).event is Event.ROLLBACK


@pytest.mark.parametrize("phase", [Phase.STEP, Phase.PAUSED])
def test_one_that_fails_every_request_goes_back_to_a_stable_that_may_be_sent_some(phase: Phase) -> None:
    rollout, seen = replace(STEP, phase=phase), replace(FINE, stable_ready=False, failing="all failed")
    assert decide(PLAN, rollout, seen, 1001.0).event is Event.ROLLBACK
    assert decide(PLAN, rollout, replace(seen, failing=None, worse="worse"), 1001.0).event is None


@pytest.mark.parametrize(
    ("rollout", "manual", "may"),
    [
        (Rollout(), False, True),
        (Rollout(), True, False),
        (Rollout(Phase.WAITING), True, True),
        (replace(STEP, step=MIRRORING, share=0.0), True, True),
        (STEP, True, True),
        (replace(STEP, phase=Phase.ROLLED_BACK), False, True),
        (replace(STEP, phase=Phase.ROLLED_BACK, actor="ann"), False, False),
        (Rollout(Phase.PROMOTED, actor="ann"), True, True),
    ],
)
def test_a_candidate_may_stand_in_unless_a_person_holds_it_back(rollout: Rollout, manual: bool, may: bool) -> None:
    assert may_stand_in(replace(PLAN, manual=manual), rollout) is may


def test_the_time_without_stable_does_not_count_for_the_hold() -> None:
    back = replace(FINE, away=500.0)
    assert decide(PLAN, STEP, back, 1510.0).reason.startswith("held for 10 s of 60 s")
    assert decide(PLAN, STEP, back, 1560.0).event is Event.ADVANCE


def test_the_first_step_of_auto_depends_on_the_traffic_which_has_to_be_seen() -> None:
    waiting = Rollout(Phase.WAITING)
    unseen = decide(AUTO, waiting, Seen(watched=60.0), 0.0)
    assert unseen.event is None
    assert unseen.reason == "counts requests to choose the first step: starts after 20 requests, or in 240 s"
    assert decide(AUTO, waiting, Seen(), 0.0).share == 50.0
    shares = [
        decide(AUTO, waiting, Seen(traffic=Traffic(rate, {"a": SliEvidence(0.001)})), 0.0).share
        for rate in (0.05, 1.0, 3.0, 12.0, 100.0)
    ]
    assert shares == sorted(shares, reverse=True)
    assert (shares[0], shares[-1]) == (50.0, 1.0)
    assert set(shares) <= set(LADDER)


def test_a_step_of_auto_that_holds_none_of_few_sticky_clients_is_left_for_the_next() -> None:
    """Twenty clients, 3 requests/s, 1 %: after ten minutes 18 requests were due, after twelve 21.6."""
    plan = replace(AUTO, hold=600.0)
    empty = replace(FINE, traffic=Traffic(3.0, {"ttft": TTFT}))
    rollout = Rollout(Phase.STEP, 0, 1000.0, share=1.0)
    assert decide(plan, rollout, empty, 1600.0).event is None
    decision = decide(plan, rollout, empty, 1720.0)
    assert (decision.event, decision.share) == (Event.ADVANCE, 5.0)
    assert decision.reason == "held for 12 min, and no client is in 1 % of requests"
    assert decide(plan, replace(rollout, step=3, share=50.0), empty, 1720.0).event is None
    assert decide(replace(plan, steps=(1.0, 5.0)), rollout, empty, 1720.0).event is None
    assert decide(plan, rollout, replace(FINE, traffic=Traffic(3.0, {"ttft": TTFT}, 1)), 1720.0).event is None


def test_copies_come_first_where_the_route_says_so() -> None:
    plan = replace(PLAN, mirror=10.0)
    copying = moved(plan, Rollout(Phase.WAITING), FINE, 0.0)
    assert (copying.share, copying.mirrored(plan), copying.step) == (0.0, 10.0, MIRRORING)
    assert decide(plan, copying, requests(3), 61.0).reason == "3 copies of `min_requests` 100"
    assert "once started at 1 %" in outlook(plan, copying, requests(3), 61.0, "m").words
    first = moved(plan, copying, FINE, 61.0)
    assert (first.step, first.share) == (0, 1.0)


def test_a_paused_rollout_keeps_its_share_and_still_rolls_back() -> None:
    paused = asked(STEP, Event.PAUSE, 1010.0, "lunch")
    assert (paused.share, paused.step, paused.started) == (5.0, 1, 900.0)
    assert decide(PLAN, paused, FINE, 9999.0) == Decision(None, "lunch")
    assert decide(PLAN, paused, replace(FINE, worse="bad"), 9999.0).event is Event.ROLLBACK
    back = asked(paused, Event.RESUME, 1020.0)
    assert (back.phase, back.step, back.since) == (Phase.STEP, 1, 1020.0)


@pytest.mark.parametrize("phase", [Phase.PROMOTED, Phase.ROLLED_BACK])
def test_what_is_over_stays_so(phase: Phase) -> None:
    over = Rollout(phase, 2, reason="because")
    assert decide(PLAN, over, replace(FINE, worse="bad"), 1e9) == Decision(None, "because")


def test_what_makes_no_sense_is_refused_in_words() -> None:
    with pytest.raises(Refused, match="cannot resume a rollout that is rolled back; possible: start"):
        asked(Rollout(Phase.ROLLED_BACK), Event.RESUME, 0.0)
    with pytest.raises(Refused, match="in progress; possible: pause, promote, rollback"):
        asked(STEP, Event.START, 0.0)
    with pytest.raises(Refused, match="cannot roll back a rollout that is rolled back"):
        asked(Rollout(Phase.ROLLED_BACK), Event.ROLLBACK, 0.0)
    restarted = asked(Rollout(Phase.ROLLED_BACK, 3), Event.START, 50.0)
    assert (restarted.phase, restarted.step, restarted.started) == (Phase.WAITING, 0, 50.0)


def test_a_rollout_of_an_older_version_keeps_its_share_but_compares_to_the_end() -> None:
    assert migrated(STEP, 25.0).share == 25.0
    last = migrated(Rollout(Phase.STEP, 4, reason="held"), 100.0)
    assert (last.share, last.reason) == (95.0, "held; 5 % stay on stable in the last step")
    assert migrated(Rollout(Phase.PROMOTED, 4), 100.0).share == 100.0
