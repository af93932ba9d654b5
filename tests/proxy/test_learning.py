"""Which late first tokens are held against an engine's limit."""

import pytest

from gateway.exchange import Exchange
from gateway.policy.routing.health import Health
from gateway.policy.routing.pool_state import PoolState
from gateway.policy.slo.objective import Objective, Sli, Target
from gateway.proxy.learning import began
from tests.attempts import attempted
from tests.proxy.routed import routed_to

OBJECTIVE = Objective("default", {Sli.TTFT: Target(0.99, under=2.0)})


@pytest.fixture
def health() -> Health:
    known = Health("gpu/a", PoolState("gpu", 0.0))
    for number in range(20):
        first_token(known, sent=number - 0.1, at=float(number))
    known.slots.looked_at()
    return known


def first_token(health: Health, *, sent: float, at: float) -> None:
    exchange = Exchange("r", "/v1/chat/completions", sent)
    exchange.attempts, exchange.first_content = [attempted(sent)], at
    lease = health.lease(100)
    routed, backend = routed_to("/v1/chat/completions", objective=OBJECTIVE)
    backend.health = health
    began(routed, exchange, backend, lease)
    lease.release()


def test_first_tokens_that_a_loaded_engine_gives_late_are_counted(health: Health) -> None:
    for number in range(10):
        first_token(health, sent=20.0 + number, at=23.0 + number)
    # The first one ends three silent seconds, which may have been a stall: what was sent before its end is left out.
    assert (health.slots.evidence.begun, health.slots.evidence.late) == (7, 7)


def test_what_was_sent_into_a_stall_is_not_held_against_the_limit(health: Health) -> None:
    for number in range(30):
        first_token(health, sent=20.0 + number, at=50.0 + number / 100)
    assert (health.slots.evidence.begun, health.slots.evidence.late) == (1, 0), (
        "one alone was sent late enough to be in time"
    )
    for number in range(20):
        first_token(health, sent=50.4 + number / 2, at=53.0 + number / 2)
    assert health.slots.evidence.late == 14, "what was sent after it"


def test_a_burst_that_takes_long_to_read_is_load_and_no_stall(health: Health) -> None:
    for number in range(40):
        first_token(health, sent=20.0, at=20.1 + number / 10)
    assert health.slots.evidence.late == 20
