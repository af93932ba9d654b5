"""A connection to an engine: every exchange ends once, and the connection is kept only where nothing is left of it."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.answer import MAX_FIELDS, MAX_HEAD, AnswerHead, Loss, Sink
from gateway.wire.answer_reader import MAX_INFORMATIONAL
from gateway.wire.reuse import IMMEDIATE, LEAST_IDLE
from gateway.wire.rope import Rope
from tests.wire.playbook import Call, Engine

pytestmark = pytest.mark.anyio
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"


async def asked(*, passes: bool = False) -> Engine:
    engine = Engine(passes=passes)
    engine.is_asked(b"GET /v1/models HTTP/1.1\r\n\r\n")
    await asyncio.sleep(0)
    assert engine.wire.took() == b"GET /v1/models HTTP/1.1\r\n\r\n"
    return engine


async def test_an_answer_in_one_read_is_a_head_and_its_last_bytes_and_the_connection_is_kept() -> None:
    engine = await asked()
    assert engine.says(OK + b"hi") == [("head", 200), ("kept",), ("last", b"hi")]
    assert not engine.upstream.busy


async def test_a_body_is_handed_on_once_per_read() -> None:
    engine = await asked()
    chunks = b"1\r\na\r\n1\r\nb\r\n", b"1\r\nc\r\n", b"0\r\n\r\n"
    assert engine.says(CHUNKED) == [("head", 200)]
    assert engine.says(*chunks) == [("data", b"ab"), ("data", b"c"), ("kept",), ("last", b"")]


EVENT = b"data: an event of a stream\n\n"
WHOLE = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)


async def test_once_a_read_was_one_whole_chunk_the_next_such_ones_are_passed_on_as_they_came() -> None:
    engine = await asked(passes=True)
    assert engine.says(CHUNKED + WHOLE) == [("head", 200), ("data", EVENT)]
    assert engine.says(WHOLE, WHOLE, WHOLE) == [("data", EVENT), ("chunk", WHOLE), ("chunk", WHOLE)]
    assert engine.says(WHOLE[:20], WHOLE[20:]) == [("data", EVENT[:16]), ("data", EVENT[16:])]
    assert engine.says(WHOLE + WHOLE, WHOLE, WHOLE) == [("data", 2 * EVENT), ("data", EVENT), ("chunk", WHOLE)]
    other = b"12\r\nno event of a kind\r\n"
    assert engine.says(other, WHOLE) == [("data", b"no event of a kind"), ("chunk", WHOLE)]
    assert engine.says(b"0\r\n\r\n") == [("kept",), ("last", b"")]


async def test_what_only_looks_like_a_whole_chunk_is_parsed_as_what_it_is() -> None:
    engine = await asked(passes=True)
    first, rest = b"data: whatever..", b"12\r\n" * 6
    assert engine.says(CHUNKED, b"22\r\n" + first) == [("head", 200), ("data", first)]
    assert engine.says(rest) == [("data", rest[:18])]
    data = b"12\r\ndata: 9012345678\r\n"
    assert engine.says(data) == [("data", data[:18]), ("lost", Loss.MALFORMED)]


async def test_what_looks_like_a_whole_chunk_behind_the_size_of_another_is_in_that_one() -> None:
    engine = await asked(passes=True)
    assert engine.says(CHUNKED, WHOLE) == [("head", 200), ("data", EVENT)]
    assert engine.says(b"%x\r\n" % len(WHOLE), WHOLE) == [("data", WHOLE)]
    assert engine.says(b"\r\n0\r\n\r\n") == [("kept",), ("last", b"")]


NESTED = b"%x\r\n%b\r\n" % (len(WHOLE), WHOLE)
UNITS = st.sampled_from(
    [
        *[WHOLE] * 4,
        *[(NESTED[:cut], NESTED[cut:]) for cut in (1, 2, 4, len(NESTED) - 2)],
        *[(WHOLE[:cut], WHOLE[cut:]) for cut in (1, 2, 3, 4, 20, len(WHOLE) - 2, len(WHOLE) - 1)],
        (b"%x;a=" % len(WHOLE), WHOLE + b"\r\n"),
        (b"%x;a=" % len(EVENT), WHOLE),
        (b"0", WHOLE),
        (b"1", WHOLE),
        WHOLE + WHOLE,
        b"%X;a=b\r\n%b\r\n" % (len(EVENT), EVENT),
        b"12\r\nno event of a kind\r\n",
        b"12\r\n" * 6,
        (b"22\r\ndata: whatever..", b"12\r\n" * 6),
        b"\r\n",
        (b"0\r\nx: y", WHOLE),
        b"0\r\n\r\n",
    ]
)


async def comes_of(reads: list[bytes], *, passes: bool) -> tuple[list[Call], bytes, int]:
    """Return what is told of an answer but its body, that, and how often a chunk of it was passed on."""
    engine = await asked(passes=passes)
    calls: list[Call] = []
    for data in reads:
        if not engine.wire.is_closing() and engine.upstream.busy:
            calls += engine.says(data)
    bodies = [
        call[1] if call[0] != "chunk" else call[1][4:-2] for call in calls if call[0] in {"data", "last", "chunk"}
    ]
    passed = [call for call in calls if call[0] == "chunk"]
    return [call for call in calls if call[0] in {"head", "lost"}], b"".join(bodies), len(passed)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(UNITS, st.booleans()), min_size=2, max_size=10), st.sampled_from([1, 1, 2, 100]))
def test_however_it_is_read_the_same_comes(units: list[tuple[bytes | tuple[bytes, ...], bool]], first: int) -> None:
    reads = [CHUNKED + first * WHOLE if first > 1 else CHUNKED]
    for unit, with_last in units:
        parts = unit if isinstance(unit, tuple) else (unit,)
        if with_last:
            reads[-1] += parts[0]
            parts = parts[1:]
        reads += parts
    told, body, passed = asyncio.run(comes_of(reads, passes=True))
    singly = [bytes([byte]) for byte in b"".join(reads)]
    assert asyncio.run(comes_of(singly, passes=False)) == (told, body, 0)
    if reads[0] in {CHUNKED, CHUNKED + 100 * WHOLE} and reads[1:3] == [WHOLE, WHOLE]:
        assert passed > 0


async def test_the_next_answer_on_a_connection_is_parsed_from_its_beginning() -> None:
    engine = await asked(passes=True)
    assert engine.says(CHUNKED, WHOLE, WHOLE)[-1] == ("chunk", WHOLE)
    assert engine.says(b"0\r\n\r\n") == [("kept",), ("last", b"")]
    engine.is_asked()
    assert engine.says(OK + b"hi") == [("head", 200), ("kept",), ("last", b"hi")]
    engine.is_asked()
    assert engine.says(WHOLE) == [("lost", Loss.MALFORMED)]


async def test_wherever_an_answer_is_cut_the_same_comes() -> None:
    answer = CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"
    for cut in range(1, len(answer)):
        engine = await asked()
        calls = engine.says(answer[:cut], answer[cut:])
        assert calls[0] == ("head", 200)
        assert b"".join(call[1] for call in calls if call[0] in {"data", "last"}) == b"abc"
        assert [call[0] for call in calls].count("last") == 1


async def test_the_next_request_goes_out_on_the_same_connection() -> None:
    engine = await asked()
    for _ in range(3):
        assert engine.says(OK + b"hi")[-1] == ("last", b"hi")
        engine.is_asked()
    assert engine.upstream.busy


async def test_informational_answers_are_swallowed_up_to_a_number() -> None:
    engine, early = await asked(), b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    assert engine.says(early * MAX_INFORMATIONAL, OK + b"hi") == [("head", 200), ("kept",), ("last", b"hi")]
    engine.is_asked()
    assert engine.says(early * (MAX_INFORMATIONAL + 1)) == [("lost", Loss.MALFORMED)]
    assert engine.wire.aborted


async def test_nothing_asked_for_another_protocol() -> None:
    engine = await asked()
    assert engine.says(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n") == [("lost", Loss.MALFORMED)]
    assert engine.details == ["the answer is not proper HTTP: unasked status 101"]


@pytest.mark.parametrize("close", [b"connection: close\r\n", b""], ids=["it says so", "HTTP/1.0"])
async def test_a_connection_that_the_engine_will_close_is_not_kept(close: bytes) -> None:
    engine, version = await asked(), b"HTTP/1.1" if close else b"HTTP/1.0"
    assert engine.says(version + b" 200 OK\r\n%bcontent-length: 2\r\n\r\nhi" % close) == [
        ("head", 200),
        ("last", b"hi"),
    ]
    assert engine.wire.closed


async def test_an_answer_that_only_closing_ends_is_complete_then() -> None:
    engine = await asked()
    assert engine.says(UNTIL_CLOSE + b"a") == [("head", 200), ("data", b"a")]
    assert engine.hangs_up() == [("gone",), ("last", b"")]


async def test_a_reset_completes_no_answer() -> None:
    engine = await asked()
    engine.says(UNTIL_CLOSE + b"a")
    assert engine.hangs_up(ConnectionResetError("reset")) == [("gone",), ("lost", Loss.CLOSED)]
    assert engine.details == ["the connection was closed (reset)"]


@pytest.mark.parametrize(
    "read", [b"", b"HTTP/1.1 200", OK, OK + b"h"], ids=["no", "half a head", "a head", "half a body"]
)
async def test_an_answer_that_breaks_off_is_lost(read: bytes) -> None:
    engine = await asked()
    if read:
        engine.says(read)
    assert engine.hangs_up() == [("gone",), ("lost", Loss.CLOSED)]
    assert engine.hangs_up() == [("gone",)], "and is told once"


async def test_a_reused_connection_that_closes_at_once_without_a_byte_was_stale() -> None:
    for idle, after, loss in (
        (LEAST_IDLE, IMMEDIATE / 2, Loss.STALE),
        (LEAST_IDLE, IMMEDIATE * 2, Loss.CLOSED),
        (LEAST_IDLE / 2, IMMEDIATE / 2, Loss.CLOSED),
    ):
        engine = await asked()
        reuse = engine.upstream.reuse
        reuse.reused, reuse.idle_for, reuse.taken_at = True, idle, engine.clock()
        engine.clock.advance(after)
        assert engine.hangs_up() == [("gone",), ("lost", loss)]


@pytest.mark.parametrize(
    ("read", "detail"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "the answer is not proper HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * (MAX_FIELDS + 1) + b"\r\n", f"over {MAX_FIELDS} fields"),
        (b"HTTP/1.1 200 OK\r\na: " + b"x" * MAX_HEAD, f"its head is over {MAX_HEAD} bytes"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", "transfer coding"),
        (b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "chunked in HTTP/1.0"),
    ],
)
async def test_what_is_no_proper_answer_is_lost_with_its_reason(read: bytes, detail: str) -> None:
    engine = await asked()
    assert engine.says(read) == [("lost", Loss.MALFORMED)]
    assert detail in engine.details[0]
    assert engine.wire.aborted


async def test_framing_and_trailers_have_bounds() -> None:
    engine = await asked()
    engine.says(CHUNKED + b"1\r\na\r\n")
    assert engine.says(b"1;" + b"x" * MAX_HEAD) == [("lost", Loss.MALFORMED)]
    engine = await asked()
    assert engine.says(CHUNKED + b"0\r\n" + (b"a: %b\r\n" % (b"x" * 1000)) * 70) == [
        ("head", 200),
        ("lost", Loss.MALFORMED),
    ]


async def test_what_was_framed_properly_comes_before_the_loss() -> None:
    engine = await asked()
    assert engine.says(CHUNKED + b"2\r\nab\r\nzz\r\n") == [("head", 200), ("data", b"ab"), ("lost", Loss.MALFORMED)]


async def test_bytes_behind_an_answer_leave_it_whole_and_close_the_connection() -> None:
    engine = await asked()
    assert engine.says(OK + b"hi" + b"HTTP/1.1 200 OK\r\n") == [("head", 200), ("last", b"hi")]
    assert engine.wire.closed


async def test_bytes_that_no_request_asked_for_close_the_connection() -> None:
    engine = Engine()
    assert engine.says(OK) == []
    assert engine.wire.aborted


async def test_what_was_given_up_hears_of_nothing() -> None:
    engine = await asked()
    engine.upstream.cancel()
    assert engine.wire.aborted
    assert engine.hangs_up() == [("gone",)]


async def test_the_owner_hears_how_long_the_engine_keeps_idle_connections() -> None:
    engine = await asked()
    head = b"HTTP/1.1 204 No Content\r\nkeep-alive: timeout=7, max=100\r\n\r\n"
    assert engine.says(head) == [("keeps idle", 7.0), ("head", 204), ("kept",), ("last", b"")]


async def test_a_long_body_goes_out_a_block_a_turn_as_fast_as_the_engine_takes_it() -> None:
    engine = Engine()
    engine.is_asked(b"POST ", Rope((b"one", b"two", b"three")))
    assert engine.wire.took() == b"POST one"
    await asyncio.sleep(0)
    assert engine.wire.took() == b"two"
    engine.upstream.pause_writing()
    await asyncio.sleep(0)
    assert engine.wire.took() == b""
    engine.upstream.resume_writing()
    assert engine.wire.took() == b"three"


async def test_a_connection_is_not_kept_that_was_answered_before_the_request_had_gone() -> None:
    engine = Engine()
    engine.is_asked(b"POST ", Rope((b"one", b"two")))
    engine.upstream.pause_writing()
    assert engine.says(OK + b"hi") == [("head", 200), ("last", b"hi")]
    assert engine.wire.aborted
    engine = await asked()
    engine.wire.unsent = 1
    assert engine.says(OK + b"hi") == [("head", 200), ("last", b"hi")]
    assert engine.wire.aborted


async def test_a_receiver_that_breaks_loses_the_answer_and_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Engine):
        def data(self, pieces: list[bytes]) -> None:
            raise RuntimeError("no data")

    engine = Broken()
    engine.is_asked()
    assert engine.says(CHUNKED + b"1\r\na\r\n") == [("head", 200), ("lost", Loss.MALFORMED)]
    assert engine.wire.aborted
    assert "an exchange with an engine broke the gateway" in caplog.text


async def test_a_receiver_that_breaks_after_the_next_request_has_begun_leaves_that_alone() -> None:
    class Broken(Engine):
        def last(self, pieces: list[bytes]) -> None:
            self.upstream.start(other, b"GET / HTTP/1.1\r\n\r\n")
            raise RuntimeError(f"no {pieces!r}")

    engine, other = Broken(), Engine()
    engine.is_asked()
    assert engine.says(OK + b"hi") == [("head", 200), ("kept",), ("lost", Loss.MALFORMED)]
    assert not engine.wire.aborted
    engine.says(OK + b"hi")
    assert other.calls() == [("head", 200), ("last", b"hi")]


async def test_a_sender_that_breaks_on_a_head_loses_the_answer_and_the_connection() -> None:
    class Broken(Engine):
        def head(self, head: AnswerHead) -> Sink | None:
            raise RuntimeError(f"no {head.status}")

    for read in (OK, OK + b"hi", CHUNKED + b"zz"):
        engine = Broken()
        engine.is_asked()
        assert engine.says(read) == [("lost", Loss.MALFORMED)]
        assert engine.wire.aborted
        assert not engine.upstream.busy


async def test_a_connection_tells_what_it_does() -> None:
    engine = Engine()
    assert repr(engine.upstream) == "<Upstream idle>"
    engine.is_asked()
    assert repr(engine.upstream) == "<Upstream waiting>"
    engine.says(OK)
    assert repr(engine.upstream) == "<Upstream answering>"
    engine.says(b"hi")
    engine.upstream.reuse.reused = True
    assert repr(engine.upstream) == "<Upstream idle again>"
