"""Who carries an answer is chosen by its head: events, a document, or nothing that fits what has begun."""

import pytest

from gateway.exchange import AttemptEnd, Exchange
from gateway.proxy.carrier import carrier
from gateway.proxy.plain import PlainRelay, Refusal
from gateway.proxy.relay import StreamRelay
from gateway.wire.answer import AnswerHead
from tests.proxy.clients import Page
from tests.proxy.routed import routed_to
from tests.proxy.test_plain import ANSWER, Attempt

CHAT = "/v1/chat/completions"
HEAD = b"HTTP/1.1 200 OK\r\n"


class Carried:
    """An answer with this content type, and who carries it."""

    def __init__(self, kind: bytes, *fields: tuple[bytes, bytes], opened: bool = False, head: bytes = HEAD) -> None:
        self.attempt, self.page, self.exchange = Attempt(), Page(), Exchange("r1", CHAT, 0.0)
        self.exchange.opened = opened
        routed, _ = routed_to(CHAT)
        self.relay = carrier(
            self.attempt,
            self.page,
            self.exchange,
            routed,
            answer=AnswerHead(200, [(b"content-type", kind), *fields]),
            head=head,
            clock=lambda: 0.0,
            max_event=1000,
        )


@pytest.mark.parametrize("kind", [b"text/event-stream", b"Text/Event-Stream; charset=utf-8"])
def test_events_are_relayed_as_a_stream_that_proxies_must_not_hold_back(kind: bytes) -> None:
    carried = Carried(kind)
    assert isinstance(carried.relay, StreamRelay)
    assert (carried.exchange.stream, carried.exchange.client_status) == (True, 200)
    carried.relay.data([b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'])
    head = carried.page.took().partition(b"\r\n\r\n")[0]
    for field in (b"cache-control: no-transform", b"x-accel-buffering: no", b"transfer-encoding: chunked"):
        assert head.count(field) == 1


def test_an_engines_own_word_on_that_is_kept() -> None:
    carried = Carried(b"text/event-stream", head=HEAD + b"x-accel-buffering: yes\r\n")
    carried.relay.data([b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'])
    assert carried.page.took().count(b"x-accel-buffering") == 1


def test_a_document_is_relayed_whole() -> None:
    carried = Carried(b"application/json", (b"content-length", b"%d" % len(ANSWER)))
    assert isinstance(carried.relay, PlainRelay)
    carried.relay.last([ANSWER])
    assert carried.attempt.calls == [("complete",)]
    assert not carried.exchange.stream


def test_one_that_only_closing_ends_has_to_be_whole_json() -> None:
    carried = Carried(b"application/json")
    carried.relay.last([ANSWER[:-1]])
    assert [call[:2] for call in carried.attempt.calls] == [("fail", AttemptEnd.TRUNCATED)]


def test_sound_and_pictures_need_not_be_json() -> None:
    for kind, call in ((b"audio/mpeg", "complete"), (b"text/html", "fail")):
        carried = Carried(kind, (b"content-length", b"3"))
        carried.relay.last([b"ID3"])
        assert carried.attempt.calls[0][0] == call


def test_a_document_where_a_stream_had_been_begun_is_malformed() -> None:
    carried = Carried(b"application/json", (b"content-length", b"2"), opened=True)
    assert isinstance(carried.relay, Refusal)
    assert carried.exchange.stream
    carried.relay.last([b"{}"])
    assert [call[:2] for call in carried.attempt.calls] == [("fail", AttemptEnd.MALFORMED)]
