"""A worker: a gateway process that takes its sockets, its routes and its orders from a supervisor."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Protocol

from gateway.config.table import RouteTable
from gateway.config.transfer import receive
from gateway.listeners import Addresses, Sockets
from gateway.wire.slices import finish
from gateway.workers.channel import Channel, Message
from gateway.workers.inherited import Inherited

_log = logging.getLogger(__name__)
_LOOK = 0.25
"""Seconds between two looks at what the supervisor is to know."""


class Served(Protocol):
    """The gateway that a worker runs."""

    async def run(self, started: Callable[[Addresses], None], drained: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Serve until told to stop."""

    def stop(self) -> None:
        """Begin to drain; a second call ends at once."""

    def retire(self) -> None:
        """Begin to drain, while others accept from the same sockets."""

    async def accept_from(self, sockets: Collection[socket.socket]) -> None:
        """Accept clients from exactly these sockets."""

    async def exposition(self) -> bytes:
        """Return all metrics."""

    async def take_routes(self, data: bytes) -> None:
        """Put routes in force that the supervisor has loaded."""

    def set_drained(self, backend: str, *, drained: bool) -> None:
        """Send a backend no requests, or some again, as the leading worker does."""

    def wanting(self) -> frozenset[str]:
        """Return the pools without an engine whose requests this process holds."""

    def wake(self, pools: Collection[str]) -> None:
        """Have engines woken for these pools, and for no others, for all workers."""

    async def reread(self) -> None:
        """Read the files beside the routes again."""

    def leads(self) -> bool:
        """Whether this process leads rollouts."""


Make = Callable[[RouteTable, Sockets], Served]


class Worker:
    """The worker's side of what happens between the two."""

    def __init__(self, own: Inherited, make: Make, load: Callable[[], RouteTable]) -> None:
        """Take what makes the gateway, and what loads routes that another version of the code has loaded for it."""
        self._own, self._make, self._load = own, make, load
        self._sockets = own.listening()
        self._app: Served | None = None
        self._orders: asyncio.Queue[tuple[Message, bytes]] = asyncio.Queue()
        self._leads: bool | None = None
        self._wanting: frozenset[str] = frozenset()
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Serve until the supervisor says so, or is gone."""
        connected = socket.socket(fileno=self._own.channel)
        self._channel = await Channel.over(connected, self._received, self._alone)
        routes = self._understood((await self._orders.get())[1])
        admin = socket.socket(socket.AF_UNIX)
        admin.bind(self._own.admin)
        self._app = self._make(routes, Sockets((), admin, lasting=self._own.lasting))
        try:
            await self._app.run(self._started, self._drained)
        finally:
            for task in self._tasks:
                task.cancel()
            with contextlib.suppress(OSError):
                os.unlink(self._own.admin)

    def _understood(self, data: bytes) -> RouteTable:
        try:
            return finish(receive(data))
        except Exception as error:  # noqa: BLE001 - another version of the code may have written anything
            words = "routes are read again: the supervisor runs another version of the code"
            _log.warning(words, extra={"reason": repr(error)})
            return self._load()

    def _received(self, message: Message, data: bytes) -> None:
        if message["do"] == "stop":  # at once: a reload may take its time
            self._stop()
        else:
            self._orders.put_nowait((message, data))

    def _started(self, _: Addresses) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._leave)
        self._tasks = [loop.create_task(each()) for each in (self._obey, self._report)]
        self._channel.send({"is": "ready"})

    async def _drained(self) -> None:
        if self._app is not None:
            self._channel.send({"is": "drained"}, await self._app.exposition())
            await self._channel.sent()

    def _leave(self) -> None:
        """End alone, as somebody wants who knows this process: the supervisor gives the sockets to others."""
        self._channel.send({"is": "leaving"})

    def _alone(self) -> None:
        if self._app is None:
            os._exit(1)
        _log.warning("the supervisor is gone: this worker drains and ends")
        self._app.stop()

    def _stop(self) -> None:
        if self._app is None:
            os._exit(0)
        self._app.stop()

    async def _obey(self) -> None:
        while self._app is not None:
            message, data = await self._orders.get()
            match message["do"]:
                case "accept":
                    await self._app.accept_from([self._sockets[each] for each in message["sockets"]])
                    self._channel.send({"is": "accepting", "sockets": message["sockets"]})
                case "retire":
                    self._app.retire()
                case "routes":
                    self._channel.send({"is": "routed", "number": message["number"], "problem": await self._put(data)})
                case "drain":
                    self._app.set_drained(message["backend"], drained=message["drained"])
                case "wake":
                    self._app.wake(message["pools"])
                case "reread":
                    await self._app.reread()
                case "count":
                    self._channel.send({"is": "counted"}, await self._app.exposition())

    async def _put(self, data: bytes) -> str:
        """Put other routes in force; return why not."""
        if self._app is None:
            return "not started"
        try:
            await self._app.take_routes(data)
        except Exception as error:  # noqa: BLE001 - as above
            _log.exception("routes of the supervisor cannot be used")
            return repr(error)
        return ""

    async def _report(self) -> None:
        while self._app is not None:
            leads = self._app.leads()
            if leads != self._leads:
                self._leads = leads
                self._channel.send({"is": "leading" if leads else "following"})
            wanting = self._app.wanting()
            if wanting != self._wanting:
                self._wanting = wanting
                self._channel.send({"is": "wanting", "pools": sorted(wanting)})
            await asyncio.sleep(_LOOK)
