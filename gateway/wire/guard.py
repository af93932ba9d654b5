"""What a request's head must hold before anything else is done with it: the rules that the parser does not enforce."""

import re
from dataclasses import dataclass
from typing import Final

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
from gateway.exchange import BodyKind, Endpoint
from gateway.wire.endpoints import FORWARDED, LOCAL, MODELS_PREFIX, RESPONSES_PREFIX, SERVED, stored
from gateway.wire.heads import Headers, named_by_connection

MAX_TARGET: Final = 8 * 1024
MAX_FIELDS: Final = 100

_SHORT: Final = 64 * 1024
"""Bytes of a body that are read although nothing wants them, so that the connection stays of use."""
_JSON: Final = b"application/json"
_SHOWN: Final = 64
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)
_METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
_READS: Final = frozenset((b"GET", b"HEAD"))
_VERSION: Final = b"/v1"
_NO_NAMES: Final[frozenset[bytes]] = frozenset()
"""Shared, since every empty set of its own takes 224 bytes."""
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::\d{1,5})?")
_READ: Final = frozenset(
    (
        b"authorization",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"traceparent",
        b"transfer-encoding",
        b"upgrade",
        b"x-api-key",
        b"x-gateway-class",
        b"x-gateway-hops",
        b"x-gateway-model-version",
        b"x-request-id",
        b"x-request-timeout",
        b"x-session-id",
    )
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what clients may send and hold open, in bytes, seconds and connections."""

    connections: int = 100_000
    head: int = 32 * 1024
    body: int = 32 * 1024 * 1024
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    body_silence: float = 10.0
    keep_alive: float = 75.0
    write_silence: float = 60.0


class Head:
    """A head that passed: what to do with it. `endpoint` is None for what this process answers itself.

    `refusal` is the answer where there is nothing else to do; `bodiless` says that only an answer's head is wanted.
    What is found out about it is noted here too, for the next request with the same head: whom `known_to` took for its
    `caller`, and the fields that are `forwarded`.
    """

    __slots__ = (
        "api_key",
        "authorization",
        "bodiless",
        "caller",
        "connection",
        "content_type",
        "endpoint",
        "expects_continue",
        "forwarded",
        "hops",
        "http10",
        "is_options",
        "known_to",
        "path",
        "refusal",
        "request_id",
        "service_class",
        "session",
        "timeout",
        "traceparent",
        "version",
    )

    def __init__(
        self,
        endpoint: Endpoint | None,
        path: bytes,
        content_type: bytes = b"",
        connection: frozenset[bytes] = _NO_NAMES,
        *,
        expects_continue: bool = False,
        request_id: bytes | None = None,
        timeout: bytes | None = None,
        authorization: bytes | None = None,
        api_key: bytes | None = None,
        service_class: bytes | None = None,
        version: bytes | None = None,
        session: bytes | None = None,
        traceparent: bytes | None = None,
        hops: bytes | None = None,
        refusal: GatewayError | None = None,
        bodiless: bool = False,
        is_options: bool = False,
        http10: bool = False,
    ) -> None:
        self.endpoint: Final = endpoint
        self.path: Final = path
        self.content_type: Final = content_type
        self.connection: Final = connection
        self.expects_continue: Final = expects_continue
        self.request_id: Final = request_id
        self.timeout: Final = timeout
        self.authorization: Final = authorization
        self.api_key: Final = api_key
        self.service_class: Final = service_class
        self.version: Final = version
        self.session: Final = session
        self.traceparent: Final = traceparent
        self.hops: Final = hops
        self.refusal: Final = refusal
        self.bodiless: Final = bodiless
        self.is_options: Final = is_options
        self.http10: Final = http10
        self.known_to: object = None
        self.caller: object = None
        self.forwarded: bytes | None = None


def check(method: bytes, target: bytes, version: str, fields: Headers, limits: Limits) -> Head:
    """Hold a head against RFC 9110 and 9112 and the allow-list. The parser has seen to tokens and control characters.

    Raises a GatewayError whose message says which rule was broken.
    """
    if len(fields) > MAX_FIELDS:
        raise HeadersTooLarge(f"the head has more than {MAX_FIELDS} fields")
    if version not in {"1.0", "1.1"}:
        raise NotSupported(f"HTTP/{version} is not supported: use HTTP/1.1")
    http10 = version == "1.0"
    seen = _read(fields)
    if b"host" not in seen and not http10:
        raise BadHttp("a Host field is required (RFC 9112 section 3.2)")
    _check_framing(http10, seen, limits)
    if method not in _METHODS or b"upgrade" in seen:
        raise NotSupported("CONNECT, TRACE and protocol upgrades are not supported")
    path, _, query = (target if target.startswith(b"/") else _origin_form(target)).partition(b"?")
    endpoint, refusal = None, None
    try:
        path, endpoint = _find(method, path, query)
    except (NotFound, MethodNotAllowed, InvalidRequest) as error:
        if not _is_short(seen):
            raise
        refusal = error
    if endpoint is not None:
        _check_body(endpoint, seen)
    return Head(
        endpoint,
        path,
        seen.get(b"content-type", b""),
        named_by_connection((seen[b"connection"],)) if b"connection" in seen else _NO_NAMES,
        expects_continue=b"expect" in seen and not http10 and _has_body(seen),
        request_id=seen.get(b"x-request-id"),
        timeout=seen.get(b"x-request-timeout"),
        authorization=seen.get(b"authorization"),
        api_key=seen.get(b"x-api-key"),
        service_class=seen.get(b"x-gateway-class"),
        version=seen.get(b"x-gateway-model-version"),
        session=seen.get(b"x-session-id"),
        traceparent=seen.get(b"traceparent"),
        hops=seen.get(b"x-gateway-hops"),
        refusal=refusal,
        bodiless=method == b"HEAD",
        is_options=method == b"OPTIONS",
        http10=http10,
    )


def check_size(method: bytes, target: bytes, fields: Headers, limits: Limits) -> None:
    """Raise HeadersTooLarge where a head, as it stood on the wire, is over the limit."""
    size = len(method) + len(target) + len("  HTTP/1.1\r\n\r\n")
    if size + sum(len(name) + len(value) + 4 for name, value in fields) > limits.head:
        raise HeadersTooLarge(f"the head is over {limits.head} bytes")


def check_length(length: bytes, limits: Limits) -> None:
    """Raise RequestTooLarge where a body, as it is declared, is over the limit."""
    if int(length) > limits.body:
        raise RequestTooLarge(f"the body is over the limit of {limits.body} bytes")


def _read(fields: Headers) -> dict[bytes, bytes]:
    """Return the fields that matter here; each but Connection may come once."""
    read = [field for field in fields if field[0] in _READ]
    seen = dict(read)
    if len(seen) != len(read):
        seen = _joined(read)
    if b"host" in seen and not _HOST.fullmatch(seen[b"host"]):
        raise BadHttp("the Host field is not a host")
    return seen


def _joined(read: Headers) -> dict[bytes, bytes]:
    """Return fields of which one came more than once; only Connection may."""
    seen: dict[bytes, bytes] = {}
    for name, value in read:
        if name not in seen:
            seen[name] = value
        elif name == b"connection":
            seen[name] += b"," + value
        else:
            raise BadHttp(f"the field `{name.decode()}` came twice")
    return seen


def _check_framing(http10: bool, seen: dict[bytes, bytes], limits: Limits) -> None:
    coding = seen.get(b"transfer-encoding")
    if coding is not None:
        if http10:
            raise BadHttp("Transfer-Encoding does not exist in HTTP/1.0 (RFC 9112 section 6.1)")
        if coding.lower() != b"chunked":
            raise NotSupported("the only transfer coding supported is `chunked`")
    expect = seen.get(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        raise ExpectationFailed("the only expectation supported is 100-continue")
    length = seen.get(b"content-length")
    if length is not None:
        check_length(length, limits)


def _origin_form(target: bytes) -> bytes:
    """Return the path and query of a target in absolute form (RFC 9112 section 3.2.2)."""
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise NotFound(f"no such path; {SERVED}")
    if not _HOST.fullmatch(found[1]):
        raise BadHttp("the target does not name a host")
    return found[2] or b"/"


def _has_body(seen: dict[bytes, bytes]) -> bool:
    """Whether a body follows: without one, nothing waits for `100 Continue` (RFC 9110 section 10.1.1)."""
    return b"transfer-encoding" in seen or int(seen.get(b"content-length", 0)) > 0


def _is_short(seen: dict[bytes, bytes]) -> bool:
    """Whether a body has an end that is known and near."""
    if not _has_body(seen):
        return True
    return b"transfer-encoding" not in seen and b"expect" not in seen and int(seen[b"content-length"]) <= _SHORT


def _find(method: bytes, path: bytes, query: bytes) -> tuple[bytes, Endpoint | None]:
    """Return what a path means, without the slash that may end it."""
    if (path.endswith(b"/") and not path.startswith(MODELS_PREFIX)) or path == MODELS_PREFIX:
        path = path[:-1]
    endpoint = FORWARDED.get(path)
    if endpoint is None and path.startswith(RESPONSES_PREFIX):
        endpoint = stored(path, query)
    if endpoint is not None:
        if method == endpoint.method:
            return path, endpoint
        allowed = endpoint.method.decode()
        raise MethodNotAllowed(f"{endpoint.path} takes {allowed}", allow=allowed)
    if path in LOCAL or (path.startswith(MODELS_PREFIX) and len(path) > len(MODELS_PREFIX)):
        if method in _READS:
            return path, None
        raise MethodNotAllowed("this path takes GET")
    raise _not_found(path)


def _not_found(path: bytes) -> NotFound:
    """Say that a path is not served; a base URL without `/v1`, or with two, is the usual cause."""
    meant = path.removeprefix(_VERSION) if path.startswith(_VERSION * 2) else _VERSION + path
    is_served = meant in FORWARDED or meant in LOCAL
    hint = f"did you mean {meant.decode()}?" if is_served else SERVED
    return NotFound(f"no such path; {hint}")


def _check_body(endpoint: Endpoint, seen: dict[bytes, bytes]) -> None:
    if endpoint.body is BodyKind.NONE:
        return
    coding = seen.get(b"content-encoding")
    if coding is not None and coding.lower() != b"identity":
        raise UnsupportedMediaType("compressed request bodies are not supported: send it without Content-Encoding")
    if endpoint.is_json:
        kind = seen.get(b"content-type", _JSON)
        if kind != _JSON and kind.partition(b";")[0].strip().lower() != _JSON:
            said = kind[:_SHOWN].decode("latin-1") or "nothing"
            raise UnsupportedMediaType(f'send "content-type: application/json"; this request said {said}')
    if b"content-length" not in seen and b"transfer-encoding" not in seen:
        raise InvalidRequest("the body is missing")
