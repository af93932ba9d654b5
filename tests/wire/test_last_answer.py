"""What is remembered of an engine's last head: the same comes of it as of reading each for itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.answer import AnswerHead, Malformed
from gateway.wire.heads import Headers, forwarded_response
from gateway.wire.last_answer import LastAnswer

DOCUMENT: Headers = [(b"server", b"uvicorn"), (b"content-length", b"20"), (b"content-type", b"Application/JSON")]
STREAM: Headers = [(b"content-type", b"text/event-stream"), (b"transfer-encoding", b"chunked")]


def read(head: AnswerHead) -> tuple[object, ...]:
    body = head.kind, head.coding, head.length, head.chunked, head.until_close
    return head.status, head.fields, head.connection, head.idle, *body


def lengthened(fields: Headers, length: bytes) -> Headers:
    return [(name, length if name == b"content-length" else value) for name, value in fields]


@pytest.mark.parametrize("fields", [DOCUMENT, STREAM, []])
def test_the_same_head_is_read_once(fields: Headers) -> None:
    last = LastAnswer()
    head = last.head(200, list(fields))
    head.forwarded = b"forwarded"
    assert last.head(200, list(fields)) is head


def test_a_head_with_another_length_is_another_with_the_same_in_it() -> None:
    last = LastAnswer()
    first = last.head(200, list(DOCUMENT))
    first.forwarded = b"forwarded"
    longer = last.head(200, lengthened(DOCUMENT, b"21"))
    assert read(longer) == read(AnswerHead(200, lengthened(DOCUMENT, b"21")))
    assert (first.length, longer.length, longer.forwarded) == (20, 21, b"forwarded")
    assert last.head(200, lengthened(DOCUMENT, b"21")) is longer


@pytest.mark.parametrize(
    "fields",
    [
        STREAM,
        DOCUMENT[:2],
        DOCUMENT[::-1],
        [*DOCUMENT, (b"connection", b"close")],
        [(b"server", b"hypercorn"), *DOCUMENT[1:]],
        [DOCUMENT[0], (b"transfer-encoding", b"chunked"), DOCUMENT[2]],
        [DOCUMENT[0], DOCUMENT[1], (b"content-encoding", b"gzip")],
        [DOCUMENT[0], DOCUMENT[1], (b"keep-alive", b"timeout=5")],
    ],
)
def test_any_other_difference_is_read(fields: Headers) -> None:
    last = LastAnswer()
    last.head(200, list(DOCUMENT)).forwarded = b"forwarded"
    other = last.head(200, list(fields))
    assert read(other) == read(AnswerHead(200, list(fields)))
    assert other.forwarded is None
    assert read(last.head(200, list(DOCUMENT))) == read(AnswerHead(200, list(DOCUMENT)))


def test_a_head_that_was_given_other_fields_is_not_the_one_that_came() -> None:
    last = LastAnswer()
    head = last.head(200, list(DOCUMENT))
    head.fields = []
    assert last.head(200, list(DOCUMENT)) is not head


def test_errors_are_read_each_for_itself() -> None:
    last = LastAnswer()
    assert last.head(503, list(DOCUMENT)) is not last.head(503, list(DOCUMENT))
    assert last.head(503, list(DOCUMENT)).status == 503


def test_what_is_no_proper_head_is_refused_each_time() -> None:
    last = LastAnswer()
    for _ in range(2):
        with pytest.raises(Malformed):
            last.head(200, [(b"transfer-encoding", b"gzip")])


FIELDS = st.sampled_from(
    [
        *[*DOCUMENT, *STREAM] * 2,
        (b"content-length", b"21"),
        (b"content-encoding", b"gzip"),
        (b"connection", b"server"),
        (b"keep-alive", b"timeout=5"),
        (b"date", b"now"),
    ]
)
ANSWERS = st.tuples(st.sampled_from([200, 200, 200, 204, 503]), st.lists(FIELDS, max_size=4))


@given(st.lists(ANSWERS, max_size=3), st.lists(st.integers(0, 2), max_size=12))
def test_whatever_came_before_the_same_comes_of_a_head(answers: list[tuple[int, Headers]], order: list[int]) -> None:
    last = LastAnswer()
    for place in order:
        if place < len(answers):
            status, fields = answers[place]
            head, alone = last.head(status, list(fields)), AnswerHead(status, list(fields))
            assert read(head) == read(alone)
            forwarded = forwarded_response(status, alone.fields, alone.connection)
            assert head.forwarded is None or head.forwarded == forwarded
            head.forwarded = forwarded
