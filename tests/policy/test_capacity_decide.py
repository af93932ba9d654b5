"""What a pool wants, from all that is known of it: out, in, frozen, and what the reasons say."""

from collections.abc import Callable
from dataclasses import replace
from math import inf, nan

import pytest

from gateway.policy.capacity.decide import decide
from gateway.policy.capacity.want import Bursts, Decision, EngineLoad, Forecast, Memory, PoolLoad, Rail, Rule, Rules

QUIET = PoolLoad(
    "gpu",
    ready=2,
    burn=0.5,
    burn_now=0.5,
    page_factor=14.4,
    queue_wait=0.0,
    patience=1.0,
    in_flight=2.0,
    limit=16.0,
    arrivals=0.5,
    holding=4.0,
)
RULES = Rules()


def played(load: PoolLoad | Callable[[int], PoolLoad], seconds: int, rules: Rules = RULES) -> Decision:
    """Decide once a second, or every five where that is long."""
    decision = Decision(decide(PoolLoad("gpu", 1), rules, Memory(), 0.0).want, Memory())
    for second in (*range(0, seconds, 1 if seconds <= 1000 else 5), seconds):
        now = load if isinstance(load, PoolLoad) else load(second)
        decision = decide(now, rules, decision.memory, float(second))
    return decision


def first(load: Callable[[int], PoolLoad], until: int, target: int, rules: Rules = RULES) -> int | None:
    """Return the first second in which so many are wanted."""
    memory = Memory()
    for second in range(until):
        decision = decide(load(second), rules, memory, float(second))
        memory = decision.memory
        if decision.want.target == target:
            return second
    return None


def test_the_first_want_is_what_there_is() -> None:
    want = decide(PoolLoad("gpu", ready=3, starting=1), RULES, Memory(), 100.0).want
    assert (want.target, want.replicas_now, want.value, want.rule) == (4, 4, 4.0, Rule.HOLD)
    assert want.valid_until == 160.0


def test_drained_replicas_are_wanted_as_well_as_those_that_the_load_needs() -> None:
    assert decide(PoolLoad("gpu", ready=2, drained=1), RULES, Memory(), 0.0).want.target == 3
    drained = replace(QUIET, ready=1, drained=2, limit=8.0)
    assert first(lambda _: drained, 4000, 2) is None, "an HPA would end any of three, also the one that serves"
    busy = replace(drained, in_flight=7.8, arrivals=2.0)
    assert played(lambda second: busy if second else drained, 100).want.target == 4


def test_a_pool_of_which_all_replicas_are_drained_is_not_woken() -> None:
    want = decide(PoolLoad("gpu", ready=0, drained=1, queued=3, arrivals=1.0), RULES, Memory(), 0.0).want
    assert (want.target, want.rule) == (1, Rule.HOLD)


def test_a_want_stays_between_min_and_max() -> None:
    few = decide(PoolLoad("gpu", ready=1), Rules(min=2), Memory(), 0.0).want
    many = decide(PoolLoad("gpu", ready=12), Rules(max=10), Memory(), 0.0).want
    assert (few.target, few.rails, many.target, many.rails) == (2, (Rail.MIN,), 10, (Rail.MAX,))


@pytest.mark.parametrize("factor", [14.4, 13.44])
def test_goes_out_in_the_second_in_which_the_spent_burn_passes_the_page_factor(factor: float) -> None:
    def load(second: int) -> PoolLoad:  # passes the factor after second 1000
        return replace(QUIET, page_factor=factor, burn=factor + (second - 1000) * 0.01, burn_now=30.0)

    assert first(load, 1100, 3) == 1001
    want = decide(load(1001), RULES, played(load, 1000).memory, 1001.0).want
    assert (want.rule, want.proposed) == (Rule.BURN, 3)
    assert want.reason == f"the burn rate of the last hour is {factor + 0.01:.1f}, and above {factor:.2f} it pages"


def test_a_burn_that_is_over_adds_nothing() -> None:
    assert played(replace(QUIET, burn=50.0, burn_now=0.0), 1799).want.target == 2


def test_a_burn_adds_one_replica_and_waits_until_it_can_have_helped() -> None:
    def load(second: int) -> PoolLoad:
        ready = 2 + (second > 0)
        return replace(QUIET, ready=ready, limit=4.0 * ready, burn=30.0, burn_now=60.0, in_flight=7.0, patience=None)

    assert first(load, 479, 4) is None
    assert first(load, 600, 4) == 480  # 3 min of warm-up, and the 5 min that say whether it goes on


