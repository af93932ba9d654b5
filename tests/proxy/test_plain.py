"""Documents reach the client whole or not at all, while they are short; refusals are gathered, within bounds."""

import json
from typing import Any

import pytest

from gateway.exchange import AttemptEnd, Dialect, Exchange
from gateway.lateness import Lateness
from gateway.proxy.framing import DocumentFraming
from gateway.proxy.naming import Naming
from gateway.proxy.plain import MAX_HELD, MAX_REFUSAL, REFUSAL_SECONDS, PlainRelay, Refusal
from gateway.wire.answer import AnswerHead, Loss
from tests.proxy.clients import Page

HEAD = b"HTTP/1.1 200 OK\r\nx: y\r\n"
ANSWER = b'{"model":"served","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}'
LONG = b'{"model":"served","text":"' + b"x" * MAX_HELD


class Attempt:
    """The attempt whose answer is relayed: it keeps what it is told."""

    committed = False

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def commit(self) -> None:
        self.committed = True

    def complete(self) -> None:
        self.calls.append(("complete",))

    def failed(self, code: int) -> None:
        self.calls.append(("failed", code))

    def drop_upstream(self) -> None:
        self.calls.append(("drop upstream",))

    def refuse(self, status: int, body: bytes) -> None:
        self.calls.append(("refuse", status))

    def fail(self, end: AttemptEnd, detail: str) -> None:
        self.calls.append(("fail", end, detail))


class Relayed:
    """A document on its way from an engine to a client."""

    def __init__(self, length: int | None = None, **how: Any) -> None:
        self.attempt, self.page, self.exchange = Attempt(), Page(), Exchange("r1", "/v1/chat/completions", 0.0)
        usual: dict[str, Any] = {
            "dialect": Dialect.CHAT,
            "whole_json": False,
            "must_be_json": True,
        }
        framing = DocumentFraming(HEAD, length=length, chunked=True)
        self.relay = PlainRelay(self.attempt, self.page, self.exchange, framing=framing, **(usual | how))

    def says(self, *parts: bytes, last: bytes | None = None) -> list[tuple[Any, ...]]:
        """Let parts come, and the last one if there is one; return what the attempt heard."""
        for part in parts:
            self.relay.data([part])
        if last is not None:
            self.relay.last([last] if last else [])
        calls, self.attempt.calls = self.attempt.calls, []
        return calls


def test_a_short_document_is_held_until_it_is_whole() -> None:
    relayed = Relayed()
    assert relayed.says(ANSWER[:20]) == []
    assert (relayed.page.out, relayed.attempt.committed) == (b"", False)
    assert relayed.says(last=ANSWER[20:]) == [("complete",)]
    assert relayed.attempt.committed
    assert relayed.page.took() == b"%bcontent-length: %d\r\n\r\n%b" % (HEAD, len(ANSWER), ANSWER)
    assert (relayed.exchange.prompt_tokens, relayed.exchange.output_tokens) == (3, 4)
    assert relayed.exchange.answer_size == len(ANSWER)


def test_one_that_is_cut_is_none() -> None:
    relayed = Relayed()
    relayed.says(ANSWER[:20])
    relayed.relay.lost(Loss.CLOSED, "the connection was closed")
    assert relayed.says() == [("fail", AttemptEnd.TRUNCATED, "the connection was closed")]
    assert relayed.page.out == b""


def test_a_long_one_flows_as_it_comes() -> None:
    relayed = Relayed()
    assert relayed.says(LONG) == []
    assert relayed.page.took().startswith(HEAD + b"transfer-encoding: chunked\r\n\r\n")
    assert relayed.says(b"more") == []
    assert relayed.page.took() == b"4\r\nmore\r\n"
    assert relayed.says(last=b'"}') == [("complete",)]
    assert relayed.page.took() == b'2\r\n"}\r\n0\r\n\r\n'


def test_a_long_one_that_its_engine_gave_up_is_cut() -> None:
    given_up = b'","choices":[{"index":0,"finish_reason":"abort"}]}'
    relayed = Relayed()
    assert relayed.says(LONG, last=given_up) == [("fail", AttemptEnd.TRUNCATED, "the engine aborted the answer")]
    assert b"0\r\n\r\n" not in relayed.page.took()


