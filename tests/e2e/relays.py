"""Relays in front of engines, which some processes may lose: their part of the network fails, and nobody else's."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from loadtest.bench.listening import Listener


class Relay:
    """Passes bytes on to an engine at `port`, except for processes that are `lost`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = Listener(self.accept)
        self._open: dict[asyncio.StreamWriter, int] = {}
        self._lost: set[int] = set()
        self.url = ""

    async def start(self) -> None:
        """Listen on a free port."""
        self.url = f"http://127.0.0.1:{await self._listener.start()}"

    async def stop(self) -> None:
        """Cut off all, and take nothing more: connects are refused."""
        await self._listener.stop()

    def lose(self, pid: int) -> None:
        """Cut off what a process has open, and let it get nothing more."""
        self._lost.add(pid)
        for writer, port in list(self._open.items()):
            if _has(pid, port):
                writer.transport.abort()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what one connection brings."""
        peer = writer.get_extra_info("peername")
        if peer is None:  # it has gone by now
            return
        port: int = peer[1]
        if any(_has(pid, port) for pid in self._lost):
            writer.transport.abort()
            return
        self._open[writer] = port
        try:
            from_engine, to_engine = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                await asyncio.gather(_pass_on(reader, to_engine), _pass_on(from_engine, writer))
            finally:
                to_engine.close()
        finally:
            del self._open[writer]


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while (data := await reader.read(65536)) and not writer.is_closing():
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def _has(pid: int, port: int) -> bool:
    """Whether a process has the socket of this port of the loopback address."""
    # Other tests leave ten thousand sockets there: the lines of all the others are not taken apart.
    rows = re.findall(f": {_hex(port)} .*", Path("/proc/net/tcp").read_text())
    inodes = {row.split()[9] for row in rows}
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:  # the process has ended
        return False
    for descriptor in descriptors:
        with suppress(FileNotFoundError):
            if os.readlink(descriptor).removeprefix("socket:[").removesuffix("]") in inodes:
                return True
    return False


def _hex(port: int) -> str:
    return f"0100007F:{port:04X}"


@asynccontextmanager
async def relays(urls: Sequence[str]) -> AsyncIterator[list[Relay]]:
    """Run a relay in front of each engine until the block ends."""
    async with AsyncExitStack() as stack:
        found = []
        for url in urls:
            relay = Relay(int(url.rsplit(":", 1)[1]))
            stack.push_async_callback(relay.stop)
            await relay.start()
            found.append(relay)
        yield found
