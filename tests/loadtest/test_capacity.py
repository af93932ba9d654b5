"""The world that the replay of capacity plays in, and what it shows of loads that do not change."""

import pytest

from loadtest.capacity.replay import RULES, SLOTS, WARM_UP, Engine, crowds, run, steady
from loadtest.capacity.world import Gateway, Pool, Request, hpa, play


class Fixed:
    """Always wants as many."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, pool: Pool, now: float) -> float:
        return self.count


def played(requests: list[Request], ready: int, *, want: int | None = None, until: float = 100.0) -> Pool:
    pool = Pool(slots=1, warm_up=10.0, ready=ready)
    assert play(requests, Fixed(ready if want is None else want), pool, until)
    return pool


def test_a_request_waits_for_the_slot_that_comes_free_first() -> None:
    pool = played([(1.0, 5.0), (1.5, 2.0), (2.0, 1.0), (3.0, 1.0)], 2)
    assert pool.answers == [(1.0, True), (1.5, True), (2.0, True), (3.0, True)]  # at 3.5 and at 4.5
    pool = played([(1.0, 5.0), (1.5, 1.0)], 1)
    assert pool.answers == [(1.0, True), (1.5, False)]  # at 6.0


def test_a_request_that_waits_for_too_long_is_shed() -> None:
    pool = played([(1.0, 50.0), (2.0, 1.0)], 1)
    assert pool.answers == [(1.0, True), (2.0, False)]
    assert not pool.queue


def test_a_replica_serves_after_its_warm_up_and_costs_before() -> None:
    pool = played([(1.0, 50.0), (9.5, 1.0)], 1, want=2)
    assert pool.answers == [(1.0, True), (9.5, True)]  # from 11 s on
    assert pool.replica_seconds == 1 + 2 * 99


def test_replicas_that_go_finish_what_they_have() -> None:
    pool = Pool(slots=1, warm_up=10.0, ready=2)
    play([(1.0, 20.0), (1.2, 9.0)], Fixed(1), pool, 2.0)
    play([(8.5, 1.0)], Fixed(1), pool, 60.0, begin=2.0)
    assert (pool.ready, pool.answers[-1]) == (
        1,
        (8.5, False),
    )


def test_it_stops_where_it_costs_too_much() -> None:
    assert not play([], Fixed(2), Pool(slots=1, warm_up=10.0), 100.0, most=50.0)


def test_crowds_are_minutes_with_twice_as_much_as_ever_before() -> None:
    counts = (3, 4, 9, 10, 2)
    requests = [(60.0 * minute + each, 1.0) for minute, count in enumerate(counts) for each in range(count)]
    assert crowds(requests) == (0.0, 120.0)
    assert Engine(0.1, 1000.0).holding(500, 10) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("replicas", "value", "comes_to"), [(10, 11.0, 10), (10, 11.01, 12), (10, 9.0, 10), (12, 10.798, 11), (0, 1.0, 1)]
)
def test_an_hpa_ignores_a_tenth(replicas: int, value: float, comes_to: int) -> None:
    assert hpa(replicas, value, 0.1) == comes_to


@pytest.mark.parametrize("slots", [0.9, 1.2])
def test_a_load_between_one_replica_and_two_does_not_oscillate(slots: float) -> None:
    result = run(steady(slots, hours=2))
    assert len(result.turns) <= 1
    assert result.share >= 0.99
    assert result.at_end == 1


def test_an_hpa_follows_a_crowd_out_and_in() -> None:
    requests = [(second / 8, 4.0) for second in range(8 * 600)]  # 32 slots for ten minutes
    pool, gateway = Pool(SLOTS, WARM_UP), Gateway(RULES)
    play(requests, gateway, pool, 600.0)
    assert pool.replicas >= 9
    play([], gateway, pool, 3600.0, begin=600.0)
    assert pool.replicas == 1
    assert len(gateway.turns()) == 1
