"""What a head must hold."""

import pytest

from gateway.errors import (
    BadHttp,
    ExpectationFailed,
    GatewayError,
    HeadersTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    NotSupported,
    RequestTooLarge,
    UnsupportedMediaType,
)
from gateway.wire import guard
from gateway.wire.endpoints import FORWARDED, SERVED
from gateway.wire.guard import Head, Limits
from gateway.wire.heads import Headers, forwarded_request, forwarded_response, named_by_connection

CHAT = b"/v1/chat/completions"


def check(
    *extra: tuple[bytes, bytes],
    method: bytes = b"POST",
    target: bytes = CHAT,
    version: str = "1.1",
    host: bytes | None = b"gateway",
    length: bytes | None = b"2",
    limits: Limits | None = None,
) -> Head:
    fields: Headers = list(extra)
    if host is not None:
        fields.append((b"host", host))
    if length is not None:
        fields.append((b"content-length", length))
    head = guard.check(method, target, version, fields, limits or Limits())
    if head.refusal is not None:
        raise head.refusal
    return head


def test_an_ordinary_head_passes() -> None:
    head = check((b"content-type", b"application/json; charset=utf-8"), (b"x-request-id", b"r1"))
    assert head.endpoint is not None
    assert (head.endpoint.path, head.request_id, head.expects_continue) == ("/v1/chat/completions", b"r1", False)


@pytest.mark.parametrize("host", [b"a", b"a.b:80", b"127.0.0.1:1", b"[::1]:8000", b"a_b-c"])
def test_hosts(host: bytes) -> None:
    assert check(host=host)


@pytest.mark.parametrize("host", [b"", b"a/v1?x=", b"a b", b"a:b", b"a@b", b"a:123456", b"[::1"])
def test_what_is_no_host(host: bytes) -> None:
    with pytest.raises(BadHttp):
        check(host=host)


def test_one_host_is_required_but_in_http10() -> None:
    with pytest.raises(BadHttp):
        check(host=None)
    with pytest.raises(BadHttp):
        check((b"host", b"other"))
    assert check(host=None, version="1.0")


@pytest.mark.parametrize(
    ("fields", "version", "error"),
    [
        ([(b"transfer-encoding", b"chunked")], "1.0", BadHttp),
        ([(b"transfer-encoding", b"gzip, chunked")], "1.1", NotSupported),
        ([(b"transfer-encoding", b"identity")], "1.1", NotSupported),
        ([(b"transfer-encoding", b"chunked")] * 2, "1.1", BadHttp),
        ([(b"upgrade", b"h2c")], "1.1", NotSupported),
        ([(b"expect", b"200-maybe")], "1.1", ExpectationFailed),
        ([(b"content-encoding", b"gzip")], "1.1", UnsupportedMediaType),
        ([(b"content-type", b"text/plain")], "1.1", UnsupportedMediaType),
        ([], "2.0", NotSupported),
        ([], "0.9", NotSupported),
    ],
)
def test_framing_and_coding(fields: Headers, version: str, error: type[GatewayError]) -> None:
    with pytest.raises(error):
        check(*fields, version=version, length=None if fields else b"2")


@pytest.mark.parametrize("method", [b"CONNECT", b"TRACE", b"PURGE"])
def test_methods_not_spoken(method: bytes) -> None:
    with pytest.raises(NotSupported):
        check(method=method)


@pytest.mark.parametrize(("size", "passes"), [(99, True), (100, True), (101, False)])
def test_fields_have_a_bound(size: int, passes: bool) -> None:
    extra = [(b"x-%d" % i, b"1") for i in range(size - 2)]
    if passes:
        assert check(*extra)
    else:
        with pytest.raises(HeadersTooLarge):
            check(*extra)


@pytest.mark.parametrize(("size", "passes"), [(9, True), (10, True), (11, False)])
def test_bodies_have_a_bound(size: int, passes: bool) -> None:
    if passes:
        assert check(length=b"%d" % size, limits=Limits(body=10))
    else:
        with pytest.raises(RequestTooLarge):
            check(length=b"%d" % size, limits=Limits(body=10))


@pytest.mark.parametrize("off", [-1, 0, 1])
def test_heads_have_a_bound(off: int) -> None:
    line = len(b"POST /x HTTP/1.1\r\n\r\n")
    fields = [(b"a", b"b" * (1000 - line - len(b"a: \r\n") + off))]
    if off <= 0:
        guard.check_size(b"POST", b"/x", fields, Limits(head=1000))
    else:
        with pytest.raises(HeadersTooLarge):
            guard.check_size(b"POST", b"/x", fields, Limits(head=1000))


