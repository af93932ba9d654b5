"""Where an answer ends, by whatever engine it is written, and what follows its end."""

import contextlib

import pytest

from gateway.exchange import Dialect
from gateway.wire.answer_progress import AnswerAborted
from gateway.wire.sse import Scanner
from tests.wire.test_sse import EVENT, cut, scan


@pytest.mark.parametrize("behind", [b": ping\n\n", b'data: {"choices":[]}\n\n'])
@pytest.mark.parametrize("reason", [b"stop", b"abort"])
def test_the_end_of_the_output_is_found_in_a_burst_whatever_follows_it(behind: bytes, reason: bytes) -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":9}}\n\n'
    event = EVENT.replace(b"{", b'{"id":"chatcmpl-%b",' % (b"0" * 100), 1)
    last = event.replace(b"null", b'"%b"' % reason)
    scanner = Scanner(Dialect.CHAT)
    with pytest.raises(AnswerAborted) if reason == b"abort" else contextlib.nullcontext():
        scanner.feed(event * 50 + last + behind + usage + b"data: [DONE]\n\n")
        assert (scanner.content, scanner.progress.finished) == (51, 1)


def test_an_empty_finish_reason_is_none() -> None:
    """LocalAI, and Ollama once, say so in every event."""
    said = EVENT.replace(b"null", b'""')
    last = EVENT.replace(b"null", b'"stop"')
    for event in (said, said.replace(b":", b": "), said.replace(b'"x"', b'""')):
        for reads in ([event] * 3, [event * 9], [b"", *(event[at : at + 1] for at in range(len(event)))]):
            scanner = Scanner(Dialect.CHAT, strip_usage=True)
            assert [*map(scanner.feed, reads)][-1] in (reads[-1], event)
            assert (scanner.progress.finished, scanner.progress.complete) == (0, False)
            assert scanner.feed(last) == b""
            assert scanner.progress.finished == 1


WHOLE = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}'


@pytest.mark.parametrize(
    ("stream", "passed"),
    [
        (EVENT + EVENT[:40], EVENT),
        (EVENT + b'data: {"error":{"code":503', EVENT),
        (EVENT + EVENT[:-1], EVENT + EVENT[:-1] + b"\n\n"),
        (EVENT + EVENT[:-2] + b"\r\n", EVENT + EVENT[:-2] + b"\r\n\n\n"),
        (EVENT + WHOLE, EVENT + WHOLE + b"\n\n"),
        (WHOLE + b"\n\ndata: [DO", WHOLE + b"\n\n"),
        (WHOLE + b"\n\ndata:", WHOLE + b"\n\n"),
        (WHOLE + b"\n\n: pi", WHOLE + b"\n\n"),
        (WHOLE + b"\n\ndata: [DONE]", WHOLE + b"\n\ndata: [DONE]"),
        (EVENT + b"data: plain", EVENT + b"data: plain\n\n"),
        (EVENT + b'data: {"error":{"code":503}}', EVENT + b'data: {"error":{"code":503}}'),
    ],
)
def test_what_follows_a_last_event_without_its_blank_line_is_no_part_of_it(stream: bytes, passed: bytes) -> None:
    for points in ([], *([each] for each in range(len(stream)))):
        assert scan(cut(stream, points), Dialect.CHAT).out == passed


@pytest.mark.parametrize("half", [WHOLE[:-2], b'data: {"error":{"code":503'])
def test_half_an_event_says_nothing(half: bytes) -> None:
    scanner = Scanner(Dialect.CHAT)
    scanner.feed(EVENT + half)
    scanner.flush()
    assert (scanner.content, scanner.progress.complete, scanner.progress.error) == (0, False, None)
