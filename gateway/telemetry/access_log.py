"""One JSON line per request, written by a thread of its own: a slow or broken sink costs lines, never requests."""

import sys
import threading
from datetime import UTC, datetime
from typing import BinaryIO

import msgspec

from gateway.backends.backend import Backend
from gateway.clock import Clock, wall
from gateway.exchange import AttemptEnd, Exchange

MAX_LINES = 10_000
FLUSH_SECONDS = 0.2
_CLOSE_SECONDS = 2.0
_encode = msgspec.json.Encoder().encode


class AccessLine(msgspec.Struct, omit_defaults=True):
    """What is written of one request; seconds to a tenth of a millisecond, absent where there was none."""

    time: str
    request_id: str
    model: str
    endpoint: str
    outcome: str
    status: int
    e2e: float
    overhead: float
    klass: str = msgspec.field(name="class", default="")
    version: str = ""
    pool: str = ""
    backend: str = ""
    attempts: int = 0
    stream: bool = False
    ttft: float | None = None
    tpot: float | None = None
    queue: float = 0.0
    tokens_in: int | None = None
    tokens_out: int | None = None
    reason: str = ""


class AccessLog:
    """An observer. Lines wait in a bounded list; what finds no room is counted in `dropped`."""

    def __init__(self, sink: BinaryIO, clock: Clock = wall) -> None:
        self.dropped = 0
        self._sink = sink
        self._clock = clock
        self._lines: list[bytes] = []
        self._stop = threading.Event()
        self._told = False
        self._thread = threading.Thread(target=self._write, name="access log", daemon=True)
        self._thread.start()

    def attempt_ended(self, exchange: Exchange, backend: Backend, end: AttemptEnd) -> None:
        """Wait for the whole request."""

    def retried(self, exchange: Exchange, end: AttemptEnd) -> None:
        """Nothing to add."""

    def settled(self, exchange: Exchange) -> None:
        """Note a line."""
        if len(self._lines) >= MAX_LINES:
            self.dropped += 1
            return
        self._lines.append(_encode(_line(exchange, self._clock())))

    def close(self) -> None:
        """Write what waits, for at most two seconds."""
        self._stop.set()
        self._thread.join(_CLOSE_SECONDS)

    def _write(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            self._sink.write(b"\n".join(lines) + b"\n")
            self._sink.flush()
        except (OSError, ValueError) as error:
            self.dropped += len(lines)
            if not self._told:
                self._told = True
                sys.stderr.write(f"tidegate: the access log cannot be written: {error}\n")


def _line(exchange: Exchange, now: float) -> AccessLine:
    ttft, tpot = exchange.ttft, exchange.tpot
    return AccessLine(
        time=_timestamp(now),
        request_id=exchange.request_id,
        model=exchange.model,
        endpoint=exchange.endpoint,
        outcome=exchange.outcome,
        status=exchange.client_status,
        e2e=round(exchange.e2e, 4),
        overhead=round(exchange.overhead, 4),
        klass=exchange.service_class,
        version=exchange.version,
        pool=exchange.pool,
        backend=exchange.backend,
        attempts=exchange.attempts,
        stream=exchange.stream,
        ttft=round(ttft, 4) if ttft is not None else None,
        tpot=round(tpot, 4) if tpot is not None else None,
        queue=round(exchange.queued, 4),
        tokens_in=exchange.prompt_tokens,
        tokens_out=exchange.output_tokens,
        reason=exchange.reason,
    )


def _timestamp(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