def test_a_burn_that_replicas_do_not_stop_adds_no_more_of_them_to_an_idle_pool() -> None:
    burning = replace(QUIET, burn=30.0, burn_now=60.0, in_flight=1.0, arrivals=0.2)
    assert played(lambda second: replace(burning, ready=2 + (second > 0)), 7200).want.target == 3


def test_while_replicas_are_starting_a_burn_adds_none() -> None:
    assert played(replace(QUIET, ready=2, starting=1, burn=30.0, burn_now=60.0), 100).want.target == 3


def test_goes_in_in_the_second_in_which_the_burn_has_been_below_two_for_half_an_hour() -> None:
    def load(second: int) -> PoolLoad:
        return replace(QUIET, ready=3, burn=2.0 if second < 500 else 1.99, burn_now=5.0)

    assert first(load, 2400, 2) == 500 + 1800
    want = decide(load(2300), RULES, played(load, 2299).memory, 2300.0).want
    assert want.rule is Rule.CALM
    assert want.reason == (
        "the burn rate was below 2 for 30 min, and the objective is predicted to be met with 2 replicas"
    )


def test_one_bad_moment_starts_the_half_hour_again() -> None:
    def load(second: int) -> PoolLoad:
        return replace(QUIET, ready=3, burn=3.0, burn_now=3.0 if second == 900 else 0.0)

    assert first(load, 3600, 2) == 901 + 1800


def test_does_not_go_in_while_those_who_stay_would_not_carry_the_load() -> None:
    assert played(replace(QUIET, in_flight=6.0, arrivals=1.5), 4000).want.target == 2
    assert played(replace(QUIET, ready=3, limit=24.0, in_flight=14.0, arrivals=3.5), 4000).want.target == 3


def test_the_highest_load_of_five_minutes_decides_who_stays() -> None:
    def load(second: int) -> PoolLoad:
        # Every 4 minutes comes as much as one replica cannot carry.
        return replace(QUIET, in_flight=8.0 if second % 240 < 60 else 0.5, arrivals=0.2)

    assert played(load, 4000).want.target == 2


def test_a_queue_that_misses_the_objective_goes_out_once_it_lasts() -> None:
    def load(second: int) -> PoolLoad:
        return replace(QUIET, limit=None, queued=3, queue_wait=1.5 if second >= 100 else 0.5)

    assert first(load, 200, 3) == 110
    assert played(load, 110).want.rule is Rule.QUEUE
    assert played(load, 110).want.reason == (
        "a request would wait 1.5 s for a slot, longer than the 1.0 s that it may wait"
    )


def test_one_request_that_takes_everything_for_a_moment_changes_nothing() -> None:
    def load(second: int) -> PoolLoad:
        huge = 100 <= second < 109
        return replace(QUIET, ready=1, limit=1.0, in_flight=1.0, queued=int(huge), queue_wait=9.0, arrivals=0.02)

    assert played(load, 600).want.target == 1


def test_one_long_request_in_a_pool_of_one_slot_changes_nothing() -> None:
    long = replace(QUIET, ready=1, limit=1.0, in_flight=1.0, arrivals=0.0, holding=60.0)
    assert played(long, 3600).want.target == 1


def test_a_queue_that_no_replica_can_help_changes_nothing() -> None:
    """Where a request may not wait at all, since its first token takes too long by itself."""
    hopeless = replace(QUIET, in_flight=10.0, queued=3, queue_wait=1.5, patience=0.0, arrivals=2.5)
    assert played(hopeless, 600).want.target == 2


def test_a_load_beyond_what_there_is_asks_for_all_that_it_needs() -> None:
    def load(second: int) -> PoolLoad:
        return replace(QUIET, in_flight=16.0, queued=1, arrivals=20.0) if second >= 50 else QUIET

    # 80 slots, of which 74.6 are certain after 600 requests; at most 90 % of those that there are may be in use.
    assert first(load, 200, 11, Rules(max=50)) == 60
    want = played(load, 60, Rules(max=50)).want
    assert (want.rule, want.reason) == (Rule.LOAD, "requests fill 74.6 slots, which takes 11 replicas")


def test_little_is_asked_for_where_only_little_is_known() -> None:
    """Without limits, rates and times it is by the queue alone, one at a time."""
    bare = PoolLoad("gpu", ready=2, queued=5, queue_wait=3.0, patience=1.0)
    assert played(bare, 600).want.target == 3


