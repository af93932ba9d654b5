"""A request on its way: where it may go, what it holds, and what its tenant is charged in the end."""

import pytest

from gateway.exchange import Exchange
from gateway.policy.admission.quota import QuotaLimits
from gateway.proxy.request_ids import RequestIds
from tests.proxy.routed import charged, routed_to

CHAT = "/v1/chat/completions"


def test_one_that_is_moved_holds_what_it_held_and_goes_to_one_backend_alone_where_it_is_pinned() -> None:
    routed, backend = routed_to(CHAT, charge=charged(QuotaLimits(tokens_per_minute=100)), ids=RequestIds())
    route = routed.version.pin(routed.claim, backend)
    moved = routed.moved(routed.model, routed.version, route)
    assert (moved.route, list(moved.route.backends)) == (route, [backend])
    assert moved.claim.only is backend.health
    assert moved.message is routed.message
    assert (moved.spec, moved.claim, moved.charge, moved.ids) == (routed.spec, routed.claim, routed.charge, routed.ids)


def test_in_the_end_its_id_is_free_again() -> None:
    ids = RequestIds()
    routed, _ = routed_to(CHAT, ids=ids)
    assert ids.take("r1") == routed.message.request_id
    routed.settle(Exchange("r1", CHAT, 0.0))
    assert len(ids) == 0


@pytest.mark.parametrize(
    ("prompt", "output", "status", "left"),
    [(3, 4, 200, 93), (None, None, 200, 95), (None, None, 500, 100)],
    ids=["counted by the engine", "seen here", "refused"],
)
def test_its_tenant_is_charged_for_what_was_really_used(
    prompt: int | None, output: int | None, status: int, left: int
) -> None:
    routed, _ = routed_to(CHAT, charge=charged(QuotaLimits(tokens_per_minute=100)))
    assert b"x-ratelimit-remaining-tokens: 90\r\n" in routed.quota_shown
    exchange = Exchange("r1", CHAT, 0.0)
    exchange.prompt_tokens, exchange.output_tokens, exchange.client_status = prompt, output, status
    exchange.prompt_estimate, exchange.content_events = 5, 0
    routed.settle(exchange)
    assert b"x-ratelimit-remaining-tokens: %d\r\n" % left in charged_shown(routed.charge)


def charged_shown(charge: object) -> bytes:
    """Return what the tenant of a charge has left now."""
    tenant = charge._tenant  # type: ignore[attr-defined]  # noqa: SLF001 - no request shows it any more
    shown: bytes = tenant.shown()
    return shown
