"""What a connection remembers of the head before: the same answer as the guard's, for the same bytes alone."""

import pytest
from httptools import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, RequestTooLarge
from gateway.wire import guard
from gateway.wire.guard import Limits
from gateway.wire.heads import Headers
from gateway.wire.last_head import LastHead

LIMITS = Limits(body=1000)
TARGET = b"/v1/chat/completions"
FIELDS = [(b"host", b"gateway"), (b"authorization", b"Bearer one"), (b"content-length", b"20")]


def remembered(
    fields: Headers = FIELDS, version: str = "1.1", method: bytes = b"POST", target: bytes = TARGET
) -> LastHead:
    last = LastHead()
    last.note(method, target, fields, guard.check(method, target, version, fields, LIMITS))
    return last


def changed(name: bytes, value: bytes) -> Headers:
    return [(field, value if field == name else old) for field, old in FIELDS]


def test_a_head_that_differs_only_in_the_length_of_the_body_is_the_same() -> None:
    last = remembered()
    head = last.same(b"POST", TARGET, list(FIELDS), LIMITS)
    assert head is not None
    assert head.authorization == b"Bearer one"
    assert last.same(b"POST", TARGET, changed(b"content-length", b"999"), LIMITS) is head


def test_a_body_over_the_limit_is_refused_all_the_same() -> None:
    with pytest.raises(RequestTooLarge, match="1000 bytes"):
        remembered().same(b"POST", TARGET, changed(b"content-length", b"1001"), LIMITS)


@pytest.mark.parametrize(
    ("method", "target", "fields"),
    [
        (b"GET", TARGET, FIELDS),
        (b"POST", b"/v1/completions", FIELDS),
        (b"POST", TARGET, changed(b"authorization", b"Bearer two")),
        (b"POST", TARGET, changed(b"host", b"other")),
        (b"POST", TARGET, FIELDS[:2]),
        (b"POST", TARGET, [*FIELDS, (b"x-request-id", b"7")]),
        (b"POST", TARGET, [*FIELDS[:2], (b"transfer-encoding", b"chunked")]),
        (b"POST", TARGET, FIELDS[::-1]),
    ],
)
def test_any_other_difference_makes_it_another(method: bytes, target: bytes, fields: Headers) -> None:
    assert remembered().same(method, target, fields, LIMITS) is None


@pytest.mark.parametrize(
    ("version", "method", "target", "extra"),
    [
        ("1.0", b"POST", TARGET, []),
        ("1.0", b"POST", TARGET, [(b"connection", b"keep-alive")]),
        ("1.1", b"POST", TARGET, [(b"connection", b"close")]),
        ("1.1", b"POST", TARGET, [(b"connection", b"keep-alive, x-a")]),
        ("1.1", b"POST", TARGET, [(b"expect", b"100-continue")]),
        ("1.1", b"POST", b"/v1/none", []),
    ],
)
def test_what_asks_for_something_special_is_not_remembered(
    version: str, method: bytes, target: bytes, extra: Headers
) -> None:
    fields = [*FIELDS, *extra]
    assert remembered(fields, version, method, target).same(method, target, fields, LIMITS) is None


def test_a_client_that_waits_to_send_its_body_is_told_although_the_body_before_was_empty() -> None:
    empty, long = ([*changed(b"content-length", length), (b"expect", b"100-continue")] for length in (b"0", b"20"))
    last = remembered(empty)
    assert last.same(b"POST", TARGET, long, LIMITS) is None
    head = guard.check(b"POST", TARGET, "1.1", long, LIMITS)
    assert head.expects_continue


def test_a_head_is_checked_once() -> None:
    last, heads = LastHead(), []
    for _ in range(3):
        parser = HttpRequestParser(object())
        parser.feed_data(b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-length: 20\r\n\r\n")
        fields = [(b"host", b"gateway"), (b"content-length", b"20")]
        heads.append(last.check(parser, b"POST", TARGET, fields, LIMITS))
    first, second, third = heads
    assert first is second is third


def test_a_client_that_names_keep_alive_is_known_too_but_not_as_one_of_another_version() -> None:
    last, heads = LastHead(), []
    rest = b"host: gateway\r\nconnection: keep-alive\r\ncontent-length: 20\r\n\r\n"
    for version in (b"1.1", b"1.1", b"1.0", b"1.1"):
        parser = HttpRequestParser(object())
        parser.feed_data(b"POST /v1/chat/completions HTTP/%b\r\n%b" % (version, rest))
        fields = [(b"host", b"gateway"), (b"connection", b"keep-alive"), (b"content-length", b"20")]
        heads.append(last.check(parser, b"POST", TARGET, fields, LIMITS))
    assert heads[0] is heads[1]
    assert [each.http10 for each in heads] == [False, False, True, False]
    assert {each.connection for each in heads} == {frozenset({b"keep-alive"})}


def test_nothing_is_known_before_the_first_head() -> None:
    assert LastHead().same(b"", b"", [], LIMITS) is None


def sent(last: LastHead, number: int) -> bytes:
    """Have a head noted that a parser has found in the bytes that are returned."""
    fields = [*FIELDS, (b"x-request-id", b"%d" % number)]
    last.note(b"POST", TARGET, fields, guard.check(b"POST", TARGET, "1.1", fields, LIMITS))
    lines = b"".join(b"%b: %b\r\n" % field for field in fields)
    return b"POST %b HTTP/1.1\r\n%b\r\n%b" % (TARGET, lines, b"x" * 20)


def test_heads_that_never_come_again_are_learned_only_so_often() -> None:
    last = LastHead()
    assert [last.learn(sent(last, number)) for number in range(12)] == [True] * 8 + [False] * 4


def test_a_head_that_comes_again_is_worth_learning_the_next() -> None:
    last = LastHead()
    for number in range(20):
        data = sent(last, number)
        assert last.learn(data)
        assert last.body_in(data, LIMITS) == b"x" * 20


NAMES = st.sampled_from((b"host", b"content-length", b"authorization", b"expect", b"connection", b"x-a"))
HEADS = st.lists(st.tuples(NAMES, st.sampled_from((b"1", b"2", b"5000"))), max_size=4)


@given(HEADS, HEADS)
def test_the_guard_would_say_the_same_of_a_head_that_is_recognised(before: Headers, fields: Headers) -> None:
    last = LastHead()
    try:
        last.note(b"POST", TARGET, before, guard.check(b"POST", TARGET, "1.1", before, LIMITS))
    except GatewayError:
        return
    try:
        known = last.same(b"POST", TARGET, fields, LIMITS)
    except RequestTooLarge:
        with pytest.raises(RequestTooLarge):
            guard.check(b"POST", TARGET, "1.1", fields, LIMITS)
        return
    if known is not None:
        head = guard.check(b"POST", TARGET, "1.1", fields, LIMITS)
        assert (known.endpoint, known.authorization, known.http10) == (head.endpoint, head.authorization, head.http10)
        assert (known.connection, known.expects_continue) == (head.connection, head.expects_continue)
