"""Reloading route files, on change, on SIGHUP or when asked: all or nothing; requests in flight go on."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from gateway.config.apart import are_large, load_apart
from gateway.config.file_marks import FileMarks
from gateway.config.itself import Listening
from gateway.config.load import load_routes
from gateway.config.problems import RoutesError
from gateway.config.sources import route_files
from gateway.config.table import RouteTable
from gateway.config.transfer import receive
from gateway.wire.slices import Slices, finish

_log = logging.getLogger(__name__)


class Reloader:
    """Loads the routes again and hands good ones to `apply`. `failure` is the last load's, None after a good one."""

    def __init__(
        self,
        path: Path,
        table: RouteTable,
        apply: Callable[[RouteTable], Awaitable[None]],
        *,
        listeners: Collection[Listening] = (),
        slices: Slices | None = None,
    ) -> None:
        """Take the routes in force; `listeners` are the gateway's own addresses, which no backend may have.

        With `slices`, large files are loaded in a process of their own.
        """
        self.table = table
        self.failure: RoutesError | None = None
        self.loads = 0
        self.failures = 0
        self._path = path
        self._apply = apply
        self._listeners = listeners
        self._slices = slices
        self._turn = asyncio.Lock()
        self._marks = FileMarks(self._files)

    def mark(self) -> None:
        """Note what the files look like; later changes are acted on."""
        self._marks.take()

    async def reload(self) -> RouteTable:
        """Load and apply; raises RoutesError and keeps the old routes where a file is wrong."""
        async with self._turn:
            try:
                table = await self._loaded()
            except RoutesError as error:
                self.failure = error
                self.failures += 1
                _log.error("routes not loaded, the old ones stay in use", extra={"problems": str(error)})
                raise
            await self._put_in_force(table)
            return table

    async def take(self, data: bytes) -> None:
        """Apply what another process of this gateway has loaded, and `transfer.receive` reads."""
        async with self._turn:
            table = await self._slices.do(receive(data)) if self._slices is not None else finish(receive(data))
            await self._put_in_force(table)

    async def _put_in_force(self, table: RouteTable) -> None:
        await self._apply(table)
        self.table = table
        self.failure = None
        self.loads += 1
        _log.info("routes loaded", extra={"sources": list(table.sources)})

    async def again(self) -> None:
        """Reload when no caller waits for the result; what is wrong has been logged and counted."""
        try:
            await self.reload()
        except RoutesError:
            return

    async def look(self) -> None:
        """Reload if a route file, or a file that a secret comes from, has changed."""
        if await asyncio.to_thread(self._marks.have_changed):
            await self.again()

    async def _loaded(self) -> RouteTable:
        await asyncio.to_thread(self._marks.take)
        try:
            table = await self._load()
        except RoutesError as error:
            await asyncio.to_thread(self._marks.adopt, [*map(Path, error.secret_files)])
            raise
        await asyncio.to_thread(self._marks.adopt, [*map(Path, table.sources)])
        return table

    async def _load(self) -> RouteTable:
        if self._slices is not None and await asyncio.to_thread(are_large, self._path):
            data = await asyncio.to_thread(load_apart, self._path, self._listeners)
            if data is not None:
                return await self._slices.do(receive(data))
        return await asyncio.to_thread(load_routes, self._path, listeners=self._listeners)

    def _files(self) -> set[Path]:
        secrets = self.failure.secret_files if self.failure is not None else ()
        return {*route_files(self._path), *map(Path, self.table.sources), *map(Path, secrets)}
