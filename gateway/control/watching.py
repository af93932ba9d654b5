"""Files that are read again when they change: every half second they are looked at."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from gateway.clock import next_turn
from gateway.config.file_marks import FileMarks

_log = logging.getLogger(__name__)
INTERVAL = 0.5


class Watched(Protocol):
    """Files that belong together, and who reads them."""

    async def look(self) -> None:
        """Read them again if they have changed."""

    async def again(self) -> None:
        """Read them again."""


class Reread:
    """A few files that are read by `load`, which raises OSError or ValueError and keeps the old for what is wrong."""

    def __init__(self, what: str, files: Sequence[Path], load: Callable[[], None]) -> None:
        self._what = what
        self._names = [str(file) for file in files]
        self._load = load
        self._marks = FileMarks(lambda: files)

    async def look(self) -> None:
        """Read them again if they have changed."""
        if await asyncio.to_thread(self._marks.have_changed):
            await self.again()

    async def again(self) -> None:
        """Read them again; a failure is told, and what was read before stays."""
        try:
            await asyncio.to_thread(self.read)
        except (OSError, ValueError) as error:
            _log.error(
                "files not read, their last content stays in use",
                extra={"what": self._what, "files": self._names, "reason": str(error)},
            )
        else:
            _log.info("files read again", extra={"what": self._what, "files": self._names})

    def read(self) -> None:
        """Read them; blocks, and raises OSError or ValueError."""
        self._marks.take()
        self._load()


async def watch(sources: Iterable[Watched], interval: float = INTERVAL) -> None:
    """Look at all sources until cancelled."""
    while True:
        await next_turn(interval)
        for source in sources:
            await source.look()
