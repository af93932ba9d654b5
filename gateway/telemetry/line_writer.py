"""Writing lines to whatever standard output is: a disk may be full for a while, a pipe may take a part and no more."""

from select import POLLOUT, poll
from typing import Any, BinaryIO, Final

_RETRY_MS: Final = 1000


class LineWriter:
    """Writes lines whole. Of a write that breaks inside a line, the rest of that line is written before any other.

    `lost` counts lines of which nothing was written. An output that takes nothing at the moment is waited for, also
    where another process has made it one that does not block.
    """

    def __init__(self, sink: BinaryIO) -> None:
        # A buffer would not say how much has been written when it breaks.
        self._raw: Any = getattr(sink, "raw", sink)
        self._rest = b""
        self.lost = 0

    def __repr__(self) -> str:
        return f"<LineWriter {len(self._rest)} bytes of a line left, {self.lost} lines lost>"

    def write(self, lines: bytes) -> None:
        """Write lines, each with its end; raises OSError, and ValueError where the output is closed."""
        rest, self._rest = self._rest, b""
        data, at = rest + lines, 0
        try:
            while at < len(data):
                written = self._raw.write(data[at:])
                if written is None:
                    self._wait()
                else:
                    at += written
            self._raw.flush()
        except (OSError, ValueError):
            begun = at < len(rest) or (at > len(rest) and data[at - 1 : at] != b"\n")
            whole = data.find(b"\n", at) + 1 if begun else at
            self._rest = data[at:whole]
            self.lost += data.count(b"\n", whole)
            raise

    def _wait(self) -> None:
        waiting = poll()
        waiting.register(self._raw.fileno(), POLLOUT)
        waiting.poll(_RETRY_MS)
