"""The demo's processes: they end with it, however it ends."""

import asyncio
import contextlib
import ctypes
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

_PR_SET_PDEATHSIG = 1
_START_SECONDS = 20.0
_STOP_SECONDS = 5.0
_LAST_WORDS = 20


class ProcessDied(RuntimeError):
    """A process of the demo ended, or never came up; the message has its last words."""


def _die_with_parent() -> None:
    """Ask the kernel to end this child when its parent ends, even by SIGKILL; Linux only."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class Child:
    """A running process and the last lines that it wrote to standard error."""

    name: str
    process: asyncio.subprocess.Process
    words: list[str] = field(default_factory=list)
    readers: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.returncode is None

    def died(self) -> ProcessDied:
        """Return the error that tells its end."""
        return ProcessDied(f"{self.name} ended with status {self.process.returncode}:\n" + "\n".join(self.words))

    async def line_with(self, stream: asyncio.StreamReader, text: str) -> str:
        """Return the first line with `text`; raises ProcessDied when none comes in time."""
        try:
            async with asyncio.timeout(_START_SECONDS):
                while line := (await stream.readline()).decode(errors="replace"):
                    self._remember(line)
                    if text in line:
                        self.readers.append(asyncio.create_task(self._drain(stream)))
                        return line
        except TimeoutError:
            raise ProcessDied(f"{self.name} did not come up in {_START_SECONDS:g} s") from None
        await self.process.wait()
        raise self.died()

    async def stop(self) -> None:
        """End it: politely, then not."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
        for reader in self.readers:
            reader.cancel()
        await asyncio.gather(*self.readers, return_exceptions=True)

    async def _drain(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            self._remember(line.decode(errors="replace"))

    def _remember(self, line: str) -> None:
        self.words.append(line.rstrip())
        del self.words[:-_LAST_WORDS]


async def spawn(name: str, arguments: Sequence[str], *, stdout: int = asyncio.subprocess.DEVNULL) -> Child:
    """Start `python -m ARGUMENTS`, in a session of its own so that Ctrl-C reaches the demo alone."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        preexec_fn=_die_with_parent,
    )
    return Child(name, process)
