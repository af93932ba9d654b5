"""How long a request would wait: its patience, its chance of a slot, and when to ask again."""

from math import inf

from gateway.claim import Claim
from gateway.policy.admission.classes import CLASSES
from gateway.policy.admission.kinds import Kind
from gateway.policy.routing.outlier import Signal
from gateway.proxy.awaited_slots import AwaitedSlots
from gateway.proxy.wait_forecast import WaitForecast
from tests.proxy.test_awaited_slots import awaited

INTERACTIVE = CLASSES["interactive"]


def full(kind: Kind) -> AwaitedSlots:
    """Return two slots, both taken at 0 s by requests of one kind."""
    slots = awaited()
    for health in slots.healths:
        health.slots.limit_to(1)
        health.lease(1, Claim(1, INTERACTIVE.priority, kind=kind), 0.0)
    return slots


def test_slots_come_free_by_how_long_they_were_held() -> None:
    forecast = WaitForecast(full(Kind()))
    assert (forecast.rate, forecast.seconds) == (0.0, 0.0)
    forecast.held(4.0)
    assert (forecast.rate, forecast.seconds) == (0.5, 4.0)
    forecast.held(5.0)
    assert forecast.seconds == 4.05
    assert repr(forecast) == "<WaitForecast 0.5 slots/s>"


def test_the_chance_of_a_slot_is_bounded_only_where_enough_is_known() -> None:
    kind = Kind()
    assert WaitForecast(awaited()).outlook(0, 0.0, 0, 5.0, 1.0).why == "a slot is free"
    forecast = WaitForecast(full(kind))
    assert forecast.outlook(0, 0.0, -1, 5.0, 1.0).why == "lower classes hold slots"
    unknown = forecast.outlook(9, 1.0, 0, 5.0, 1.0)
    assert (unknown.ahead, unknown.chance) == (9, 1.0)
    for _ in range(64):
        kind.ended(10.0)
    first, last = forecast.outlook(0, 0.0, 0, 15.0, 2.0), forecast.outlook(50, 500.0, 0, 15.0, 2.0)
    assert first.why == last.why == "by how long slots have been held"
    assert last.chance < 0.01
    assert first.chance > 0.5


def test_a_backend_that_is_away_has_no_slot_for_anybody() -> None:
    slots = full(Kind())
    away = slots.healths[0]
    away.slots.limit_to(8)
    assert WaitForecast(slots).outlook(3, 1.0, 0, 5.0, 1.0).why == "a slot is free"
    away.symptoms.signal = Signal(gone=True)
    assert WaitForecast(slots).outlook(3, 1.0, 0, 5.0, 1.0).why != "a slot is free"


def test_a_class_waits_no_longer_than_its_threshold_leaves() -> None:
    forecast, kind = WaitForecast(awaited()), Kind()
    without = forecast.patience(INTERACTIVE, kind, inf, 10, cautious=False)
    assert without == INTERACTIVE.max_queue_wait
    assert forecast.patience(INTERACTIVE, kind, 0.5, 10, cautious=False) <= without


def test_the_longer_the_line_the_later_to_ask_again() -> None:
    forecast = WaitForecast(full(Kind()))
    forecast.held(4.0)
    assert forecast.retry_after(0, 0.5) < forecast.retry_after(30, 0.5)
