"""How many replicas carry a load: by slots as in a queue with several servers, else by what the engines say."""

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.capacity.needs import carried_by, certain, demand_now, late_share, needed, needed_to_stay, usage
from gateway.policy.capacity.want import EngineLoad, PoolLoad

BUDGET = 0.01


def exact(demand: float, slots: int, patience: float, holding: float) -> float:
    """Return how likely one waits longer in M/M/c, by the textbook's sum."""
    if demand >= slots:
        return float(demand > 0)
    term = rest = 1.0
    for each in range(1, slots):
        term *= demand / each
        rest += term
    full = term * demand / slots / (1 - demand / slots)
    return full / (rest + full) * exp(-(slots - demand) * patience / holding)


def slow(demand: float, each: int, use: float, patience: float, holding: float) -> int:
    """Return how many replicas it takes, tried one after the other from none."""
    count = 0
    while demand > count * each * use + 1e-6 or exact(demand, count * each, patience, holding) > BUDGET:
        count += 1
    return count


@given(
    demand=st.one_of(st.just(0.0), st.floats(0.01, 120.0)),
    each=st.integers(1, 32),
    use=st.sampled_from([0.75, 0.9]),
    patience=st.floats(0.05, 10.0),
    holding=st.floats(0.1, 60.0),
)
def test_as_many_as_erlang_would_take(demand: float, each: int, use: float, patience: float, holding: float) -> None:
    load = PoolLoad("gpu", 1, patience=patience, holding=holding)
    assert carried_by(demand, each, use, load, BUDGET) == slow(demand, each, use, patience, holding)


@given(st.floats(0.0, 300.0), st.integers(1, 300), st.integers(1, 20))
def test_more_replicas_are_never_later_nor_more_load_earlier(demand: float, slots: int, more: int) -> None:
    late = late_share(demand, slots, 1.0, 5.0)
    assert 0.0 <= late <= 1.0
    assert late_share(demand, slots + more, 1.0, 5.0) <= late + 1e-12
    assert late_share(demand + more, slots, 1.0, 5.0) >= late - 1e-12


def test_thousands_of_slots_are_used_to_what_they_may_be() -> None:
    load = PoolLoad("gpu", 1, patience=1.0, holding=4.0)
    assert carried_by(90_000.0, 100.0, 0.9, load, BUDGET) == 1000


def test_no_load_needs_no_replica() -> None:
    assert carried_by(0.0, 8.0, 0.9, PoolLoad("gpu", 1, patience=1.0, holding=4.0), 0.01) == 0


def test_a_load_beyond_all_bounds_stays_a_number() -> None:
    assert carried_by(1e12, 8.0, 0.9, PoolLoad("gpu", 1), 0.01) == 100_000


def test_the_load_is_who_has_a_slot_while_some_are_free_and_else_who_comes() -> None:
    free = PoolLoad("gpu", 2, in_flight=10.0, limit=16.0, arrivals=9.0, holding=4.0)
    assert demand_now(free, 9.0) == 9.0
    full = PoolLoad("gpu", 2, in_flight=15.0, limit=16.0, arrivals=9.0, holding=4.0)
    assert demand_now(full, 9.0) == 36.0
    waiting = PoolLoad("gpu", 2, in_flight=10.0, queued=3, limit=16.0, arrivals=9.0)
    assert demand_now(waiting, 9.0) == 13.0


@pytest.mark.parametrize(
    ("engines", "count"),
    [
        ((), None),
        ((EngineLoad(),), None),
        ((EngineLoad(slots_used=0.9), EngineLoad(slots_used=0.3), EngineLoad()), 3),
        ((EngineLoad(slots_used=0.2, kv_used=0.8),), 4),
    ],
)
def test_without_limits_it_is_what_the_engines_say(engines: tuple[EngineLoad, ...], count: int | None) -> None:
    load = PoolLoad("gpu", 3, engines=engines)
    assert needed_to_stay(load, 1.0) == count
    assert needed(load, 1.0, 0.75, 0.01) is None


def test_what_is_certain_of_a_demand_grows_with_the_requests() -> None:
    assert [certain(10.0, requests) for requests in (0.0, 2.0, 16.0, 400.0)] == [0.0, 0.0, 5.9, 9.18]


def test_what_is_in_use_is_the_scarcest() -> None:
    assert usage(PoolLoad("gpu", 1), 3.0) is None
    assert usage(PoolLoad("gpu", 1, limit=4.0, engines=(EngineLoad(kv_used=0.5),)), 3.0) == 0.75
    assert usage(PoolLoad("gpu", 1, limit=4.0, engines=(EngineLoad(kv_used=0.9),)), 3.0) == 0.9
