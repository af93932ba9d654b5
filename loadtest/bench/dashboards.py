"""Dashboards that are open while a gateway is measured."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

_AGAIN_AFTER = 0.5
"""Seconds until a page asks again for a stream that has ended or was refused."""


class Dashboard:
    """Reads the snapshots of an admin listener as the page does, in a thread of its own, from `start` to `end`."""

    def __init__(self, port: int) -> None:
        self.events = 0
        self._port = port
        self._ended = threading.Event()
        self._connection: http.client.HTTPConnection | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)

    def start(self) -> None:
        """Ask for the stream, and again whenever it ends."""
        self._thread.start()

    def end(self) -> None:
        """Hang up."""
        self._ended.set()
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(2)
        self._thread.join()

    def _read(self) -> None:
        while not self._ended.is_set():
            self._connection = connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
            with suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/admin/stream")
                for line in connection.getresponse():
                    self.events += line.startswith(b"data:")
                    if self._ended.is_set():
                        break
            connection.close()
            self._ended.wait(_AGAIN_AFTER)


@contextmanager
def open_dashboards(port: int | None, count: int) -> Iterator[tuple[Dashboard, ...]]:
    """Keep so many dashboards open at the admin listener on a port; none where there is no such listener."""
    dashboards = () if port is None else tuple(Dashboard(port) for _ in range(count))
    with ExitStack() as stack:
        for each in dashboards:
            each.start()
            stack.callback(each.end)
        yield dashboards
