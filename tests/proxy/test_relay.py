"""A stream is held back until it commits to something; from then on each read becomes one write, and is measured."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.exchange import AttemptEnd, Dialect, Exchange
from gateway.proxy.naming import Naming
from gateway.proxy.relay import KEEP_ALIVE, StreamRelay
from gateway.wire.answer import Loss
from gateway.wire.sse import Scanner
from tests.attempts import attempted
from tests.proxy.clients import Page
from tests.proxy.test_plain import Attempt
from tests.waiting import HandClock

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
ROLE = b'data: {"model":"served","choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
TOKEN = b'data: {"model":"served","choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
LAST = b'data: {"model":"served","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


class Relayed:
    """A stream on its way from an engine to a client."""

    def __init__(self, **how: Any) -> None:
        self.attempt, self.page, self.clock = Attempt(), Page(), HandClock()
        self.exchange = Exchange("r1", "/v1/chat/completions", self.clock())
        self.exchange.stream, self.exchange.itl_bounds = True, (0.1, 1.0)
        self.exchange.attempts = [attempted(self.clock())]
        usual: dict[str, Any] = {"head": HEAD, "chunked": False, "clock": self.clock}
        scanner = how.pop("scanner", None) or Scanner(Dialect.CHAT)
        self.relay = StreamRelay(self.attempt, self.page, self.exchange, scanner, **(usual | how))

    def says(self, *parts: bytes, last: bytes | None = None) -> bytes:
        """Let parts come, and the last one if there is one; return what the client got."""
        for part in parts:
            self.relay.data([part])
        if last is not None:
            self.relay.last([last] if last else [])
        return self.page.took()

    def heard(self) -> list[tuple[Any, ...]]:
        """Return what the attempt heard since the last call."""
        calls, self.attempt.calls = self.attempt.calls, []
        return calls


def test_nothing_is_sent_before_the_first_output() -> None:
    relayed = Relayed()
    assert relayed.says(ROLE) == b""
    assert not relayed.attempt.committed
    assert relayed.says(TOKEN) == HEAD + ROLE + TOKEN
    assert relayed.attempt.committed


def test_from_then_on_each_read_is_one_write_of_whole_events() -> None:
    relayed = Relayed()
    relayed.says(ROLE + TOKEN)
    assert relayed.says(TOKEN[:10]) == b""
    assert relayed.says(TOKEN[10:] + TOKEN) == 2 * TOKEN
    assert relayed.says(last=LAST + DONE) == LAST + DONE
    assert relayed.heard() == [("complete",)]


def test_in_chunks_each_write_is_framed_and_the_end_is_told() -> None:
    relayed = Relayed(chunked=True)
    assert relayed.says(TOKEN) == HEAD + b"%x\r\n%b\r\n" % (len(TOKEN), TOKEN)
    assert relayed.says(last=LAST + DONE) == b"%x\r\n%b\r\n0\r\n\r\n" % (len(LAST + DONE), LAST + DONE)


def in_a_chunk(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


def test_a_whole_chunk_is_passed_on_as_it_came_once_events_like_it_are_known() -> None:
    relayed = Relayed(chunked=True)
    chunk = in_a_chunk(TOKEN)
    assert not relayed.relay.chunk(chunk, TOKEN)  # nothing has been written yet
    relayed.says(ROLE, TOKEN)
    assert not relayed.relay.chunk(chunk, TOKEN)  # one event says nothing of the next
    relayed.says(TOKEN, TOKEN)
    relayed.clock.advance(0.05)
    assert relayed.relay.chunk(chunk, TOKEN)
    assert relayed.page.took() == chunk
    assert (relayed.exchange.content_events, relayed.exchange.last_content) == (4, relayed.clock())
    assert sum(relayed.exchange.itl) == 3
    assert not relayed.relay.chunk(in_a_chunk(LAST), LAST)
    relayed.says(TOKEN[:10])
    assert not relayed.relay.chunk(chunk, TOKEN)  # it is the rest of another event
    assert relayed.page.took() == b""


TEXTS = (b"x", b" two", b"\\n", b'\\"', b"\\\\", b'\\\\"', b"\xe2\x82", b"finish_reason", b"[DONE]", b"", b"a" * 129)
ODD = (
    ROLE,
    LAST,
    LAST.replace(b"{}", b'{"content":"x"}'),
    LAST.replace(b"stop", b"abort"),
    LAST.replace(b"null", b'""'),
    TOKEN.replace(b"content", b"reasoning_content"),
    TOKEN.replace(b"}}]", b'}}],"usage":{"prompt_tokens":3,"completion_tokens":1}'),
    b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n',
    b'data: {"error":{"code":500}}\n\n',
    b": ping\n\n",
    TOKEN[:-1],
    TOKEN.replace(b"\n", b"\r\n"),
    TOKEN + TOKEN,
    DONE,
)
TOKENS = st.sampled_from([TOKEN.replace(b'"x"', b'"%b"' % text) for text in TEXTS])


@settings(max_examples=300, deadline=None)
@given(st.lists(TOKENS | TOKENS | st.sampled_from(ODD), max_size=12), st.booleans(), st.booleans())
def test_whether_a_chunk_is_passed_on_or_read_the_same_goes_out(events: list[bytes], strip: bool, named: bool) -> None:
    naming = Naming(b'"asked"', b'"served"') if named else None
    passing, reading = (
        Relayed(chunked=True, naming=naming, scanner=Scanner(Dialect.CHAT, strip_usage=strip)) for _ in range(2)
    )
    for number, event in enumerate([TOKEN] * 3 + events):
        for relayed in (passing, reading):
            relayed.clock.advance(0.02 * number)
        if not passing.relay.chunk(in_a_chunk(event), event):
            passing.relay.data([event])
        reading.relay.data([event])
        assert passing.page.took() == reading.page.took()
        if (heard := passing.heard()) or reading.attempt.calls:
            assert heard == reading.heard()
            break
    one, other = passing.exchange, reading.exchange
    assert (one.content_events, one.itl, one.itl_sum) == (other.content_events, other.itl, other.itl_sum)
    assert (one.first_content, one.last_content) == (other.first_content, other.last_content)
    assert repr(passing.relay.scanner) == repr(reading.relay.scanner)


def test_a_chunk_is_written_anew_where_the_client_gets_none_or_a_name_is_replaced() -> None:
    for how in ({"chunked": False}, {"chunked": True, "naming": Naming(b'"asked"', b'"served"')}):
        relayed = Relayed(**how)
        relayed.says(TOKEN, TOKEN, TOKEN)
        assert not relayed.relay.chunk(in_a_chunk(TOKEN), TOKEN)


def test_tokens_and_the_gaps_between_them_are_measured() -> None:
    relayed = Relayed()
    for gap in (2.0, 0.05, 0.5, 5.0):
        relayed.clock.advance(gap)
        relayed.says(TOKEN)
    exchange = relayed.exchange
    assert (exchange.ttft, exchange.content_events) == (2.0, 4)
    assert exchange.itl == [1, 1, 1]
    assert exchange.itl_sum == pytest.approx(5.55)


def test_a_gap_in_which_the_client_read_nothing_is_not_the_engines() -> None:
    relayed = Relayed()
    relayed.says(TOKEN)
    relayed.clock.advance(30.0)
    relayed.relay.resumed()
    relayed.says(TOKEN)
    assert relayed.exchange.itl_sum == 0.0


def test_an_error_before_the_first_output_gets_a_status_of_its_own() -> None:
    relayed = Relayed()
    assert relayed.says(b'data: {"error":{"message":"x","code":429}}\n\n') == b""
    assert relayed.heard() == [("refuse", 429)]


def test_one_after_it_reaches_the_client_as_it_is() -> None:
    relayed = Relayed()
    relayed.says(TOKEN)
    error = b'data: {"error":{"message":"x","code":500}}\n\n'
    assert relayed.says(last=error) == error
    assert relayed.heard() == [("failed", 500)]


@pytest.mark.parametrize(("before", "end"), [(ROLE, AttemptEnd.CLOSED_EARLY), (TOKEN, AttemptEnd.TRUNCATED)])
def test_a_stream_that_is_cut_is_tried_again_only_before_its_first_output(before: bytes, end: AttemptEnd) -> None:
    relayed = Relayed()
    relayed.says(before)
    relayed.relay.lost(Loss.CLOSED, "the connection was closed")
    assert relayed.heard() == [("fail", end, "the connection was closed")]


def test_one_that_ends_without_its_terminator_is_truncated() -> None:
    relayed = Relayed()
    relayed.says(TOKEN, last=b"")
    assert relayed.heard() == [("fail", AttemptEnd.TRUNCATED, "the stream ended without its terminator")]


def test_a_cut_after_the_terminator_means_nothing() -> None:
    relayed = Relayed()
    relayed.says(TOKEN + LAST + DONE)
    relayed.relay.lost(Loss.CLOSED, "closed")
    assert ("complete",) in relayed.heard()


def test_the_client_reads_the_name_that_it_asked_for_in_every_event() -> None:
    relayed = Relayed(naming=Naming(b'"alias"', b'"served"'))
    assert relayed.says(ROLE, TOKEN, TOKEN, last=LAST + DONE).count(b'"model":"alias"') == 4


def test_a_client_that_waits_long_for_the_first_token_gets_comments_and_nothing_is_committed() -> None:
    relayed = Relayed()
    relayed.says(ROLE)
    relayed.clock.advance(KEEP_ALIVE)
    assert not relayed.relay.check(relayed.clock())
    assert relayed.page.took() == HEAD + b": waiting for the first token\n\n"
    assert (relayed.exchange.opened, relayed.attempt.committed) == (True, False)
    relayed.clock.advance(1.0)
    relayed.relay.check(relayed.clock())
    assert relayed.says(TOKEN) == ROLE + TOKEN, "the head is not sent twice"


def test_framing_that_goes_on_after_the_terminator_is_not_waited_for() -> None:
    relayed = Relayed()
    relayed.says(TOKEN + LAST + DONE)
    relayed.clock.advance(2.0)
    if ("complete",) not in relayed.attempt.calls:
        assert relayed.relay.check(relayed.clock())
    assert relayed.heard()[-2:] == [("complete",), ("drop upstream",)]


def test_bytes_that_mean_nothing_are_there_once_the_answer_has_begun() -> None:
    relayed = Relayed()
    assert relayed.relay.probe() is None
    relayed.says(TOKEN)
    assert relayed.relay.probe() == b":\n\n"
