"""Sends spans in batches, from a thread of its own: a collector that is down or slow costs spans, never requests."""

import logging
import threading

from gateway.clock import monotonic
from gateway.telemetry import otlp
from gateway.telemetry.otlp_client import OtlpClient
from gateway.telemetry.otlp_settings import OtlpSettings

_log = logging.getLogger(__name__)
CLOSE_SECONDS = 2.0


class SpanSender:
    """Spans wait in a bounded list until a batch is full or its time is up; what finds no room is dropped."""

    def __init__(self, url: str, resource: bytes, settings: OtlpSettings) -> None:
        self._resource = resource
        self._settings = settings
        self._waiting: list[bytes] = []
        self._without_room = self._unsent = 0
        self._failing = False
        self._awake = threading.Event()
        self._stopping = threading.Event()
        self._client = OtlpClient(url, settings, self._stopping.wait)
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<SpanSender {len(self._waiting)} waiting, {self.dropped} dropped>"

    @property
    def dropped(self) -> int:
        """How many spans found no room, or were not taken."""
        return self._without_room + self._unsent

    def offer(self, spans: list[bytes]) -> None:
        """Have the spans of a trace sent, all or none; called by the event loop alone."""
        waiting, settings = self._waiting, self._settings
        if len(waiting) + len(spans) > settings.waiting:
            self._without_room += len(spans)
            return
        waiting.extend(spans)
        if len(waiting) >= settings.batch and not self._awake.is_set():
            self._awake.set()

    def close(self) -> None:
        """Send what waits, for at most two seconds."""
        self._stopping.set()
        self._awake.set()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        settings = self._settings
        while not self._stopping.is_set():
            is_full = self._awake.wait(settings.delay)
            self._awake.clear()
            least = settings.batch if is_full else 1
            while len(self._waiting) >= least and not self._stopping.is_set():
                self._send(settings.timeout)
                least = settings.batch
        until = monotonic() + min(CLOSE_SECONDS, settings.timeout)
        while self._waiting and (left := until - monotonic()) > 0.0:
            self._send(left)
        self._unsent += len(self._waiting)
        self._client.close()

    def _send(self, within: float) -> None:
        # The event loop only appends, so what is there now can be cut off at the front without a lock.
        batch = self._waiting[: self._settings.batch]
        del self._waiting[: len(batch)]
        try:
            why = self._client.send(otlp.request(self._resource, batch), within)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong, later spans are sent
            why = type(error).__name__
        if why:
            self._unsent += len(batch)
        if why and not self._failing:
            _log.error("spans could not be sent to the trace collector", extra={"reason": why, "spans": len(batch)})
        elif self._failing and not why:
            _log.info("spans are sent to the trace collector again", extra={"dropped": self.dropped})
        self._failing = bool(why)
