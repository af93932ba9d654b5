"""A client that streams one answer and times it; one connection a request."""

import asyncio
import re
from collections import Counter
from itertools import pairwise
from time import monotonic

import httptools

from loadtest.report.recording import CUT, FAILED, OK, REFUSED, Request, rounded
from loadtest.scenarios.traffic import Arrival

_CONTENT = re.compile(rb'"(?:content|reasoning(?:_content)?)": ?"(?!")')
_PATIENCE = 30.0
"""Seconds after which a client gives up."""


class Exchange(asyncio.Protocol):
    """One request on its own connection; `done` is set when the answer is over, however it ended."""

    def __init__(self, request: bytes, loop: asyncio.AbstractEventLoop) -> None:
        self._request = request
        self._parser = httptools.HttpResponseParser(self)
        self._rest = b""
        self._whole = False
        self._retry_after = False
        self.done: asyncio.Future[None] = loop.create_future()
        self.backend = ""
        self.version = ""
        self.events: list[tuple[float, int]] = []
        self.ended = 0.0
        self._said_done = False
        self._said_error = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio calls it with the cause
        self._over()

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"x-gateway-backend":
                self.backend = value.decode()
            case b"x-gateway-version":
                self.version = value.decode()
            case b"retry-after":
                self._retry_after = True

    def on_body(self, body: bytes) -> None:
        """Count the events that carry output; an event that is cut by a read is left for the next."""
        whole, separator, self._rest = (self._rest + body).rpartition(b"\n\n")
        if not separator:
            return
        if count := len(_CONTENT.findall(whole)):
            self.events.append((monotonic(), count))
        self._said_done = self._said_done or b"data: [DONE]" in whole
        self._said_error = self._said_error or b'"error":' in whole

    def on_message_complete(self) -> None:
        self._whole = True
        self._over()
        self.transport.close()

    def _over(self) -> None:
        if not self.done.done():
            self.ended = monotonic()
            self.done.set_result(None)

    @property
    def status(self) -> int:
        """The status of the answer, 0 without one."""
        return self._parser.get_status_code() if self._parser.get_http_version() != "0.0" else 0

    @property
    def outcome(self) -> str:
        """What came of it."""
        if self.status == 200:
            return OK if self._whole and self._said_done and not self._said_error else CUT
        refused = self.status == 429 or (self.status == 503 and self._retry_after)
        return REFUSED if refused else FAILED


async def ask(
    address: tuple[str, int],
    arrival: Arrival,
    request: bytes,
    *,
    due: float,
    gateway: str,
    gaps: Counter[tuple[int, float]],
) -> Request:
    """Send one request that was `due` (monotonic clock) and return what came of it; raises nothing."""
    loop = asyncio.get_running_loop()
    exchange = Exchange(request, loop)
    try:
        async with asyncio.timeout(_PATIENCE):
            await loop.create_connection(lambda: exchange, *address)
            await exchange.done
    except (OSError, TimeoutError):
        exchange.ended = monotonic()
    finally:
        if hasattr(exchange, "transport"):
            exchange.transport.abort()
    return _told(exchange, arrival, due, gateway, gaps)


def _told(exchange: Exchange, arrival: Arrival, due: float, gateway: str, gaps: Counter[tuple[int, float]]) -> Request:
    events = exchange.events if exchange.status == 200 else []
    tokens = sum(count for _, count in events)
    began = due - arrival.at
    for (earlier, _), (later, _) in pairwise(events):
        gaps[int(later - began), rounded(later - earlier)] += 1
    for at, count in events:
        if count > 1:
            gaps[int(at - began), rounded(0.0)] += count - 1
    return Request(
        at=arrival.at,
        name=arrival.stream.name,
        gateway=gateway,
        tenant=arrival.stream.tenant,
        service_class=arrival.stream.service_class,
        status=exchange.status,
        outcome=exchange.outcome,
        backend=exchange.backend,
        version=exchange.version,
        prompt_tokens=arrival.prompt_tokens,
        output_tokens=tokens,
        ttft=events[0][0] - due if events else None,
        tpot=(events[-1][0] - events[0][0]) / (tokens - 1) if tokens > 1 else None,
        e2e=exchange.ended - due,
    )
