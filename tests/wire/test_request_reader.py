"""Bytes become requests however they are cut, and what is over a limit is refused as soon as that is known."""

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, InvalidApiKey
from gateway.wire.guard import MAX_TARGET, Head, Limits
from gateway.wire.phase import EXPECTS_CONTINUE, PART_OF_BODY, PART_OF_HEAD, Event
from gateway.wire.request_reader import RequestReader
from gateway.wire.service import Request
from tests.wire.playbook import Call

PATH = b"/v1/chat/completions"
HEAD = b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n" % PATH
POST = HEAD + b"content-length: 2\r\n\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
GET = b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n"


class Receiver:
    """What takes the requests; calls are `("head", path)` and `("request", body, pipelined)`."""

    def __init__(self, **limits: int) -> None:
        self.reader = RequestReader(self, Limits(**limits))
        self.requests: list[Request] = []
        self.breaks: Exception | None = None
        self._calls: list[Call] = []

    def authorize(self, head: Head) -> object:
        if self.breaks is not None:
            raise self.breaks
        self._calls.append(("head", head.path))
        return "acme"

    def take(self, request: Request, pipelined: bool) -> None:
        self.requests.append(request)
        body = request.body if isinstance(request.body, bytes) else len(request.body)
        self._calls.append(("request", body, pipelined))

    def reads(self, *reads: bytes) -> list[Call]:
        """Parse; return the calls."""
        for data in reads:
            assert self.reader.feed(data) is None
        calls, self._calls = self._calls, []
        return calls

    def is_refused(self, *reads: bytes) -> str:
        """Parse what is refused at its end; return the error's code."""
        *before, last = reads
        self.reads(*before)
        error = self.reader.feed(last)
        assert isinstance(error, GatewayError), error
        return error.code


def test_a_request_is_whole_when_it_is_handed_over() -> None:
    receiver = Receiver()
    receiver.reads(POST, b"{}")
    (request,) = receiver.requests
    assert (request.head.path, request.body, request.caller) == (PATH, b"{}", "acme")
    assert (b"content-length", b"2") in request.headers
    assert (request.keep_alive, request.http10) == (True, False)


def test_a_head_like_the_one_before_is_not_checked_again() -> None:
    receiver = Receiver()
    receiver.reads(GET, POST + b"{}", POST.replace(b": 2", b": 3") + b"{ }", GET.replace(b"1.1", b"1.0"))
    heads = [request.head for request in receiver.requests]
    assert heads[2] is heads[1]
    assert heads[3] is not heads[2]
    assert [head.http10 for head in heads] == [False, False, False, True]


def post(body: bytes, head: bytes = HEAD) -> bytes:
    return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)


def test_a_read_that_is_one_whole_request_like_the_one_before_is_not_parsed() -> None:
    receiver = Receiver()
    receiver.reads(post(b"{}"), post(b"{}"), post(b"[]"), post(b"x" * 1000), post(b"y" * 999), post(b"[]"))
    first, second, third, longer, _, last = receiver.requests
    assert first.headers is not second.headers
    assert second.headers is third.headers  # which a parser would have gathered anew
    assert [request.head is second.head for request in (third, longer, last)] == [True, True, True]
    assert (b"content-length", b"1000") in longer.headers
    assert (third.body, longer.body, third.keep_alive, third.caller) == (b"[]", b"x" * 1000, True, "acme")
    assert receiver.reads(POST[:20], POST[20:] + b"{}", POST) == [
        ("head", PATH),
        ("request", b"{}", False),
        ("head", PATH),
    ]


def test_a_request_in_two_reads_does_not_keep_those_behind_it_from_being_known() -> None:
    receiver, long = Receiver(), post(b"0123456789")
    receiver.reads(post(b"{}"), long[:20], long[20:], *[post(b"{}")] * 3)
    parsed, known, again = receiver.requests[2:]
    assert parsed.headers is known.headers is again.headers


