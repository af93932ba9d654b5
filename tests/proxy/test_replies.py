"""The gateway's own answers: with what the tenant has left, and in the shape that the client reads."""

import json

from gateway.errors import Unavailable
from gateway.exchange import Exchange
from gateway.policy.admission.quota import QuotaLimits
from gateway.proxy.replies import Bodiless, answer, break_off, pass_refusal
from tests.attempts import attempted
from tests.proxy.clients import Page
from tests.proxy.routed import charged, routed_to

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"


def exchange(path: str = CHAT, *, stream: bool = False) -> Exchange:
    made = Exchange("r1", path, 0.0)
    made.stream = stream
    return made


def test_an_error_is_answered_and_noted() -> None:
    charge = charged(QuotaLimits(requests_per_minute=8))
    page, (routed, _), request = Page(), routed_to(CHAT, charge=charge), exchange()
    answer(page, request, Unavailable("later"), routed)
    head, _, body = page.took().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nx-ratelimit-remaining-requests: 7\r\n" in head
    assert b"x-request-id: r1" in head
    assert json.loads(body)["error"]["message"] == "later"
    assert request.client_status == 503


def test_it_tells_how_many_attempts_were_made_to_those_who_may_know() -> None:
    page, (routed, _), request = Page(), routed_to(CHAT), exchange()
    request.attempts = [attempted(), attempted()]
    answer(page, request, Unavailable("later"), routed)
    assert (b"x-gateway-attempts: 2" in page.took()) == routed.spec.shows_labels


def test_an_error_of_messages_has_their_shape() -> None:
    page, (routed, _) = Page(), routed_to(MESSAGES)
    answer(page, exchange(MESSAGES), Unavailable("later"), routed)
    assert json.loads(page.took().partition(b"\r\n\r\n")[2])["type"] == "error"


def test_an_engines_refusal_goes_on_with_its_length() -> None:
    page, request = Page(), exchange()
    pass_refusal(page, request, 400, b"HTTP/1.1 400 Bad Request\r\nx: y\r\n", b"why")
    assert page.took() == b"HTTP/1.1 400 Bad Request\r\nx: y\r\ncontent-length: 3\r\n\r\nwhy"
    assert request.client_status == 400


def test_one_of_messages_is_shaped() -> None:
    page = Page()
    pass_refusal(page, exchange(MESSAGES), 400, b"HTTP/1.1 400 Bad Request\r\n", b'{"detail":"why"}')
    head, _, body = page.took().partition(b"\r\n\r\n")
    assert json.loads(body)["error"] == {"type": "invalid_request_error", "message": "why"}
    assert b"content-length: %d" % len(body) in head


def test_a_stream_that_cannot_be_completed_ends_with_an_error_event_and_no_proper_end() -> None:
    page, (routed, _) = Page(), routed_to(CHAT, stream=True)
    break_off(page, exchange(stream=True), Unavailable("the engine is gone"), routed)
    told = page.took()
    size, _, rest = told.partition(b"\r\n")
    event = rest[: int(size, 16)]
    assert event.startswith(b"data: {")
    assert json.loads(event.removeprefix(b"data: "))["error"]["message"] == "the engine is gone"
    assert b"[DONE]" not in told
    assert page.ended == "broken off"


def test_a_document_is_broken_off_without_a_word() -> None:
    page, (routed, _) = Page(), routed_to(CHAT)
    break_off(page, exchange(), Unavailable("gone"), routed)
    assert (page.took(), page.ended) == (b"", "broken off")


def test_who_wants_the_head_alone_gets_the_length_of_a_body_that_does_not_come() -> None:
    page = Page(keep_alive=False)
    Bodiless(page).reply(200, b"x: y\r\n", b"hello")
    assert page.took() == b"HTTP/1.1 200 OK\r\nx: y\r\nconnection: close\r\ncontent-length: 5\r\n\r\n"