ENGINES_OWN = (
    "/metrics",
    "/sleep",
    "/wake_up",
    "/is_sleeping",
    "/pause",
    "/resume",
    "/load",
    "/version",
    "/server_info",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/reset_prefix_cache",
    "/reset_mm_cache",
    "/collective_rpc",
    "/invocations",
    "/update_weights",
    "/init_weight_transfer_engine",
    "/abort_requests",
    "/scale_elastic_ep",
    "/start_profile",
    "/stop_profile",
    "/ping",
    "/docs",
    "/openapi.json",
    "/",
)
TRICKS = (
    "/v1/chat/completions//",
    "/v1/chat/completions/..",
    "/v1//chat/completions",
    "//v1/chat/completions",
    "/V1/chat/completions",
    "/v1/chat/completions%00",
    "/v1/chat/%63ompletions",
    "/v1/%2e%2e/metrics",
    "/v1/..%2fmetrics",
    "/v1/chat/completions/../../metrics",
    "http://engine:8000/metrics",
    "https://gateway/v1/chat/completions/../metrics",
    "*",
    "v1/chat/completions",
    "/v1/chat/completions;x",
    "/v1/models",
)


@pytest.mark.parametrize("path", ENGINES_OWN + TRICKS)
def test_no_other_path_is_forwarded(path: str) -> None:
    with pytest.raises((NotFound, MethodNotAllowed)):
        check(target=path.encode())


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/models", "/v1/models"),
        ("/v1/metrics", ""),
        ("/v1/health", ""),
        ("/nope", ""),
    ],
)
def test_a_base_url_without_v1_or_with_two_is_said(path: str, meant: str) -> None:
    with pytest.raises(NotFound) as refused:
        check(target=path.encode())
    assert refused.value.message == f"no such path; {f'did you mean {meant}?' if meant else SERVED}"


def test_a_client_that_asks_for_an_unknown_path_is_told_those_that_are_served() -> None:
    with pytest.raises(NotFound) as refused:
        check(target=b"/nope")
    posts, gets = refused.value.message.removeprefix("no such path; served are POST ").split("; GET ")
    assert set(posts.split(", ")) == {path.decode() for path in FORWARDED} | {"/v1/responses/{id}/cancel"}
    assert gets == "/health, /ready, /v1/models, /v1/models/{id}, /v1/responses/{id}"


@pytest.mark.parametrize("target", [CHAT + b"?x=/metrics", CHAT + b"?"])
def test_the_query_is_dropped(target: bytes) -> None:
    assert check(target=target).path == CHAT


@pytest.mark.parametrize("target", [b"/health", b"/ready", b"/v1/models", b"/v1/models/meta/llama"])
def test_what_is_answered_here(target: bytes) -> None:
    assert check(method=b"GET", target=target, length=None).endpoint is None
    with pytest.raises(MethodNotAllowed):
        check(target=target)


def test_a_forwarded_path_takes_post_with_a_body() -> None:
    with pytest.raises(MethodNotAllowed):
        check(method=b"GET")
    with pytest.raises(InvalidRequest):
        check(length=None)


def test_credentials_and_hop_by_hop_fields_stay_here() -> None:
    kept = [(b"x-mine", b"1"), (b"traceparent", b"00-1"), (b"accept", b"*/*"), (b"openai-organization", b"o")]
    dropped = [b"authorization", b"x-api-key", b"cookie", b"host", b"connection", b"keep-alive", b"te", b"trailer"]
    dropped += [b"upgrade", b"proxy-authorization", b"expect", b"content-length", b"accept-encoding", b"x-hop"]
    dropped += [b"x-gateway-class", b"x-gateway-model-version", b"x-request-id", b"transfer-encoding"]
    fields = kept + [(name, b"secret") for name in dropped]
    out = forwarded_request(fields, named_by_connection((b"keep-alive, X-Hop",)))
    assert out == b"".join(b"%b: %b\r\n" % field for field in kept)


def test_an_engines_hop_by_hop_fields_and_our_own_names_stay_here() -> None:
    fields = [(b"server", b"uvicorn"), (b"connection", b"x-hop"), (b"x-hop", b"1"), (b"x-gateway-backend", b"forged")]
    out = forwarded_response(200, fields, named_by_connection((b"x-hop",)))
    assert out == b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\n"
    assert forwarded_response(299, [], None) == b"HTTP/1.1 299 \r\n"