def test_what_breaks_its_receiver_is_told_as_if_it_had_been_parsed() -> None:
    receiver = Receiver()
    receiver.reads(post(b"{}"), post(b"{}"), post(b"{}"))
    receiver.breaks = InvalidApiKey("unknown")
    assert receiver.is_refused(post(b"{}")) == "invalid_api_key"
    refusal = receiver.reader.refusal(receiver.breaks)
    assert (refusal.target, (b"host", b"a") in refusal.headers) == (PATH, True)


def test_a_head_that_is_over_the_limit_by_the_length_of_its_body_is_refused_all_the_same() -> None:
    receiver = Receiver(head=len(post(b"{}")) - len(b"{}"))
    receiver.reads(post(b"{}"), post(b"{}"), post(b"[]"))
    assert receiver.is_refused(post(b"0123456789")) == "headers_too_large"


def test_each_request_has_the_length_that_it_was_sent_with() -> None:
    receiver = Receiver()
    receiver.reads(post(b"{}"), *[post(b"{}").replace(b"h: 2", b"h: 02")] * 2, post(b"{}"))
    lengths = [dict(request.headers)[b"content-length"] for request in receiver.requests]
    assert lengths == [b"2", b"02", b"02", b"2"]


OTHER = HEAD + b"authorization: Bearer x\r\n"
PARTS = st.sampled_from(
    [
        *(post(body, head) for body in (b"{}", b"[]", b"0123456789", b"\r\n\r\n") for head in (HEAD, OTHER)),
        post(b"{}", HEAD.replace(b": ", b":")),
        post(b"{}", HEAD + b"connection: close\r\n"),
        post(b"{}", HEAD + b"connection: keep-alive\r\n"),
        post(b"{}").replace(b"HTTP/1.1", b"HTTP/1.0"),
        post(b"{}").replace(b"h: 2", b"h: 02"),
        post(b"{}" * 40),
        CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
        GET,
        b"\r\n",
        b"G",
    ]
)


@given(st.lists(PARTS, max_size=8), st.lists(st.integers(0, 900), max_size=4), st.integers(0, 2))
def test_whether_it_is_parsed_or_known_the_same_comes(parts: list[bytes], cuts: list[int], warm: int) -> None:
    whole, places = b"".join(parts), sorted(cuts)
    cut = [whole[begin:end] for begin, end in zip([0, *places], [*places, len(whole)], strict=True)]
    known, parsed = Receiver(body=70), Receiver(body=70)
    for data in [*[post(b"{}")] * warm, *parts, *cut]:
        if not data:
            continue
        view = memoryview(data)  # which is never compared with what came before
        errors = [known.reader.feed(view if len(data) % 5 == 0 else data), parsed.reader.feed(view)]
        assert known.reads() == parsed.reads()
        assert str(errors[0]) == str(errors[1])
        if errors[0] is not None:
            break
        assert known.reader.part == parsed.reader.part
    for one, other in zip(known.requests, parsed.requests, strict=True):
        assert (one.headers, one.keep_alive, one.http10) == (other.headers, other.keep_alive, other.http10)


def test_a_client_of_http_1_0_closes_its_connection() -> None:
    receiver = Receiver()
    receiver.reads(GET.replace(b"1.1", b"1.0"))
    (request,) = receiver.requests
    assert (request.http10, request.keep_alive) == (True, False)


@pytest.mark.parametrize("size", [1, 2, 7, 50])
def test_pieces_of_any_size_make_the_same_request(size: int) -> None:
    receiver, data = Receiver(), CHUNKED + b"1\r\n{\r\n1\r\n}\r\n0\r\nx-trailer: 1\r\n\r\n"
    calls = receiver.reads(*[data[at : at + size] for at in range(0, len(data), size)])
    assert calls == [("head", PATH), ("request", b"{}", False)]


