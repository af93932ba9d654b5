"""Writing to standard error from a thread: a pipe that is not drained costs lines, never a turn of the loop."""

import os
import queue
import threading

MOST = 10_000
"""Lines that wait; what finds no room is dropped."""
_CLOSE_SECONDS = 1.0


class Output:
    """Looks like a text file. `dropped` counts lines that found no room."""

    def __init__(self, descriptor: int) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._waiting: queue.Queue[bytes | None] = queue.Queue(MOST)
        self._thread = threading.Thread(target=self._write, name="output", daemon=True)
        self._thread.start()

    def write(self, text: str) -> int:
        """Have it written soon."""
        try:
            self._waiting.put_nowait(text.encode(errors="backslashreplace"))
        except queue.Full:
            self.dropped += 1
        return len(text)

    def flush(self) -> None:
        """Do nothing: the thread writes at once what it is given."""

    def close(self) -> None:
        """Write what waits, for at most a second."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(_CLOSE_SECONDS)

    def _write(self) -> None:
        while (data := self._waiting.get()) is not None:
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:
                self.dropped += 1
