"""A person who looks at a rollout learns how far it has to go, what will stop it, and which command helps."""

from dataclasses import replace

import pytest

from gateway.policy.canary.forecast import SliEvidence, Traffic
from gateway.policy.canary.outlook import outlook
from gateway.policy.canary.plan import OnStall, Plan
from gateway.policy.canary.rollout import MIRRORING, Event, Phase, Rollout, Seen, decide
from gateway.policy.canary.words import per_second, percent, span

PLAN = Plan("v1", "v2", (1.0, 5.0, 25.0, 50.0, 95.0), hold=60.0, last_hold=60.0, min_requests=100, max_hold=600.0)
AUTO = Plan("v1", "v2")
STEP = Rollout(Phase.STEP, 1, 1000.0, 900.0, share=5.0)
TTFT = SliEvidence(0.01, (9900, 100), (990, 10), 0.01)
FINE = Seen(traffic=Traffic(10.0, {"ttft": TTFT}, 100))


@pytest.mark.parametrize(
    ("rollout", "command"),
    [
        (Rollout(), ""),
        (Rollout(Phase.WAITING), ""),
        (STEP, "tidegate canary report m"),
        (replace(STEP, phase=Phase.PAUSED), "tidegate canary resume m"),
        (Rollout(Phase.ROLLED_BACK), "tidegate canary report m; to try again: tidegate canary start m"),
        (Rollout(Phase.ROLLED_BACK, actor="ann"), "tidegate canary start m"),
        (Rollout(Phase.PROMOTED), "make v2 the `stable` of the routes, or their only version"),
    ],
)
def test_every_state_names_the_command_that_helps(rollout: Rollout, command: str) -> None:
    assert outlook(PLAN, rollout, FINE, 1000.0, "m").command == command


def test_a_pause_for_the_budget_is_resumed_despite_it() -> None:
    paused, spent = replace(STEP, phase=Phase.PAUSED), replace(FINE, budget_left=0.01)
    assert outlook(PLAN, paused, spent, 0.0, "m").command == "tidegate canary resume m --despite-budget"
    assert outlook(replace(PLAN, manual=True), Rollout(), FINE, 0.0, "m").command == "tidegate canary start m"


def test_without_a_ready_stable_it_is_said_who_serves_whatever_the_traffic() -> None:
    away = Seen(stable_ready=False)
    assert outlook(PLAN, STEP, away, 0.0, "m").words == "goes on once v1 is ready; v2 serves meanwhile if it is ready"
    assert outlook(replace(PLAN, manual=True), Rollout(), away, 0.0, "m").words == "goes on once v1 is ready"


@pytest.mark.parametrize(("rate", "said"), [(0.25, "0.25"), (3.14, "3.1"), (99.9, "100"), (1234.0, "1,234")])
def test_a_rate_is_written_as_people_do(rate: float, said: str) -> None:
    assert per_second(rate) == f"{said} requests/s"


def test_the_outlook_says_how_many_requests_and_how_long() -> None:
    ahead = outlook(AUTO, STEP, Seen(traffic=Traffic(12.0, {"a": SliEvidence(0.001)}, 10)), 1000.0, "m")
    assert ahead.missing is not None
    assert ahead.missing == pytest.approx(676, rel=0.05)
    assert ahead.step == pytest.approx(ahead.missing / 0.6)
    assert ahead.words.startswith("about 680 more requests of v2, 19 min at this rate; 25 % in 19 min, promotion in ")
    assert ahead.words.endswith(" at 12 requests/s")
    unknown = outlook(AUTO, STEP, Seen(), 1000.0, "m")
    assert (unknown.rest, unknown.words) == (None, "too few requests seen to say how long it takes")
    before = outlook(AUTO, Rollout(), FINE, 1000.0, "m")
    assert before.words.startswith("once started at 1 %, ")
    enough = outlook(AUTO, replace(STEP, share=95.0), FINE, 1000.0, "m")
    assert (enough.missing, enough.words) == (0, "promotion in 60 min at 10 requests/s")
    hopeless = Traffic(10.0, {"a": replace(TTFT, upper=0.9, stable=(1, 0), candidate=(10, 90))}, 100)
    assert outlook(AUTO, STEP, Seen(traffic=hopeless), 1000.0, "m").missing is not None


