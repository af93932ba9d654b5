"""Carrying one answer from an engine to a client while measuring it: streams of events."""

from typing import Final, Protocol

from gateway.clock import Clock
from gateway.exchange import AttemptEnd, Exchange
from gateway.policy.slo.buckets import bucket_of
from gateway.proxy.answers import chunk, in_one_chunk, length
from gateway.proxy.naming import MODEL, Namer, Renaming
from gateway.wire.answer import Loss, Sink
from gateway.wire.answer_progress import AnswerAborted
from gateway.wire.long_event import EventTooLarge
from gateway.wire.service import Writer
from gateway.wire.sse import Scanner

MAX_HELD: Final = 64 * 1024
_LAST_CHUNK: Final = b"0\r\n\r\n"
_KEPT_FOR: Final = 0.25
_PATIENCE_AFTER_END: Final = 1.0
"""Seconds that framing may go on after the terminator."""
KEEP_ALIVE = 15.0
"""Seconds between two comments while a stream has no output yet."""
_COMMENT: Final = b": waiting for the first token\n\n"


class AttemptCallbacks(Protocol):
    """The request that an answer belongs to, as the answer's carrier sees it."""

    @property
    def committed(self) -> bool:
        """Whether part of the answer has gone to the client."""

    def commit(self) -> None:
        """Learn that bytes of the answer go to the client now: from here on nothing is retried."""

    def complete(self) -> None:
        """Learn that the answer has been written to its end."""

    def failed(self, code: int) -> None:
        """Learn that the answer has been written, and that it ended with an error of the engine's with this code."""

    def fail(self, end: AttemptEnd, detail: str) -> None:
        """Learn that the answer cannot be completed."""

    def refuse(self, status: int, body: bytes) -> None:
        """Learn that a 200 holds nothing but an error of the engine's, which names this status."""

    def drop_upstream(self) -> None:
        """Close the engine's connection: what still comes on it is of no use."""


def _naming_a_model(held: list[bytes]) -> bytes:
    """Return the first of the pieces behind a head that names a model, empty where none does."""
    for place in range(1, len(held)):
        if held[place].find(MODEL) >= 0:
            return held[place]
    return b""


