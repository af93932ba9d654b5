"""One JSON line per request, written by a thread of its own: a slow or broken sink costs lines, never requests.

Lines are made in batches: made one by one between two requests, each would cost twice as much.
"""

import sys
import threading
from typing import BinaryIO, Final

from gateway.clock import Clock, monotonic, wall
from gateway.exchange import Exchange
from gateway.observers import Observer
from gateway.telemetry.access_line import AccessLines
from gateway.telemetry.line_writer import LineWriter

MAX_LINES = 10_000
FLUSH_SECONDS: Final = 0.2
BATCH: Final = 64
MANY_LINES: Final = 512
"""Lines that are written without waiting: at 10,000 requests a second those of a whole interval take megabytes."""
_CLOSE_SECONDS = 2.0


class AccessLog(Observer):
    """Lines wait in a bounded list; what finds no room is counted in `dropped`."""

    def __init__(
        self,
        sink: BinaryIO,
        clock: Clock = monotonic,
        epoch: Clock = wall,
        *,
        interval: float = FLUSH_SECONDS,
        at_once: int = 1 << 30,
    ) -> None:
        """Take the clock of exchanges, one of seconds since the epoch, and the seconds between writes of few lines.

        Where other processes write to the sink too, `at_once` is how many bytes it never mixes with theirs.
        """
        self.dropped = 0
        self._writer = LineWriter(sink)
        self._clock = clock
        self._epoch = epoch
        self._settled: list[Exchange] = []
        self._lines: list[bytes] = []
        self._due = threading.Event()
        self._stopped = False
        self._making = threading.Lock()
        self._told = False
        self._access_lines = AccessLines()
        self._writing = threading.Thread(target=self._write, args=(interval, at_once), name="access log", daemon=True)
        self._writing.start()

    def on_settled(self, exchange: Exchange) -> None:
        """Note a line."""
        self._settled.append(exchange)
        if len(self._settled) >= BATCH:
            self._make_lines()
            if len(self._lines) >= MANY_LINES:
                self._due.set()

    def close(self) -> None:
        """Write what waits, for at most two seconds."""
        self._stopped = True
        self._due.set()
        self._writing.join(_CLOSE_SECONDS)

    def _make_lines(self) -> None:
        """Make lines of what has settled: the event loop when a batch is full, the thread of what is left over."""
        with self._making:
            batch = self._settled[:]
            del self._settled[: len(batch)]
            room = MAX_LINES - len(self._lines)
            self.dropped += max(0, len(batch) - room)
            offset = self._epoch() - self._clock()
            self._lines += [self._access_lines.line(each, offset) for each in batch[:room]]

    def _write(self, interval: float, at_once: int) -> None:
        while not self._stopped:
            self._due.wait(interval)
            self._due.clear()
            self._flush(at_once)
        self._flush(at_once)

    def _flush(self, at_once: int) -> None:
        self._make_lines()
        lines = self._lines
        if not lines:
            return
        # The event loop only appends, so what is there now can be cut off at the front without a lock.
        lines = lines[:]
        del self._lines[: len(lines)]
        lost = self._writer.lost
        for piece in _pieces(lines, at_once):
            try:
                self._writer.write(piece)
            except (OSError, ValueError) as error:
                if not self._told:
                    self._told = True
                    sys.stderr.write(f"tidegate: the access log cannot be written: {error}\n")
        self.dropped += self._writer.lost - lost


def _pieces(lines: list[bytes], most: int) -> list[bytes]:
    """Return lines joined to pieces of so many bytes at most; a longer line is one of its own."""
    found: list[bytes] = []
    first, size = 0, 0
    for place, line in enumerate(lines):
        if size and size + len(line) + 1 > most:
            found.append(b"\n".join(lines[first:place]) + b"\n")
            first, size = place, 0
        size += len(line) + 1
    found.append(b"\n".join(lines[first:]) + b"\n")
    return found
