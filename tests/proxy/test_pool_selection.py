"""Where a request may use several pools, the pool is selected first, and why is told."""

from math import inf
from typing import Any

import pytest

from gateway.exchange import Exchange
from gateway.policy.slo.objective import DEFAULT
from gateway.proxy.pool_selection import need_for, need_of, pool_for
from tests.proxy.front import CHAT, Front, Opened
from tests.proxy.test_finding import routed

ROUTES: dict[str, Any] = {
    "pools": {name: {"backends": [f"http://127.0.0.1:{port}"]} for name, port in (("cheap", 8001), ("fast", 8002))},
    "models": {"m": {"versions": {"v1": {"pools": ["cheap", "fast"]}}}},
}


@pytest.fixture
def front(opened: Opened) -> Front:
    """Return a front whose model has two pools."""
    return opened(ROUTES)


def test_the_first_pool_is_used_while_it_does_well(front: Front) -> None:
    request = routed(front)
    option, routing = pool_for(request.route, need_of(request, Exchange("r1", CHAT, 0.0)), list(front.registry), 0.0)
    assert option.peers.pool == "cheap"
    assert routing is not None
    assert str(routing).startswith("pool cheap, ")
    assert "fast" in str(routing), "the other is named with what is known of it"


def test_a_pool_without_a_slot_is_passed_over(front: Front) -> None:
    cheap, _ = front.registry
    cheap.health.slots.limit_to(0)
    request = routed(front)
    option, _ = pool_for(request.route, need_of(request, Exchange("r1", CHAT, 0.0)), list(front.registry), 0.0)
    assert option.peers.pool == "fast"


def test_where_one_pool_is_left_there_is_nothing_to_tell(front: Front) -> None:
    _, fast = front.registry
    request = routed(front)
    option, routing = pool_for(request.route, need_of(request, Exchange("r1", CHAT, 0.0)), [fast], 0.0)
    assert (option.peers.pool, list(option.backends), routing) == ("fast", [fast], None)


def test_a_need_is_what_the_objective_says_for_such_a_prompt(front: Front) -> None:
    model = front.current.table.model("m")
    short, long = need_for(model, DEFAULT, 100), need_for(model, DEFAULT, 10_000)
    assert (short.ttft, long.ttft) == (2.0, 5.0)
    assert (short.tpot, short.e2e) == (0.1, inf)
    assert need_for(model, DEFAULT, 100, streams=False).ttft == inf, "which only a stream shows"
    assert need_for(model, DEFAULT, 100, output=3.0).output == 3.0
