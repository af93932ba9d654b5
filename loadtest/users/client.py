"""Asking the gateway one thing and timing the answer."""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import gevent.ssl
from gevent import Timeout
from geventhttpclient.connectionpool import ConnectionPool, SSLConnectionPool
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError, HTTPSocketPoolResponse

from loadtest.report.recording import CUT, FAILED, OK, REFUSED
from loadtest.users.streaming import Dialect, Stream, Tokens, parsed, usage

_READ_BYTES = 65536
_MOST_CONNECTIONS = 100_000
_CODE = re.compile(r"[a-zA-Z0-9_.-]{1,60}")
_FAILURES = (OSError, HTTPParseError, Timeout)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request. Times are seconds on the monotonic clock; `sent` is when its last byte had left.

    `error` says in words what went wrong, "" when nothing did. `said` holds the bytes of the answer where they were
    asked for, else b"".
    """

    sent: float
    ended: float
    outcome: str
    error: str = ""
    status: int = 0
    backend: str = ""
    version: str = ""
    tokens: Tokens = field(default_factory=Tokens)
    first: float | None = None
    tpot: float | None = None
    gaps: tuple[tuple[float, float], ...] = ()
    size: int = 0
    said: bytes = b""


class Client:
    """Connections to one address, kept and shared by all users of a process: an answer opens a new one if it must.

    `timeout` is the longest silence in seconds, at connecting and between two reads.
    """

    def __init__(self, url: str, *, timeout: float, insecure: bool = False) -> None:
        address = urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError(f"--host is {url!r}; it should be like http://127.0.0.1:8000")
        secure = address.scheme == "https"
        port = address.port or (443 if secure else 80)
        where = (address.hostname, port, address.hostname, port)
        timeouts: dict[str, Any] = {
            "size": _MOST_CONNECTIONS,
            "connection_timeout": timeout,
            "network_timeout": timeout,
        }
        self._base = address.path.rstrip("/").removesuffix("/v1")
        self._host = address.netloc.rpartition("@")[2]
        self._pool = (
            SSLConnectionPool(*where, insecure=insecure, ssl_context_factory=_context(insecure), **timeouts)
            if secure
            else ConnectionPool(*where, **timeouts)
        )

    def ask(
        self,
        path: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str],
        *,
        dialect: Dialect | None = None,
        keep: bool = False,
    ) -> Answer:
        """Post `body` and read the answer, as a stream of `dialect` or, without one, as a whole."""
        data = json.dumps(body, separators=(",", ":")).encode()
        lines = (f"{name}: {value}\r\n" for name, value in headers.items())
        head = (
            f"POST {self._base}{path} HTTP/1.1\r\nhost: {self._host}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(data)}\r\n{''.join(lines)}\r\n"
        )
        sent = time.monotonic()
        try:
            sock = self._pool.get_socket()
            try:
                sock.sendall(head.encode("latin-1") + data)
            except BaseException:
                self._pool.release_socket(sock)
                raise
            sent = time.monotonic()
            answer = _Arriving(sock, self._pool, block_size=_READ_BYTES, method="POST")
        except _FAILURES as error:
            return Answer(sent, time.monotonic(), FAILED, f"no answer: {_words(error)}")
        with answer:
            if answer.status_code == 200 and dialect is not None:
                return _stream(answer, sent, Stream(dialect), keep=keep)
            return _whole(answer, sent)

    def close(self) -> None:
        """Close the connections that are kept."""
        self._pool.close()


class _Arriving(HTTPSocketPoolResponse):
    """An answer that hands its body out as it arrives."""

    def arrive(self) -> bytes:
        """Return what the next read of the body brings, b"" at its end; raises what `_FAILURES` has."""
        while not self._body_buffer and not self.message_complete:
            if self._sock is None:
                raise HTTPConnectionClosed("the connection was closed")
            data = self._sock.recv(_READ_BYTES)
            self.feed(data)
            if not data and not self.message_complete:
                raise HTTPConnectionClosed("the connection was closed")
        read = bytes(self._body_buffer)
        self._body_buffer.clear()
        return read

    def told(self, name: str) -> str:
        """Return a header's value, "" where there is none."""
        value = self.get(name) or ""
        return value if isinstance(value, str) else value[0]


def _stream(answer: _Arriving, sent: float, stream: Stream, *, keep: bool) -> Answer:
    size, kept, broken = 0, [], ""
    try:
        while data := answer.arrive():
            stream.feed(data, time.monotonic())
            size += len(data)
            if keep:
                kept.append(data)
    except _FAILURES as error:
        broken = f"cut: {_words(error)}"
    ended = time.monotonic()
    if stream.error is not None:
        broken = f"cut: error event {_code(parsed(stream.error))}"
    elif not broken and not stream.whole:
        broken = "cut: the stream ended without [DONE] and without a finish reason"
    tokens = stream.tokens()
    output = tokens.output or len(stream.gaps) + (stream.first is not None)
    return Answer(
        sent=sent,
        ended=ended,
        outcome=CUT if broken else OK,
        error=broken,
        status=200,
        backend=answer.told("x-gateway-backend"),
        version=answer.told("x-gateway-version"),
        tokens=Tokens(tokens.prompt, output, tokens.cached),
        first=stream.first,
        tpot=stream.tpot(output),
        gaps=tuple(stream.gaps),
        size=size,
        said=b"".join(kept),
    )


def _whole(answer: _Arriving, sent: float) -> Answer:
    parts, error, outcome = [], "", OK
    try:
        while data := answer.arrive():
            parts.append(data)
    except _FAILURES as failure:
        error, outcome = f"no whole answer: {_words(failure)}", FAILED
    ended, said, status = time.monotonic(), b"".join(parts), answer.status_code
    body = parsed(b"data:" + said.replace(b"\n", b" "))
    if status != 200:
        refused = status == 429 or (status == 503 and answer.told("retry-after") != "")
        outcome = REFUSED if refused else FAILED
        error = f"{outcome}: {status} {_code(body)}"
    elif not error and not body:
        outcome, error = FAILED, "failed: 200 without a JSON object"
    return Answer(
        sent=sent,
        ended=ended,
        outcome=outcome,
        error=error,
        status=status,
        backend=answer.told("x-gateway-backend"),
        version=answer.told("x-gateway-version"),
        tokens=usage(body),
        size=len(said),
        said=said,
    )


def _code(body: Mapping[str, Any]) -> str:
    """Return an error's code, or its type: short enough, and few enough, to be a row of their own each."""
    error = body.get("error")
    if not isinstance(error, dict):
        return "without a code"
    code = str(error.get("code") or error.get("type") or "")
    return code if _CODE.fullmatch(code) else "without a code"


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error.strerror if isinstance(error, OSError) and error.strerror else error}"


def _context(insecure: bool) -> Any:
    # gevent patches this function of the standard library, which has no other name.
    return gevent.ssl._create_unverified_context if insecure else gevent.ssl.create_default_context  # noqa: SLF001
