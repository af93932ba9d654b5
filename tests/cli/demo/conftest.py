import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.waiting import until


class Demo:
    """`tidegate demo` as a process of its own, with its temporary files in a folder of its own."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], *, environment: dict[str, str], tty: bool) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self._out, self._err = folder / "out", folder / "err"
        self._terminal: int | None = None
        inner: int | None = None
        if tty:
            self._terminal, inner = pty.openpty()
            os.set_blocking(self._terminal, False)
        self._shown = b""
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway.cli", "demo", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out if inner is None else inner,
                stderr=err,
                env={**os.environ, "TMPDIR": str(self.temporary), "TERM": "xterm", "COLUMNS": "80", **environment},
            )
        if inner is not None:
            os.close(inner)

    @property
    def out(self) -> str:
        if self._terminal is None:
            return self._out.read_text()
        try:
            while chunk := os.read(self._terminal, 65536):
                self._shown += chunk
        except OSError:  # nothing more for now, or the other end is closed
            pass
        return self._shown.decode()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def until_shown(self, text: str) -> None:
        until(lambda: text in self.out or self.process.poll() is not None, repr(text))
        assert text in self.out, self.err

    def children(self) -> dict[int, str]:
        """The command line of each process that it has started."""
        pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {int(pid): Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in pids}

    def child(self, words: str) -> int:
        return next(pid for pid, command in self.children().items() if words in command)

    def ended(self) -> int:
        """Its status, once it has ended by itself or by what the test did."""
        until(lambda: (self.out, self.process.poll())[1] is not None, "the demo to end")
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            until(lambda: (self.out, self.process.poll())[1] is not None, "the demo to end")
        if self._terminal is not None:
            os.close(self._terminal)


StartDemo = Callable[..., Demo]


@pytest.fixture
def start_demo(tmp_path: Path) -> Iterator[StartDemo]:
    """Starts `tidegate demo` with arguments; whatever still runs at the end of the test is ended."""
    started: list[Demo] = []

    def start(*arguments: str, environment: dict[str, str] | None = None, tty: bool = False) -> Demo:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Demo(folder, arguments, environment=environment or {}, tty=tty))
        return started[-1]

    yield start
    for demo in started:
        demo.close()
