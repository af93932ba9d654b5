"""Targets from a file that another program writes: read when it changes, whatever links lead there."""

import asyncio
from pathlib import Path

from gateway.config.file_marks import FileMarks
from gateway.config.origins import FileOrigin
from gateway.discovery.target import Publish, Target
from gateway.discovery.target_file import read_targets
from gateway.threads import in_thread

INTERVAL = 0.5


class FileSource:
    """Looks at a file twice a second. What cannot be read, or is wrong, changes nothing and is the `problem`."""

    def __init__(self, origin: FileOrigin, *, interval: float = INTERVAL) -> None:
        self.problem = ""
        self.errors = 0
        self._path = Path(origin.path)
        self._interval = interval
        self._marks = FileMarks(lambda: (self._path,))
        self._targets: tuple[Target, ...] | None = None

    def __repr__(self) -> str:
        return f"<FileSource {self._path}{': ' if self.problem else ''}{self.problem}>"

    async def run(self, publish: Publish) -> None:
        """Ask until cancelled. A file that is as it was confirms what it held."""
        is_first = True
        while True:
            if is_first or await in_thread(self._marks.have_changed, f"look at {self._path}"):
                await self._read()
                is_first = False
            if self._targets is not None and not self.problem:
                publish(self._targets)
            await asyncio.sleep(self._interval)

    async def _read(self) -> None:
        try:
            self._targets = await in_thread(self._load, f"read {self._path}")
        except OSError as error:
            self.problem, self.errors = f"the file cannot be read: {error.strerror}", self.errors + 1
        except ValueError as error:
            self.problem, self.errors = f"the file {error}", self.errors + 1
        else:
            self.problem = ""

    def _load(self) -> tuple[Target, ...]:
        self._marks.take()  # before it is read, so that no change is missed
        return read_targets(self._path)
