"""Child processes of the demo and of load tests: each ends with its parent, however that ends."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence

_START_SECONDS = 60.0
_STOP_SECONDS = 5.0
_LAST_WORDS = 10
_PURE = "TIDEGATE_PURE"


class ProcessDied(RuntimeError):
    """A child ended, or never came up; the message has its last words."""


class Child:
    """A running process and the last lines that it wrote."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._words: deque[str] = deque(maxlen=_LAST_WORDS)
        self._reader: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Child {self.name} pid {self.pid} {_ending(self._process.returncode)}>"

    async def line_with(self, text: str, *, seconds: float = _START_SECONDS) -> str:
        """Return the first line with `text`, to be asked for once; raises ProcessDied when none comes in time."""
        try:
            async with asyncio.timeout(seconds):
                while line := await self._line():
                    if text in line:
                        self._reader = asyncio.create_task(self._read_on())
                        return line
        except TimeoutError:
            raise self._died(f"did not come up in {seconds:g} s") from None
        raise self._died(_ending(await self._process.wait()))

    async def watch(self) -> None:
        """Wait for it to end, which it should not; raises ProcessDied."""
        status = await self._process.wait()
        if self._reader is not None:
            await self._reader
        raise self._died(_ending(status))

    async def stop(self, *, grace: float = _STOP_SECONDS) -> None:
        """End it: politely, then after `grace` seconds not."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(grace):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):  # it may have ended just now
                self._process.kill()
            await self._process.wait()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def _line(self) -> str:
        if self._process.stdout is None:
            return ""
        line = (await self._process.stdout.readline()).decode(errors="replace")
        if line:
            self._words.append(line.rstrip())
        return line

    async def _read_on(self) -> None:
        # A pipe that is not read would fill, and stop the process at its next word.
        while await self._line():
            pass

    def _died(self, how: str) -> ProcessDied:
        return ProcessDied("\n  ".join((f"{self.name} (pid {self.pid}) {how}", *self._words)))


async def spawn(name: str, arguments: Sequence[str]) -> Child:
    """Start `python -m ARGUMENTS`, in a session of its own so that Ctrl-C reaches its parent alone.

    Of the environment's `TIDEGATE_*` it sees TIDEGATE_PURE alone: a demo must not listen elsewhere because a service
    does.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gateway.processes.ends_with_parent", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_") or name == _PURE},
        start_new_session=True,
    )
    return Child(name, process)


def _ending(status: int | None) -> str:
    if status is None:
        return "runs"
    return f"ended with status {status}" if status >= 0 else f"was ended by {signal.Signals(-status).name}"
