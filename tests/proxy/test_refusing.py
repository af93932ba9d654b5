"""Heads of engines' answers as clients get them."""

import pytest

from gateway.exchange import Exchange
from gateway.policy.admission.quota import QuotaLimits
from gateway.proxy.refusing import head_of, refused, with_retry_after
from gateway.wire.answer import AnswerHead
from gateway.wire.heads import find
from tests.proxy.routed import charged, routed_to

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize("status", [429, 503])
def test_one_that_refuses_work_says_when_to_ask_again(status: int) -> None:
    routed, _ = routed_to(CHAT)
    told = find(with_retry_after(status, [(b"x", b"y")], routed, lambda: 0.5), b"retry-after")
    assert told is not None
    assert int(told) >= 1


def test_the_engines_own_word_is_kept() -> None:
    routed, _ = routed_to(CHAT)
    fields = [(b"retry-after", b"7")]
    assert with_retry_after(503, fields, routed, lambda: 0.5) == fields


@pytest.mark.parametrize("status", [200, 400, 404, 500, 502])
def test_any_other_says_nothing_of_that(status: int) -> None:
    routed, _ = routed_to(CHAT)
    assert with_retry_after(status, [], routed, lambda: 0.5) == []


@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_head_has_what_the_engine_said_and_what_the_gateway_has_to_say(keep_alive: bool) -> None:
    routed, backend = routed_to(CHAT, charge=charged(QuotaLimits(requests_per_minute=8)))
    exchange = Exchange("r1", CHAT, 0.0)
    head = head_of(routed, exchange, backend, b"HTTP/1.1 200 OK\r\nx: y\r\n", keep_alive=keep_alive)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    for field in (b"x: y\r\n", b"x-request-id: r1\r\n", routed.quota_shown):
        assert head.count(field) == 1
    assert (b"connection: close\r\n" in head) is not keep_alive


def test_an_engines_refusal_is_kept_with_its_own_words_and_a_time_to_ask_again() -> None:
    routed, backend = routed_to(CHAT)
    answer = AnswerHead(503, [(b"content-type", b"text/plain"), (b"connection", b"x-hop"), (b"x-hop", b"1")])
    status, head, body = refused(
        routed, Exchange("r1", CHAT, 0.0), backend, answer, b"busy", keep_alive=True, chance=lambda: 0.5
    )
    assert (status, body) == (503, b"busy")
    assert b"\r\ncontent-type: text/plain\r\n" in head
    assert b"\r\nretry-after: " in head
    assert b"x-hop" not in head
