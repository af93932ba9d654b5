"""What the guard rails leave of what a rule asks for, and which of them say so."""

from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.capacity.decide import decide
from gateway.policy.capacity.guard_rails import Ruling, changed, hpa_value, most_allowed, rule
from gateway.policy.capacity.reactive import Proposal
from gateway.policy.capacity.want import Memory, PoolLoad, Rail, Rule, Rules

FREE = Rules(min=0, max=1000, dead_band=0.0)
BANDED = Rules(min=0, max=1000)


def ruled(
    target: int,
    before: int,
    rules: Rules,
    *,
    memory: Memory | None = None,
    now: float = 1000.0,
    approved: int | None = None,
) -> Ruling:
    load = PoolLoad("gpu", before, approved=approved)
    memory = memory or Memory(target=before)
    return rule(Proposal(target, Rule.LOAD, "why"), load, rules, memory, now)


def hpa(replicas: int, value: float, tolerance: float = 0.1) -> int:
    """Return what an HPA comes to: an external metric with a target of 1 per replica, read in thousandths."""
    told = int(value * 1000) / 1000
    return replicas if abs(1.0 - told / replicas) <= tolerance + 1e-12 else ceil(told)


def test_what_no_rail_touches_stays_as_it_was() -> None:
    assert ruled(30, 3, FREE) == Ruling(30, (), "why", None)


def test_a_step_out_is_counted_from_where_the_minute_began() -> None:
    rules = Rules(min=0, max=1000, dead_band=0.0, step_out=4)
    once = ruled(30, 3, rules)
    assert (once.target, once.rails, once.reason) == (7, (Rail.STEP,), "why; at most 7 in this step")
    memory = changed(5, 3, rules, Memory(target=3), 1000.0)
    assert ruled(30, 5, rules, memory=memory, now=1059.0).target == 7
    assert ruled(30, 7, rules, memory=changed(7, 5, rules, memory, 1059.0), now=1059.5).target == 7
    assert ruled(30, 7, rules, memory=changed(7, 5, rules, memory, 1059.0), now=1060.0).target == 11


@pytest.mark.parametrize(("step", "first", "second"), [(None, 10, 5), (3, 17, 14)])
def test_a_step_in_is_counted_from_where_the_stabilisation_began(step: int | None, first: int, second: int) -> None:
    rules = Rules(min=0, max=1000, dead_band=0.0, step_in=step)
    assert ruled(1, 20, rules).target == first
    memory = changed(first, 20, rules, Memory(target=20), 1000.0)
    assert ruled(1, first, rules, memory=memory, now=1299.0).target == first
    assert ruled(1, first, rules, memory=memory, now=1300.0).target == second


def test_the_direction_changes_once_in_a_cool_down() -> None:
    out = changed(4, 3, FREE, Memory(target=3), 0.0)
    assert out.turned_at is None
    assert ruled(2, 4, FREE, memory=out, now=1.0).target == 2
    back = changed(2, 4, FREE, out, 1.0)
    assert back.turned_at == 1.0
    soon = ruled(6, 2, FREE, memory=back, now=300.0)
    assert (soon.target, soon.rails) == (2, (Rail.COOL_DOWN,))
    assert soon.reason == "why; no change of direction within 300 s of the last one"
    assert ruled(6, 2, FREE, memory=back, now=301.0).target == 6
    assert ruled(1, 2, FREE, memory=back, now=302.0).target == 1  # on in the same direction


def test_a_want_that_costs_too_much_is_rolled_back_to_what_is_affordable() -> None:
    rules = Rules(min=0, max=1000, dead_band=0.0, cost_per_hour=0.1, cost_cap=0.3)
    ruling = ruled(9, 2, rules)
    assert (ruling.target, ruling.rails, ruling.reason) == (3, (Rail.COST,), "why; 0.3 an hour buys 3")
    assert ruled(3, 2, rules).rails == ()
    assert ruled(5, 5, rules).target == 3
    assert ruled(9, 2, Rules(min=4, max=1000, dead_band=0.0, cost_per_hour=0.1, cost_cap=0.3)).target == 4
    assert ruled(9, 2, Rules(min=0, max=1000, dead_band=0.0, cost_cap=0.3)).target == 9


def test_more_than_a_number_needs_an_approval() -> None:
    rules = Rules(min=0, max=1000, dead_band=0.0, approval_above=5)
    ruling = ruled(9, 3, rules)
    assert (ruling.target, ruling.rails, ruling.awaits) == (5, (Rail.APPROVAL,), 9)
    assert ruling.reason == "why; 9 need an approval"
    assert ruled(9, 3, rules, approved=9) == Ruling(9, (), "why", None)
    assert ruled(9, 7, rules).target == 7  # what there is stays
    assert ruled(5, 3, rules).awaits is None


def test_nobody_is_asked_to_approve_more_than_the_hard_limits_allow() -> None:
    rules = Rules(min=0, max=8, dead_band=0.0, approval_above=6)
    assert (ruled(12, 3, rules).target, ruled(12, 3, rules).awaits) == (6, 8)
    full = ruled(12, 8, rules, approved=8)
    assert (full.target, full.rails, full.awaits) == (8, (Rail.MAX,), None)
    dear = Rules(min=0, max=8, dead_band=0.0, approval_above=6, cost_per_hour=1.0, cost_cap=7.0)
    assert ruled(12, 3, dear).awaits == 7
    dear = Rules(min=0, max=8, dead_band=0.0, approval_above=6, cost_per_hour=1.0, cost_cap=5.0)
    assert (ruled(12, 3, dear).target, ruled(12, 3, dear).awaits) == (5, None)


