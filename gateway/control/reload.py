"""Reloading route files, on change, on SIGHUP or when asked: all or nothing, and nobody's request notices."""

import asyncio
import logging
from collections.abc import Callable, Collection
from pathlib import Path

from watchfiles import awatch

from gateway.config.itself import Listening
from gateway.config.load import load_routes
from gateway.config.problems import RoutesError
from gateway.config.table import RouteTable

_log = logging.getLogger(__name__)
_SETTLE_MS = 200


class Reloader:
    """Loads the routes again and hands good ones to `apply`. `failure` is the last load's, None after a good one."""

    def __init__(
        self,
        path: Path,
        table: RouteTable,
        apply: Callable[[RouteTable], None],
        *,
        listeners: Collection[Listening] = (),
    ) -> None:
        """`listeners` are the gateway's own, which no backend may be."""
        self.table = table
        self.failure: RoutesError | None = None
        self.loads = 0
        self.failures = 0
        self._path = path
        self._apply = apply
        self._listeners = listeners
        self._turn = asyncio.Lock()

    async def reload(self) -> RouteTable:
        """Load and apply; raises RoutesError and keeps the old routes where a file is wrong."""
        async with self._turn:
            try:
                table = await asyncio.to_thread(load_routes, self._path, listeners=self._listeners)
            except RoutesError as error:
                self.failure = error
                self.failures += 1
                _log.error("routes not loaded, the old ones stay", extra={"problems": str(error)})
                raise
            self._apply(table)
            self.table = table
            self.failure = None
            self.loads += 1
            _log.info("routes loaded", extra={"sources": list(table.sources)})
            return table

    async def try_reload(self) -> None:
        """Reload when nobody waits for the result; what is wrong has been logged and counted."""
        try:
            await self.reload()
        except RoutesError:
            return

    async def watch(self) -> None:
        """Reload whenever a route file changes, until cancelled.

        The folder is watched rather than the file: editors and Kubernetes replace files instead of writing to them.
        """
        folder = self._path if self._path.is_dir() else self._path.parent
        async for changes in awatch(folder, debounce=_SETTLE_MS, step=50, recursive=False):
            if self._concerns({name for _, name in changes}):
                await self.try_reload()

    def _concerns(self, changed: set[str]) -> bool:
        """Whether a change is to a route file; Kubernetes swaps a link named `..data` for a whole folder of them."""
        if self._path.is_dir():
            return True
        names = {Path(source).name for source in self.table.sources} | {self._path.name, "..data"}
        return any(Path(name).name in names for name in changed)
