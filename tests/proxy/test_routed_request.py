"""A request on its way: where it may go, the bytes that go there, and what its tenant is charged in the end."""

import json

import pytest

from gateway.exchange import Exchange
from gateway.policy.admission.quota import QuotaLimits
from gateway.proxy.request_ids import RequestIds
from gateway.wire.body import read_json
from gateway.wire.rope import Rope
from tests.proxy.routed import charged, routed_to

CHAT = "/v1/chat/completions"


def test_it_is_written_for_its_backend() -> None:
    routed, backend = routed_to(CHAT)
    routed.fields, routed.engine_id, routed.body = b"x-mine: 1\r\n", "r1", b"{}"
    head, rest = routed.written_for(backend)
    assert rest is None
    assert head.startswith(b"POST %b/v1/chat/completions HTTP/1.1\r\n" % backend.base_path)
    assert head.endswith(b"\r\nx-mine: 1\r\nx-request-id: r1\r\ncontent-length: 2\r\n\r\n{}")


def test_a_long_body_follows_its_head() -> None:
    routed, backend = routed_to(CHAT)
    routed.body = Rope((b"a", b"b"))
    head, rest = routed.written_for(backend)
    assert rest is routed.body
    assert head.endswith(b"content-length: 2\r\n\r\n")


def test_the_model_in_its_body_is_the_one_that_engines_serve() -> None:
    routed, _ = routed_to(CHAT, stream=True)
    routed.write(read_json(b'{"model":"alias","stream":true,"messages":[]}'))
    assert isinstance(routed.body, bytes)
    assert json.loads(routed.body)["model"] == routed.version.served_model


def test_once_it_is_answered_what_another_attempt_would_need_is_let_go_of() -> None:
    routed, _ = routed_to(CHAT)
    routed.write(read_json(b'{"model":"alias","messages":[]}'))
    routed.forget()
    assert (routed.body, routed.fields, routed.given, routed.urgent_body) == (b"", b"", None, None)


def test_one_that_is_pinned_goes_to_one_backend_alone() -> None:
    routed, backend = routed_to(CHAT)
    routed.pin(backend)
    assert list(routed.route.backends) == [backend]
    assert routed.claim.only is backend.health


def test_in_the_end_its_id_is_free_again() -> None:
    routed, _ = routed_to(CHAT)
    routed.ids = RequestIds()
    routed.engine_id = routed.ids.take("r1")
    routed.settle(Exchange("r1", CHAT, 0.0))
    assert len(routed.ids) == 0


@pytest.mark.parametrize(
    ("prompt", "output", "status", "left"),
    [(3, 4, 200, 93), (None, None, 200, 95), (None, None, 500, 100)],
    ids=["counted by the engine", "seen here", "refused"],
)
def test_its_tenant_is_charged_for_what_was_really_used(
    prompt: int | None, output: int | None, status: int, left: int
) -> None:
    routed, _ = routed_to(CHAT)
    routed.charge = charged(QuotaLimits(tokens_per_minute=100))
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