def test_one_with_a_length_flows_with_it() -> None:
    relayed = Relayed(length=len(LONG) + 2)
    relayed.says(LONG, last=b'"}')
    assert relayed.page.took() == b'%bcontent-length: %d\r\n\r\n%b"}' % (HEAD, len(LONG) + 2, LONG)


def test_the_client_reads_the_name_that_it_asked_for_and_a_length_that_fits() -> None:
    naming = Naming(b'"a much longer alias"', b'"served"')
    for body, how in ((ANSWER, {}), (LONG + b'"}', {"length": len(LONG) + 2})):
        relayed = Relayed(naming=naming, **how)
        relayed.says(body, last=b"")
        head, _, got = relayed.page.took().partition(b"\r\n\r\n")
        assert got.startswith(b'{"model":"a much longer alias"')
        assert b"content-length: %d" % len(got) in head


@pytest.mark.parametrize("body", [b"<html>", b"error", b""])
def test_what_must_be_json_and_is_not_is_a_failure(body: bytes) -> None:
    assert [call[:2] for call in Relayed().says(last=body)] == [("fail", AttemptEnd.MALFORMED)]
    assert Relayed(must_be_json=False).says(last=body) == [("complete",)]


def test_an_error_inside_a_200_gets_its_own_status() -> None:
    relayed = Relayed()
    assert relayed.says(last=b'{"error":{"message":"x","code":429}}') == [("refuse", 429)]
    assert relayed.page.out == b""
    assert Relayed().says(last=b'{"choices":[{"text":"\\"error\\": {"}]}') == [("complete",)]


def test_one_that_only_closing_ends_has_to_be_whole_json() -> None:
    assert Relayed(whole_json=True).says(ANSWER, last=b"") == [("complete",)]
    assert Relayed(whole_json=True).says(ANSWER[:-1], last=b"") == [
        ("fail", AttemptEnd.TRUNCATED, "the answer was cut: it is not whole JSON")
    ]


def refused(status: int = 400, *fields: tuple[bytes, bytes]) -> tuple[Refusal, list[tuple[AnswerHead, bytes]]]:
    """Return what gathers a refusal that began at 1000 s, and what it is done with."""
    done = list[tuple[AnswerHead, bytes]]()
    return Refusal(AnswerHead(status, list(fields)), lambda *what: done.append(what), 1000.0), done


def test_a_refusal_is_handed_over_whole() -> None:
    refusal, done = refused()
    refusal.data([b"w"])
    refusal.last([b"hy"])
    assert [body for _, body in done] == [b"why"]


def test_of_one_that_is_not_whole_it_is_told_how_it_begins() -> None:
    refusal, done = refused(500, (b"content-type", b"text/html"), (b"etag", b"x"), (b"retry-after", b"3"))
    refusal.data([b"<h1>Internal"])
    refusal.lost(Loss.CLOSED, "closed")
    ((head, body),) = done
    assert head.fields == [(b"retry-after", b"3"), (b"content-type", b"application/json")]
    message = json.loads(body)["error"]["message"]
    assert "was cut" in message
    assert "<h1>Internal" in message


@pytest.mark.parametrize("last", [True, False])
def test_one_that_is_long_is_not_waited_for(last: bool) -> None:
    refusal, done = refused()
    (refusal.last if last else refusal.data)([b"x" * (MAX_REFUSAL + 1)])
    assert "is over 262144 bytes" in json.loads(done[0][1])["error"]["message"]


def test_nor_is_one_that_takes_long() -> None:
    lateness = Lateness()
    refusal, done = refused()
    refusal.check(1000.0 + REFUSAL_SECONDS, 0.0, 2000.0, lateness)
    refusal.check(1010.0 + REFUSAL_SECONDS, 1010.0, 2000.0, lateness)
    assert not done, "the client had let the gateway wait"
    refusal.check(1010.1 + REFUSAL_SECONDS, 1010.0, 2000.0, lateness)
    assert "had not ended after 13.1 s" in json.loads(done[0][1])["error"]["message"]
