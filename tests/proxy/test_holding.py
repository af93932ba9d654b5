"""A request that is held is counted once by its pool, and its stream kept alive."""

from gateway.exchange import AttemptEnd, Exchange
from gateway.policy.routing.pool_state import PoolState
from gateway.policy.routing.readiness import Readiness, State
from gateway.policy.routing.waking import FROM_ZERO, Waking
from gateway.proxy.holding import Hold, waking_for
from gateway.proxy.live_version import LivePool
from gateway.proxy.relay import KEEP_ALIVE
from gateway.proxy.routed_request import RoutedRequest
from tests.proxy.clients import Page
from tests.proxy.routed import routed_to

CHAT = "/v1/chat/completions"
READY = Readiness(State.READY, "probes pass")
LOST = Readiness(State.NOT_READY, "refused", failed_probes=3)


def scaling(routed: RoutedRequest) -> Waking:
    """Let the pool of a request scale from zero."""
    pool = routed.route.pools[0]
    pool.peers.waking = Waking(FROM_ZERO)
    return pool.peers.waking


def test_it_is_counted_until_it_is_let_go() -> None:
    routed, _ = routed_to(CHAT)
    waking = scaling(routed)
    hold = Hold(1.0)
    hold.follow(routed)
    hold.follow(routed)
    assert (waking.held, repr(hold)) == (1, "<Hold by <Waking 1 held>>")
    hold.let_go()
    hold.let_go()
    assert waking.held == 0


def test_after_a_reload_the_pool_that_it_may_use_then_counts_it() -> None:
    routed, _ = routed_to(CHAT)
    waking = scaling(routed)
    hold = Hold(1.0)
    hold.follow(routed)
    assert waking.held == 1
    other, _ = routed_to(CHAT)
    hold.follow(other)
    assert (waking.held, hold.waking) == (0, None)
    hold.follow(routed)
    assert waking.held == 1


def test_only_a_pool_without_an_engine_holds_requests() -> None:
    routed, backend = routed_to(CHAT)
    assert waking_for(routed, None) is None
    waking = scaling(routed)
    assert waking_for(routed, None) is None, "its backend may be tried"
    backend.learn(LOST)
    assert waking_for(routed, None) is waking
    assert waking_for(routed, (AttemptEnd.CONNECT_FAILED, "refused", backend)) is waking
    assert waking_for(routed, (AttemptEnd.SERVER_ERROR, "status 500", backend)) is None


def test_a_pool_whose_engines_run_but_are_drained_holds_nothing() -> None:
    routed, backend = routed_to(CHAT)
    waking = scaling(routed)
    backend.learn(READY)
    backend.availability.drain(drained=True)
    assert waking_for(routed, None) is None, "somebody wants it so"
    backend.availability.leave(leaving=True)
    assert waking_for(routed, None) is waking, "it goes"
    backend.availability.leave(leaving=False)
    backend.availability.sleep(asleep=True)
    assert waking_for(routed, None) is waking, "it sleeps"
    backend.availability.sleep(asleep=False)
    backend.learn(LOST)
    assert waking_for(routed, None) is waking, "it has gone"


def test_a_request_that_no_engine_has_seen_is_held_though_its_backend_is_not_given_up_yet() -> None:
    routed, backend = routed_to(CHAT)
    waking = scaling(routed)
    assert waking_for(routed, (AttemptEnd.CONNECT_FAILED, "refused", backend)) is waking


def test_the_first_pool_that_scales_from_zero_is_woken() -> None:
    routed, _ = routed_to(CHAT)
    second = PoolState("second", 0.0)
    second.waking = Waking(FROM_ZERO)
    routed.route.pools = [*routed.route.pools, LivePool(second, [])]
    assert routed.route.waking is second.waking
    assert scaling(routed) is routed.route.waking


def test_comments_keep_a_stream_alive_and_nothing_is_sent_where_none_was_asked_for() -> None:
    routed, _ = routed_to(CHAT, stream=True)
    hold, page, exchange = Hold(1.0), Page(), Exchange("r1", CHAT, 1.0)
    hold.keep_alive(page, exchange, routed, 1.0 + KEEP_ALIVE - 0.1)
    assert (page.out, exchange.opened) == (b"", False)
    hold.keep_alive(page, exchange, routed, 1.0 + KEEP_ALIVE)
    head, _, body = page.out.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"x-accel-buffering: no" in head
    assert body == b"22\r\n: waiting for an engine to start\n\n\r\n"
    assert (exchange.opened, exchange.client_status) == (True, 200)
    hold.keep_alive(page, exchange, routed, 1.0 + 2 * KEEP_ALIVE)
    assert page.out.endswith(2 * body)

    whole, _ = routed_to(CHAT)
    page = Page()
    Hold(1.0).keep_alive(page, Exchange("r2", CHAT, 1.0), whole, 100.0)
    assert page.out == b""