def test_bursts_are_reckoned_with_as_large_as_they_were_and_half_as_much_again() -> None:
    bursty = replace(QUIET, bursts=Bursts(mean=0.5, peak=6.0, dispersion=9.0))
    # 1.5 x 6 requests/s hold 36 slots; at most 90 % of those that there are may be in use.
    assert first(lambda _: bursty, 60, 5) == 10
    want = played(bursty, 10).want
    assert (want.rule, want.reason) == (Rule.LOAD, "bursts fill 36.0 slots, which takes 5 replicas")
    assert played(replace(bursty, ready=5, limit=40.0), 4000).want.target == 5
    assert played(replace(QUIET, bursts=Bursts(mean=0.5, peak=6.0, dispersion=1.2)), 600).want.target == 2
    assert played(replace(QUIET, bursts=Bursts(mean=0.05, peak=6.0, dispersion=9.0)), 600).want.target == 2


def test_a_load_that_is_a_little_too_much_for_long_goes_out() -> None:
    """Where the last half minute is too short to be certain."""
    steady = replace(QUIET, ready=1, limit=8.0, in_flight=4.4, arrivals=1.1)
    assert played(steady, 600).want.target == 1
    assert played(replace(steady, bursts=Bursts(mean=1.1, peak=1.2, dispersion=1.0)), 600).want.target == 2
    fallen = replace(steady, in_flight=0.4, arrivals=0.1, bursts=Bursts(mean=2.0, peak=3.0, dispersion=1.0))
    assert played(fallen, 600).want.target == 1
    gone = replace(steady, in_flight=0.0, arrivals=0.0, bursts=Bursts(mean=2.0, peak=3.0, dispersion=1.0))
    assert played(gone, 300).want.target == 1


def test_without_rates_those_who_wait_are_the_load() -> None:
    load = replace(QUIET, in_flight=16.0, queued=24, arrivals=None)
    assert played(load, 20, Rules(max=50)).want.target == 5


def test_what_is_expected_is_there_when_it_comes() -> None:
    load = replace(QUIET, expected=Forecast(180.0, 8.0, 10.0))
    want = played(load, 0, Rules(max=50)).want
    assert (want.target, want.rule) == (6, Rule.FORECAST)
    assert want.reason == "up to 10.00 requests/s are expected in 180 s, which takes 6 replicas"


def test_what_is_expected_keeps_those_who_will_be_needed() -> None:
    load = replace(QUIET, ready=4, limit=32.0, expected=Forecast(180.0, 4.0, 5.0))
    assert played(load, 4000).want.target == 4


def test_without_traffic_it_goes_in_to_the_minimum() -> None:
    idle = replace(QUIET, ready=4, burn=9.0, burn_now=None, in_flight=0.0, arrivals=0.0)
    assert first(lambda _: idle, 2000, 2) == 600
    assert first(lambda _: idle, 2000, 1) == 900  # by half in five minutes
    assert played(idle, 3600).want.target == 1
    none = played(idle, 3600, Rules(min=0)).want
    assert (none.target, none.rule) == (0, Rule.HOLD)
    reason = decide(idle, RULES, played(idle, 599).memory, 600.0).want.reason
    assert reason == "there was no request for 10 min; at most 2 in this step"


def test_the_last_replica_stays_for_a_load_that_is_due() -> None:
    idle = replace(QUIET, ready=1, in_flight=0.0, arrivals=0.0, expected=Forecast(180.0, 0.01, 0.5))
    assert played(idle, 3600, Rules(min=0)).want.target == 1
    idle = replace(idle, expected=Forecast(180.0, 0.001, 0.5))
    assert played(idle, 3600, Rules(min=0)).want.target == 0


def test_a_quiet_service_keeps_its_replica() -> None:
    def load(second: int) -> PoolLoad:  # one request in ten minutes
        busy = second % 600 < 5
        return replace(QUIET, ready=1, limit=8.0, in_flight=float(busy), arrivals=1 / 30 if second % 600 < 30 else 0.0)

    assert played(load, 7200, Rules(min=0)).want.target == 1


def test_the_first_request_wakes_a_pool_of_none_at_once() -> None:
    idle = replace(QUIET, ready=1, in_flight=0.0, arrivals=0.0)
    asleep = played(idle, 600, Rules(min=0))
    assert asleep.want.target == 0
    waiting = PoolLoad("gpu", ready=0, queued=200, arrivals=20.0)
    want = decide(waiting, Rules(min=0), asleep.memory, 601.0).want
    assert (want.target, want.rule, want.reason) == (1, Rule.WAKE, "there is no replica, and requests wait (200)")


def test_a_pool_of_none_wakes_though_it_has_just_turned() -> None:
    memory = Memory(target=0, direction=-1, changed_at=590.0, turned_at=590.0)
    assert decide(PoolLoad("gpu", 0, queued=1), Rules(min=0), memory, 600.0).want.target == 1


def test_one_wake_is_enough() -> None:
    load = PoolLoad("gpu", ready=0, starting=1, queued=200, arrivals=20.0, queue_wait=60.0, patience=1.0)
    assert played(load, 600, Rules(min=0)).want.target == 1


