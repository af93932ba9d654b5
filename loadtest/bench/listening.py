"""Servers of tests and load tests: what they have accepted is closed when they stop, whatever becomes of a test."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

Serve: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_CLOSED = "closed"
"""uvloop's word in the error for writing to a connection that has gone."""


class Listener:
    """Serves every connection in a task of its own; one that has gone ends its task, and is no error.

    A stream that is left open fails whatever test runs when it is collected: its loop has been closed by then.
    """

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._writers)

    async def start(
        self, port: int = 0, *, host: str = "127.0.0.1", limit: int = 2**16, tls: ssl.SSLContext | None = None
    ) -> int:
        """Listen on a port, by default a free one, and return it; streams buffer `limit` bytes."""
        self._server = await asyncio.start_server(self._accept, host, port, limit=limit, ssl=tls)
        number: int = self._server.sockets[0].getsockname()[1]
        return number

    async def stop(self) -> None:
        """Stop listening, and close every connection."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()
        await asyncio.sleep(0.001)  # the loop closes the listening socket a turn later

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note a connection at once: a task that is cancelled before it began closes nothing."""
        self._writers.add(writer)
        task = asyncio.create_task(self._attend(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except RuntimeError as error:
            if _CLOSED not in str(error):
                raise
        finally:
            writer.close()
            self._writers.discard(writer)


@asynccontextmanager
async def listening(serve: Serve, *, limit: int = 2**16) -> AsyncIterator[str]:
    """Listen on a free port until the block ends; yields the URL."""
    listener = Listener(serve)
    port = await listener.start(limit=limit)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await listener.stop()