def test_a_long_body_is_handed_over_as_a_rope() -> None:
    receiver = Receiver()
    body = b"x" * 100_000
    assert receiver.reads(HEAD + b"content-length: 200000\r\n\r\n", body, body)[1:] == [("request", 200_000, False)]


def test_a_request_behind_another_one_in_one_read_is_pipelined() -> None:
    receiver = Receiver()
    request, next_one = ("request", b"{}", False), ("request", b"{}", True)
    assert receiver.reads(2 * (POST + b"{}")) == [("head", PATH), request, ("head", PATH), next_one]
    assert receiver.reads(POST, b"{}") == [("head", PATH), request]
    assert receiver.reads(POST + b"{}" + POST, b"{}")[1::2] == [request, next_one]


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", None),
        (b"POST", PART_OF_HEAD),
        (POST, PART_OF_BODY),
        (POST + b"{", PART_OF_BODY),
        (POST + b"{}", None),
        (POST + b"{}P", None),
        (POST.replace(b"host", b"expect: 100-continue\r\nhost"), EXPECTS_CONTINUE),
        (POST.replace(b"host", b"expect: 100-continue\r\nhost") + b"{", PART_OF_BODY),
    ],
)
def test_what_has_come_of_a_request_is_known(data: bytes, part: Event | None) -> None:
    receiver = Receiver()
    receiver.reads(data)
    assert receiver.reader.part == part
    assert repr(receiver.reader) == f"<RequestReader {part or 'between requests'}>"


@pytest.mark.parametrize(
    ("reads", "code"),
    [
        ([b"\x00"], "bad_http"),
        ([GET[:-2], b"no field\r\n"], "bad_http"),
        ([b"GET /" + b"x" * MAX_TARGET], "target_too_long"),
        ([b"GET / HTTP/1.1\r\n", b"x: " + b"x" * 600, b"x" * 600], "headers_too_large"),
        ([GET + b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"x" * 600, b"x" * 600 + b"\r\n\r\n"], "headers_too_large"),
        ([POST.replace(b": 2", b": 2000")], "request_too_large"),
        ([CHUNKED, b"3e8\r\n" + b"x" * 1000, b"\r\n1\r\nx"], "request_too_large"),
        ([CHUNKED, b"1;" + b"x" * 500, b"x" * 600], "headers_too_large"),
        ([CHUNKED + b"1\r\nx\r\n0\r\n" + b"x: x\r\n" * 200], "headers_too_large"),
    ],
)
def test_what_is_broken_or_over_a_limit_is_refused(reads: list[bytes], code: str) -> None:
    assert Receiver(head=1000, body=1000).is_refused(*reads) == code


def test_each_chunk_and_each_request_may_have_as_much_framing_as_a_head() -> None:
    receiver = Receiver(head=1000)
    chunk = b"1;" + b"x" * 600 + b"\r\nx\r\n"
    assert len(receiver.reads(CHUNKED, *[chunk] * 4, b"0\r\n\r\n")) == 2
    assert len(receiver.reads(*[GET] * 40)) == 80


def test_a_refusal_has_what_had_come_of_the_head() -> None:
    receiver = Receiver()
    receiver.breaks = error = InvalidApiKey("who are you?")
    assert receiver.reader.feed(POST) is error
    refusal = receiver.reader.refusal(error)
    assert (refusal.error, refusal.target, refusal.headers[0]) == (error, PATH, (b"host", b"a"))


def test_what_breaks_the_receiver_is_returned_as_it_is() -> None:
    receiver = Receiver()
    receiver.breaks = RuntimeError("a fault of the gateway's own")
    assert receiver.reader.feed(POST) is receiver.breaks


def test_a_connection_that_is_lost_lets_go_of_the_parser() -> None:
    receiver = Receiver()
    mine = receiver.reader.parser
    receiver.reader.close()
    assert isinstance(receiver.reader.parser, httptools.HttpRequestParser)
    assert receiver.reader.parser is not mine