def test_a_pool_of_which_nothing_serves_is_not_made_smaller() -> None:
    assert played(PoolLoad("gpu", ready=0, starting=3), 7200).want.target == 3


def test_stale_signals_freeze_a_want_and_what_was_learned() -> None:
    def load(second: int) -> PoolLoad:
        return replace(QUIET, ready=3, burn_now=0.0, age=61.0 if second == 1000 else 60.0)

    assert first(load, 4000, 2) == 1001 + 1800
    want = decide(load(1000), RULES, played(load, 999).memory, 1000.0).want
    assert (want.rule, want.target, want.known) == (Rule.STALE, 3, True)
    assert want.reason == "the signals are 61 s old, so nothing changes"


def test_stale_signals_freeze_what_a_budget_left() -> None:
    memory = replace(played(QUIET, 100).memory, target=9, told=4)
    rules = Rules(cost_per_hour=2.5)
    frozen = decide(replace(QUIET, age=61.0), rules, memory, 101.0)
    assert (frozen.want.target, frozen.want.value, frozen.want.cost_per_hour) == (4, 4.0, 10.0)
    assert (frozen.want.rails, frozen.want.inputs["without_budget"]) == ((Rail.BUDGET,), 9.0)
    assert (frozen.memory.target, frozen.memory.told) == (9, 4)
    assert decide(QUIET, rules, frozen.memory, 102.0).memory.told is None


@pytest.mark.parametrize("age", [inf, nan, -1.0])
def test_before_there_are_signals_nothing_is_known(age: float) -> None:
    decision = decide(PoolLoad("gpu", ready=0, starting=0, age=age), Rules(), Memory(), 0.0)
    assert not decision.want.known
    assert decision.memory == Memory()
    assert decide(replace(QUIET, ready=5), Rules(), decision.memory, 30.0).want.target == 5


def test_a_full_kv_cache_counts_once_requests_wait_for_it() -> None:
    full = replace(QUIET, engines=(EngineLoad(0.0, kv_used=1.0), EngineLoad(None, kv_used=0.96)))
    assert played(full, 600).want.target == 2
    assert played(replace(full, engines=(EngineLoad(3.0, kv_used=1.0), EngineLoad())), 600).want.target == 3


def test_a_kv_cache_that_is_half_full_keeps_both_replicas() -> None:
    assert played(replace(QUIET, engines=(EngineLoad(kv_used=0.5),)), 4000).want.target == 2
    assert played(replace(QUIET, engines=(EngineLoad(kv_used=0.3),)), 4000).want.target == 1


def test_without_limits_the_slots_of_the_engines_are_what_a_pool_has() -> None:
    bare = replace(QUIET, limit=None)
    assert played(replace(bare, engines=(EngineLoad(2.0, slots_used=0.95),)), 600).want.target == 3
    assert played(replace(bare, engines=(EngineLoad(slots_used=0.3),)), 4000).want.target == 1
    assert played(bare, 4000).want.target == 2  # nobody knows what one would carry


def test_a_want_tells_its_inputs_and_its_cost() -> None:
    want = played(replace(QUIET, expected=Forecast(1.0, 1.0, 1.5)), 100, Rules(cost_per_hour=2.5)).want
    assert want.cost_per_hour == 5.0
    assert want.inputs["demand"] == pytest.approx(2.0)
    assert want.inputs["usage"] == pytest.approx(0.125)
    assert (want.inputs["needed"], want.inputs["calm_for"], want.inputs["expected_upper"]) == (1.0, 100.0, 1.5)


@pytest.mark.parametrize("gap", [400.0, -3600.0])
def test_after_a_time_without_a_look_it_is_not_known_who_may_go(gap: float) -> None:
    """A gateway that restarts, or whose clock is set, sees a pool to which clients are just coming back."""
    busy = replace(QUIET, ready=8, in_flight=50.0, limit=64.0, arrivals=12.5)
    before = played(busy, 5000)
    assert before.want.target == 8
    back = replace(busy, in_flight=1.0, arrivals=0.1)
    assert decide(back, RULES, before.memory, 5000.0 + gap).want.target == 8


def test_a_replica_that_starts_slowly_is_not_taken_for_idle() -> None:
    rules = Rules(min=0, warm_up=1200.0)

    def load(second: int) -> PoolLoad:
        if second < 60:
            return PoolLoad("gpu", 0, starting=int(second > 5), queued=1, arrivals=0.0)
        return PoolLoad("gpu", 0, starting=1, arrivals=0.0)

    assert played(load, 900, rules).want.target == 1
    assert first(load, 2 * 1200 + 600, 0, rules) == 2 * 1200, "it never came"
