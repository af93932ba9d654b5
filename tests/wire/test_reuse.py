"""A connection that was closed just before its request came is told from one that was lost at work."""

import pytest

from gateway.wire.reuse import IMMEDIATE, LEAST_IDLE, Reuse


def used_again(idle: float, connect_seconds: float = 0.0) -> Reuse:
    """Return a connection that is used again at 100 s, after so long."""
    reuse = Reuse()
    reuse.connect_seconds = connect_seconds
    reuse.rest(100.0 - idle)
    assert reuse.take(100.0) == idle
    return reuse


@pytest.mark.parametrize(
    ("idle", "connect_seconds", "after", "stale"),
    [
        (LEAST_IDLE, 0.0, IMMEDIATE / 2, True),
        (LEAST_IDLE, 0.0, IMMEDIATE * 2, False),
        (LEAST_IDLE / 2, 0.0, IMMEDIATE / 2, False),
        (LEAST_IDLE, IMMEDIATE, IMMEDIATE * 1.5, True),
        (LEAST_IDLE, IMMEDIATE, IMMEDIATE * 2.5, False),
    ],
)
def test_one_that_had_been_idle_and_closes_within_a_round_trip_was_stale(
    idle: float, connect_seconds: float, after: float, stale: bool
) -> None:
    assert used_again(idle, connect_seconds).was_stale(100.0 + after) is stale


def test_a_new_one_never_was() -> None:
    assert not Reuse().was_stale(0.0)
    assert repr(Reuse()) == "<Reuse not yet>"
    assert repr(used_again(2.0)) == "<Reuse after 2.0 s idle>"
