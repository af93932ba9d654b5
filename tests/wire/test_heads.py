"""Which fields of a head go on, and how heads are written."""

import pytest

from gateway.wire.heads import find, forwarded_request, forwarded_response, named_by_connection, status_line

NONE: frozenset[bytes] = frozenset()


@pytest.mark.parametrize(
    "name",
    [
        *(b"connection", b"keep-alive", b"te", b"transfer-encoding", b"upgrade", b"proxy-authorization"),
        *(b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"cookie"),
        *(b"host", b"content-length", b"expect", b"accept-encoding", b"origin", b"x-request-id"),
        *(b"x-gateway-hops", b"x-gateway-pool"),
    ],
)
def test_framing_secrets_and_the_gateways_own_fields_reach_no_engine(name: bytes) -> None:
    assert forwarded_request([(name, b"1"), (b"accept", b"*/*")], NONE) == b"accept: */*\r\n"


@pytest.mark.parametrize("name", [b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-real-ip"])
def test_whom_a_proxy_asks_for_is_believed_only_of_one_that_is_trusted(name: bytes) -> None:
    fields = [(name, b"for=1.2.3.4")]
    assert forwarded_request(fields, NONE) == b""
    assert forwarded_request(fields, NONE, trusted=True) == name + b": for=1.2.3.4\r\n"


@pytest.mark.parametrize(
    "name",
    [
        *(b"connection", b"transfer-encoding", b"content-length", b"set-cookie", b"x-request-id"),
        *(b"access-control-allow-origin", b"x-gateway-backend", b"authorization"),
    ],
)
def test_framing_cookies_and_cors_of_an_engine_reach_no_client(name: bytes) -> None:
    answer = forwarded_response(200, [(name, b"1"), (b"content-type", b"text/plain")], None)
    assert answer == b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"


def test_fields_that_a_connection_names_stop_here_in_both_directions() -> None:
    fields, named = [(b"x-trace", b"1"), (b"x-other", b"2")], frozenset((b"x-trace",))
    assert forwarded_request(fields, named) == b"x-other: 2\r\n"
    assert forwarded_response(404, fields, named) == b"HTTP/1.1 404 Not Found\r\nx-other: 2\r\n"


def test_fields_go_on_as_they_came_and_in_their_order() -> None:
    fields = [(b"b", b"2"), (b"a", b"\xff "), (b"b", b"1")]
    assert forwarded_request(fields, NONE) == b"b: 2\r\na: \xff \r\nb: 1\r\n"


def test_a_connection_field_is_a_list_of_names() -> None:
    assert named_by_connection([b"Close, x-a", b" X-B "]) == {b"close", b"x-a", b"x-b"}


def test_the_first_of_several_fields_is_found() -> None:
    assert find([(b"a", b"1"), (b"b", b"2"), (b"b", b"3")], b"b") == b"2"
    assert find([], b"b") is None


@pytest.mark.parametrize(("status", "line"), [(200, b"200 OK"), (429, b"429 Too Many Requests"), (599, b"599 ")])
def test_a_status_that_no_registry_knows_has_no_phrase(status: int, line: bytes) -> None:
    assert status_line(status) == b"HTTP/1.1 " + line + b"\r\n"