def test_the_hard_limits_come_last() -> None:
    assert ruled(2000, 900, FREE).rails == (Rail.MAX,)
    assert ruled(0, 3, Rules(min=2, max=9, dead_band=0.0)).target == 2


def test_a_want_of_11_at_10_replicas_is_reached() -> None:
    ruling = ruled(11, 10, BANDED)
    assert (ruling.target, ruling.rails) == (12, (Rail.DEAD_BAND,))
    assert ruling.reason == "why; an HPA ignores 11 at 10 replicas (within 10 %), so 12"
    assert hpa(10, 11.0) == 10
    assert hpa(10, hpa_value(12, PoolLoad("gpu", 10), BANDED)) == 12


def test_an_hpa_without_a_dead_band_is_told_the_number_itself() -> None:
    assert ruled(11, 10, FREE).target == 11
    assert hpa_value(11, PoolLoad("gpu", 12), FREE) == 11.0


def test_the_dead_band_moves_nothing_beyond_a_rail() -> None:
    for rules in (
        Rules(max=11),
        Rules(max=100, cost_per_hour=1.0, cost_cap=11.0),
        Rules(max=100, approval_above=11),
    ):
        ruling = ruled(11, 10, rules)
        assert (ruling.target, ruling.rails) == (11, (Rail.DEAD_BAND,))
        assert ruling.reason == "why; an HPA ignores 11 at 10 replicas (within 10 %), and 12 are not allowed"


def test_the_dead_band_never_takes_more_away_than_is_wanted() -> None:
    memory = Memory(target=20)
    slightly = ruled(19, 20, BANDED, memory=memory)
    assert (slightly.target, slightly.rails) == (19, (Rail.DEAD_BAND,))
    assert slightly.reason == "why; an HPA ignores 19 at 20 replicas (within 10 %), so they stay until fewer are needed"
    assert hpa(20, hpa_value(19, PoolLoad("gpu", 20), BANDED)) == 20
    assert ruled(11, 12, BANDED) == Ruling(11, (), "why", None)
    assert hpa(12, hpa_value(11, PoolLoad("gpu", 12), BANDED)) == 11
    assert hpa(10, hpa_value(9, PoolLoad("gpu", 10), BANDED)) == 9


def test_what_stays_is_not_moved() -> None:
    """A replica that is away for a moment is no reason for one more."""
    load = PoolLoad("gpu", ready=10)
    want = decide(load, BANDED, Memory(target=11), 0.0).want
    assert (want.target, want.value, want.rails) == (11, 11.0, ())


@given(now=st.integers(1, 300), target=st.integers(0, 300))
def test_an_hpa_comes_to_what_is_wanted_or_stays_above(now: int, target: int) -> None:
    ruling = ruled(target, now, Rules(min=0, max=1000, step_in=1000))
    reached = hpa(now, hpa_value(ruling.target, PoolLoad("gpu", now), BANDED))
    if target > now:
        assert target <= reached == ruling.target <= max(target, now + now // 10 + 1)
    elif target < now - now // 10:
        assert reached == target
    else:
        assert target <= reached <= now


@given(
    asked=st.lists(st.tuples(st.integers(0, 60), st.floats(1.0, 400.0)), max_size=40),
    bounds=st.tuples(st.integers(0, 3), st.integers(3, 40)),
    step_out=st.one_of(st.none(), st.integers(1, 5)),
    step_in=st.one_of(st.none(), st.integers(1, 5)),
    cap=st.one_of(st.none(), st.floats(3.0, 30.0)),
)
def test_whatever_is_asked_for_the_rails_hold(
    asked: list[tuple[int, float]],
    bounds: tuple[int, int],
    step_out: int | None,
    step_in: int | None,
    cap: float | None,
) -> None:
    """Against what the words say, over the whole history: limits, cost, and one turn in a cool-down."""
    least, most = bounds
    rules = Rules(
        min=least, max=most, step_out=step_out, step_in=step_in, cost_per_hour=1.0, cost_cap=cap, dead_band=0.0
    )
    now, memory, target = 0.0, Memory(target=3), 3
    history = [(now, target)]
    for proposed, elapsed in asked:
        now += elapsed
        ruling = rule(Proposal(proposed, Rule.LOAD, ""), PoolLoad("gpu", target), rules, memory, now)
        assert least <= ruling.target <= max(least, most if cap is None else min(most, int(cap)))
        if proposed == target and least <= target <= most and (cap is None or target <= cap):
            assert ruling.target == target
        memory, target = changed(ruling.target, target, rules, memory, now), ruling.target
        history.append((now, target))
    turns = turned(history[1:])
    assert all(later - earlier >= rules.cool_down for earlier, later in pairwise(turns))


def turned(history: list[tuple[float, int]]) -> list[float]:
    """Return when the direction changed."""
    turns, direction = [], 0
    for (_, before), (now, after) in pairwise(history):
        if after != before:
            if direction and (after > before) != (direction > 0):
                turns.append(now)
            direction = 1 if after > before else -1
    return turns


@pytest.mark.parametrize(
    ("rules", "approved", "may"),
    [
        (Rules(min=0), None, True),
        (Rules(min=0, max=0), None, False),
        (Rules(min=0, approval_above=0), None, False),
        (Rules(min=0, approval_above=0), 1, True),
        (Rules(min=0, approval_above=1), None, True),
        (Rules(min=0, cost_per_hour=5.0, cost_cap=2.0), None, False),
        (Rules(min=0, cost_per_hour=5.0, cost_cap=5.0), None, True),
    ],
)
def test_the_first_replica_passes_no_rail_either(rules: Rules, approved: int | None, may: bool) -> None:
    assert (most_allowed(rules, approved) >= 1) is may
