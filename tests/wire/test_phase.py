"""How long a client's connection may stay as it is between two requests."""

import pytest

from gateway.wire.guard import Limits
from gateway.wire.phase import (
    BODY,
    COMING,
    FRESH,
    HEAD,
    IDLE,
    LAST_CALL,
    LINGER,
    LINGER_LONGEST,
    LINGER_SECONDS,
    Phase,
    lingers_until,
    seconds_in,
)

LIMITS = Limits(head_seconds=1.0, body_seconds=2.0, keep_alive=3.0)


@pytest.mark.parametrize(
    ("phase", "seconds"), [(FRESH, 1.0), (HEAD, 1.0), (BODY, 2.0), (IDLE, 3.0), (LINGER, LINGER_SECONDS)]
)
def test_each_phase_has_its_limit(phase: Phase, seconds: float) -> None:
    assert seconds_in(phase, LIMITS, draining=False) == seconds


def test_a_gateway_that_drains_keeps_idle_connections_for_one_last_request_only() -> None:
    assert seconds_in(IDLE, LIMITS, draining=True) == LAST_CALL
    assert seconds_in(BODY, LIMITS, draining=True) == 2.0


def test_a_request_is_coming_from_its_first_byte_to_its_last() -> None:
    assert {HEAD, BODY} == COMING


def test_what_a_refused_client_still_sends_is_read_away_for_a_while() -> None:
    assert lingers_until(100.0, 102.0) == 102.0 + LINGER_SECONDS
    assert lingers_until(100.0, 129.0) == 100.0 + LINGER_LONGEST
