"""A way to a server on which answers come late, or not before they are let go."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from loadtest.bench.listening import Listener


@dataclass(eq=False)
class Owed:
    """An answer on its way: it is `delivered` some time, or `given_up` when its client has gone."""

    given_up: bool = False
    delivered: bool = False

    @property
    def pending(self) -> bool:
        return not self.given_up and not self.delivered


class SlowLink:
    """Forwards connections to a port. Each answer is `delay` seconds late, and waits while the link is held.

    `owed` are the answers on their way.
    """

    def __init__(self, port: int) -> None:
        self.delay = 0.0
        self.port = 0
        self.owed: set[Owed] = set()
        self._to = port
        self._going = asyncio.Event()
        self._going.set()

    @property
    def url(self) -> str:
        """Where the server at the other end is, for `--state`."""
        return f"redis://127.0.0.1:{self.port}/0"

    def hold(self) -> None:
        """Deliver nothing from now on."""
        self._going.clear()

    def go_on(self) -> None:
        """Deliver what is held, and what comes."""
        self._going.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection until either end closes it."""
        try:
            answers, asked = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            return
        both = [asyncio.create_task(each) for each in (_forward(reader, asked), self._deliver(answers, writer))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.close()
            for each in both:
                each.cancel()

    async def _deliver(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while found := await answers.read(1 << 20):
                owed = Owed()
                self.owed.add(owed)
                try:
                    await asyncio.sleep(self.delay)
                    await self._going.wait()
                    owed.delivered = True
                finally:
                    owed.given_up = not owed.delivered
                    self.owed.discard(owed)
                writer.write(found)
                await writer.drain()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while found := await reader.read(1 << 20):
            writer.write(found)
            await writer.drain()


@asynccontextmanager
async def slow_link(port: int) -> AsyncIterator[SlowLink]:
    """Run a link to a port until the block ends; it delays nothing at first."""
    link = SlowLink(port)
    listener = Listener(link.serve)
    link.port = await listener.start()
    try:
        yield link
    finally:
        await listener.stop()


@contextmanager
def in_thread(port: int) -> Iterator[SlowLink]:
    """Run a link in a thread of its own."""
    found: list[tuple[SlowLink, asyncio.AbstractEventLoop, asyncio.Event]] = []
    begun = threading.Event()

    async def run() -> None:
        over = asyncio.Event()
        async with slow_link(port) as link:
            found.append((link, asyncio.get_running_loop(), over))
            begun.set()
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    begun.wait()
    link, loop, over = found[0]
    try:
        yield link
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
