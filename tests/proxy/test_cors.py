"""Pages of allowed origins may read answers; all others get them as if they had not asked."""

import pytest

from gateway.proxy.cors import CrossOrigin, is_preflight, permit, seen_by
from gateway.wire.heads import Headers
from tests.proxy.clients import Page

PAGE = b"https://app.example"
ALLOWED = frozenset((PAGE,))
FIELDS = b"access-control-allow-origin: https://app.example\r\nvary: Origin\r\n"
SHOWN = b"access-control-expose-headers: x-request-id, retry-after\r\n"


@pytest.mark.parametrize(
    ("headers", "origins"),
    [
        ([], ALLOWED),
        ([(b"origin", PAGE)], frozenset()),
        ([(b"origin", b"https://other.example")], ALLOWED),
        ([(b"origin", b"https://app.example.evil")], ALLOWED),
        ([(b"origin", b"null")], ALLOWED),
    ],
)
def test_a_client_of_no_allowed_origin_is_answered_as_it_is(headers: Headers, origins: frozenset[bytes]) -> None:
    page = Page()
    assert seen_by(page, headers, origins) is page


@pytest.mark.parametrize("origins", [ALLOWED, frozenset((b"*",))])
def test_an_allowed_page_is_told_that_it_may_read_whole_answers(origins: frozenset[bytes]) -> None:
    page = Page()
    seen_by(page, [(b"origin", PAGE)], origins).reply(200, b"x: y\r\n", b"hi")
    assert page.took() == b"HTTP/1.1 200 OK\r\n%b%bx: y\r\ncontent-length: 2\r\n\r\nhi" % (FIELDS, SHOWN)


def test_of_an_answer_in_pieces_the_first_head_tells_it_once() -> None:
    page = Page()
    client = CrossOrigin(page, PAGE)
    client.write(b"HTTP/1.1 200 OK\r\nx: y\r\n\r\nHTTP/1.1 is what I speak")
    client.write(b"HTTP/1.1 again")
    told = page.took()
    assert told.startswith(b"HTTP/1.1 200 OK\r\n" + FIELDS + SHOWN + b"x: y\r\n")
    assert told.count(FIELDS) == 1


def test_what_comes_before_the_head_is_left_alone() -> None:
    page = Page()
    client = CrossOrigin(page, PAGE)
    client.write(b": comment\n\n")
    assert page.took() == b": comment\n\n"


def test_a_preflight_is_an_allowed_pages_question() -> None:
    page, asks = Page(), [(b"access-control-request-method", b"POST")]
    assert is_preflight(CrossOrigin(page, PAGE), asks)
    assert not is_preflight(page, asks)
    assert not is_preflight(CrossOrigin(page, PAGE), [])


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        (b"content-type, authorization", b"access-control-allow-headers: content-type, authorization\r\n"),
        (b"x\r\nset-cookie: a=b", b""),
        (b"", b""),
    ],
)
def test_it_is_answered_with_the_methods_and_the_fields_that_it_asked_for(asked: bytes, allowed: bytes) -> None:
    page = Page()
    permit(page, [(b"access-control-request-headers", asked)] if asked else [], "r1")
    told = page.took()
    assert b"access-control-allow-methods: GET, HEAD, POST\r\naccess-control-max-age: 600\r\n" in told
    assert allowed in told
    assert (b"access-control-allow-headers" in told) == bool(allowed)
    assert page.ended == "finished"
