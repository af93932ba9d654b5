"""Token counts and the engine's giving up are found in a long document wherever it is cut."""

import pytest

from gateway.exchange import Dialect, Exchange
from gateway.proxy.document_scan import DocumentScan, note_usage

CHAT = b'{"choices":[{"index":0,"finish_reason":"%b"}],"usage":{"prompt_tokens":3,"completion_tokens":4}}'
MESSAGE = b'{"type":"message","stop_reason":%b,"usage":{"input_tokens":3,"output_tokens":4}}'


def exchange() -> Exchange:
    return Exchange("r1", "/v1/chat/completions", 0.0)


@pytest.mark.parametrize(
    ("dialect", "document", "aborted"),
    [
        (Dialect.CHAT, CHAT % b"stop", False),
        (Dialect.CHAT, CHAT % b"abort", True),
        (Dialect.MESSAGES, MESSAGE % b'"end_turn"', False),
        (Dialect.MESSAGES, MESSAGE % b"null", True),
    ],
)
def test_wherever_a_document_is_cut_the_same_is_found(dialect: Dialect, document: bytes, aborted: bool) -> None:
    for cut in range(len(document)):
        made = exchange()
        scan = DocumentScan(dialect, made)
        scan.look_at(document[:cut])
        scan.look_at(document[cut:])
        assert (scan.aborted, made.prompt_tokens, made.output_tokens) == (aborted, 3, 4)


def test_a_message_is_aborted_until_it_says_why_it_ended() -> None:
    scan = DocumentScan(Dialect.MESSAGES, exchange())
    assert repr(scan) == "<DocumentScan aborted so far>"
    scan.look_at(MESSAGE % b'"end_turn"')
    scan.look_at(b" " * 1000)
    assert repr(scan) == "<DocumentScan well so far>"


def test_counts_that_are_missing_change_nothing() -> None:
    made = exchange()
    before = made.prompt_tokens, made.output_tokens
    note_usage(made, b'{"choices":[]}')
    assert (made.prompt_tokens, made.output_tokens) == before
