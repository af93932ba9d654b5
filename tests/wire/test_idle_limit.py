"""How long a connection may be idle follows from what the engine says and from what was seen."""

import pytest

from gateway.wire.idle_limit import IDLE_SECONDS, IdleLimit


@pytest.mark.parametrize(("told", "limit"), [(60.0, IDLE_SECONDS), (3.0, 2.0), (2.0, 1.0), (1.0, 0.5)])
def test_it_is_less_than_what_the_engine_says(told: float, limit: float) -> None:
    idle = IdleLimit()
    idle.told(told, 0.0)
    assert idle.seconds == limit
    assert repr(idle) == f"<IdleLimit {limit:g} s>"


def test_it_is_less_than_what_was_seen_for_five_minutes() -> None:
    idle = IdleLimit()
    idle.closed_after(3.0, 100.0)
    idle.closed_after(3.5, 110.0)
    assert idle.seconds == 2.0
    idle.renew(410.0)
    assert idle.seconds == 2.0
    idle.renew(411.0)
    assert idle.seconds == IDLE_SECONDS


def test_the_shorter_of_both_counts() -> None:
    idle = IdleLimit()
    idle.closed_after(2.0, 100.0)
    idle.told(4.0, 100.0)
    assert idle.seconds == 1.0
    idle.renew(1000.0)
    assert idle.seconds == 3.0