SLOW = Seen(traffic=Traffic(0.5, {"a": SliEvidence(0.001, (1000, 0), (52, 0), 0.05)}, 100))
"""Traffic at which the 5 % step takes eight hours."""


def test_a_pause_after_max_hold_says_what_to_change_where_a_resume_would_end_in_the_same_pause() -> None:
    stalled = decide(PLAN, STEP, SLOW, 1600.0, "m")
    assert stalled.event is Event.PAUSE
    paused = replace(STEP, phase=Phase.PAUSED, reason=stalled.reason)
    for advice in (stalled.reason, outlook(PLAN, paused, SLOW, 2000.0, "m").command):
        assert advice.endswith(
            "set `max_hold` above 8.1 h (or a wider `margin`) in the routes, then tidegate canary resume m; "
            "or tidegate canary promote m"
        )
    longer = replace(PLAN, max_hold=9 * 3600.0)
    assert outlook(longer, paused, SLOW, 2000.0, "m").command == "tidegate canary resume m", "now it is long enough"
    silent = replace(SLOW, traffic=replace(SLOW.traffic, rate=0.0))
    assert outlook(PLAN, paused, silent, 2000.0, "m").command.startswith("tidegate canary promote m, or tidegate ")
    copying = replace(paused, step=MIRRORING, share=0.0)
    assert outlook(PLAN, copying, SLOW, 2000.0, "m").command == "tidegate canary resume m"


@pytest.mark.parametrize(
    ("on_stall", "then"),
    [
        (OnStall.PAUSE, "then pauses"),
        (OnStall.PROMOTE, "then continues anyway"),
        (OnStall.ROLLBACK, "is then rolled back"),
    ],
)
def test_the_outlook_says_that_a_step_will_reach_max_hold(on_stall: OnStall, then: str) -> None:
    plan = replace(PLAN, on_stall=on_stall)
    words = outlook(plan, STEP, SLOW, 1300.0, "m").words
    assert words.endswith(f"; the 5 % step takes 8.2 h and `max_hold` is 10 min: the rollout {then}")
    assert "max_hold" not in outlook(plan, STEP, FINE, 1300.0, "m").words
    few = replace(SLOW, traffic=replace(SLOW.traffic, rate=0.0))
    assert outlook(plan, STEP, few, 1300.0, "m").words == "too few requests seen to say how long it takes"


def test_what_a_paused_rollout_needs_begins_with_its_resumption() -> None:
    paused = replace(STEP, phase=Phase.PAUSED)
    assert outlook(PLAN, paused, SLOW, 2000.0, "m").words.startswith("once resumed, about 730 more requests of v2, ")


def test_the_last_step_names_the_bound_that_it_is_held_to() -> None:
    last = replace(STEP, step=4, share=95.0)
    seen, near = (
        replace(FINE, traffic=Traffic(10.0, {"ttft": replace(TTFT, upper=upper)}, 100)) for upper in (0.013, 0.0124)
    )
    assert decide(PLAN, last, seen, 5000.0).reason.startswith(
        "worst case for ttft: 1.3 points below stable; must be under 1.2 before promotion (`margin` 1)"
    )
    assert decide(PLAN, last, near, 5000.0).event is Event.FINISH


def test_durations_and_shares_are_said_as_people_say_them() -> None:
    spans = [span(seconds) for seconds in (48.0, 480.0, 11_520.0, 172_800.0)]
    assert spans == ["48 s", "8 min", "3.2 h", "2.0 days"]
    assert (percent(0.0012), percent(0.25)) == ("0.12", "25")