class StreamRelay(Sink):
    """Relays server-sent events.

    The head and what precedes the first output are held back, so that an attempt that fails there can be repeated
    elsewhere. From then on each read becomes one write of whole events.
    """

    __slots__ = (
        "_attempt",
        "_bounds",
        "_chunked",
        "_client",
        "_clock",
        "_exchange",
        "_held",
        "_kept_alive",
        "_naming",
        "_previous",
        "_renaming",
        "scanner",
    )

    def __init__(
        self,
        attempt: AttemptCallbacks,
        client: Writer,
        exchange: Exchange,
        scanner: Scanner,
        *,
        head: bytes,
        chunked: bool,
        clock: Clock,
        naming: Namer | None = None,
    ) -> None:
        self._attempt = attempt
        self._client = client
        self._exchange = exchange
        self._held: list[bytes] | None = [b"" if exchange.opened else head]
        self._chunked = chunked
        self._clock = clock
        self._previous = self._kept_alive = 0.0
        self._naming = naming
        self._renaming: Renaming | None = None
        self.scanner = scanner
        self._bounds = exchange.itl_bounds

    def data(self, pieces: list[bytes]) -> None:
        """Pass a read on; the hot path."""
        scanner = self.scanner
        try:
            out = scanner.feed_all(pieces)
        except EventTooLarge as error:
            self._attempt.fail(AttemptEnd.TOO_LARGE, str(error))
            return
        except AnswerAborted:
            self._aborted()
            return
        if scanner.content:
            self._measure(scanner.content)
        if self._held is not None:
            self._pass_on_held(self._held, out)
        elif out:
            self._write(b"", out)
        if scanner.surplus and self._attempt.committed:
            self._finish([])
            self._attempt.drop_upstream()

    def chunk(self, data: bytes, piece: bytes) -> bool:
        """Pass a whole chunk on as it came if the client gets chunks, and if it is an event like those before."""
        if self._held is not None or self._renaming is not None or not (self._chunked and self.scanner.knows(piece)):
            return False
        self._measure(1)
        self._client.write(data)
        return True

    def last(self, pieces: list[bytes]) -> None:
        """Pass the final pieces on and judge the whole."""
        scanner = self.scanner
        try:
            out = scanner.feed_all(pieces)
            events = scanner.content
            if rest := scanner.flush():
                out = [*out, rest]
        except EventTooLarge as error:
            self._attempt.fail(AttemptEnd.TOO_LARGE, str(error))
            return
        except AnswerAborted:
            self._aborted()
            return
        if events := events + scanner.content:
            self._measure(events)
        progress = scanner.progress
        head = b""
        if self._held is not None:
            released = self._release(self._held, out)
            if released is None:
                if progress.error is None:
                    self._attempt.fail(AttemptEnd.CLOSED_EARLY, "the stream ended before its first event")
                return
            head, out = released[0], released[1:]
        if progress.error is not None or progress.complete:
            self._finish(out, head)
            return
        self._write(head, out)
        self._attempt.fail(AttemptEnd.TRUNCATED, "the stream ended without its terminator")

    def lost(self, loss: Loss, detail: str) -> None:
        """Decide what a cut means: after the terminator nothing, before any output another try, else the end."""
        if self._held is None and self.scanner.progress.done:
            self._finish([])
            return
        if self._held is None:
            self._write(b"", [self.scanner.release()])
        end = AttemptEnd.TRUNCATED if self._held is None else AttemptEnd.CLOSED_EARLY
        self._attempt.fail(AttemptEnd.MALFORMED if loss is Loss.MALFORMED else end, detail)

    def _aborted(self) -> None:
        """Fail an answer that the engine gave up, however properly its stream ends."""
        end = AttemptEnd.CLOSED_EARLY if self._held is not None else AttemptEnd.TRUNCATED
        self._attempt.fail(end, "the engine aborted the answer")

    def resumed(self) -> None:
        """Forget the last arrival: the pause was the client's, so the gap is not the engine's."""
        self._previous = 0.0

    def probe(self) -> bytes | None:
        """Return a comment, which every reader of events skips."""
        if self._held is not None:
            return None
        return chunk(b":\n\n") if self._chunked else b":\n\n"

    def check(self, now: float) -> bool:
        """Do what time alone calls for; return whether that was the end of the stream."""
        if self._held is not None:
            self._keep_alive(self._held, now)
            return False
        silence = now - self._exchange.last_content
        if silence >= _KEPT_FOR and (last := self.scanner.release()):
            self._write(b"", [last])
        if not self.scanner.progress.done or silence < _PATIENCE_AFTER_END:
            return False
        self._finish([])
        self._attempt.drop_upstream()
        return True

    def _keep_alive(self, held: list[bytes], now: float) -> None:
        """Send the head, and comments, while output is waited for: proxies in front give up a silent stream.

        No part of the answer is sent, so another backend may still be asked.
        """
        if now - max(self._kept_alive, self._exchange.sent) >= KEEP_ALIVE:
            head, held[0], self._kept_alive = held[0], b"", now
            self._client.write(head + (chunk(_COMMENT) if self._chunked else _COMMENT))
            self._exchange.opened = True

    def _measure(self, events: int) -> None:
        now = self._clock()
        exchange = self._exchange
        previous, between = self._previous, events - 1
        if previous:
            gap = now - previous
            self._gaps()[bucket_of(self._bounds, gap)] += 1
            exchange.itl_sum += gap
        elif not exchange.first_content:
            exchange.first_content = now
        else:
            between = 0
        if between:
            self._gaps()[0] += between
        self._previous = exchange.last_content = now
        exchange.content_events += events

    def _gaps(self) -> list[int]:
        """Return the counts of gaps between content events; a stream of one event needs none."""
        gaps = self._exchange.itl
        if not gaps:
            gaps = self._exchange.itl = [0] * (len(self._bounds) + 1)
        return gaps

    def _pass_on_held(self, held: list[bytes], out: list[bytes]) -> None:
        released = self._release(held, out)
        if released is not None:
            self._write(released[0], released[1:])

    def _release(self, held: list[bytes], out: list[bytes]) -> list[bytes] | None:
        """Keep what commits to nothing; once output, or an end, is there, return the head and all that was kept."""
        progress, begun = self.scanner.progress, self._exchange.content_events > 0
        if progress.error is not None and not begun:
            self._attempt.refuse(progress.error_code, progress.error)
            return None
        held += out
        if not (begun or progress.begun) and length(held) < MAX_HELD:
            return None
        self._held = None
        self._attempt.commit()
        if self._naming is not None:
            self._renaming, self._naming = self._naming.renaming(_naming_a_model(held)), None
        return held

    def _write(self, head: bytes, body: list[bytes], end: bytes = b"") -> None:
        """Write in one piece, copied once."""
        if self._renaming is not None:
            body = [b"".join(body).replace(*self._renaming)]
        data = in_one_chunk(body, head, end) if self._chunked else b"".join([head, *body, end])
        if data:
            self._client.write(data)

    def _finish(self, out: list[bytes], head: bytes = b"") -> None:
        """Write the end and settle."""
        progress = self.scanner.progress
        if progress.usage is not None:
            self._exchange.prompt_tokens = progress.usage.prompt
            self._exchange.output_tokens = progress.usage.output
            self._exchange.cached_tokens = progress.usage.cached
        if progress.error is not None:
            self._write(head, out)
            self._attempt.failed(progress.error_code)
            return
        if missing := progress.missing_end:
            out = [*out, missing]
        self._write(head, out, _LAST_CHUNK if self._chunked else b"")
        self._attempt.complete()
