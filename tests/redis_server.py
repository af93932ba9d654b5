"""A redis-server of a test's own: on a free port, in a folder of its own, and ended by its process id."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.waiting import until

NEEDED = "redis-server is not installed (apt-get install redis-server)"


def free_port() -> int:
    """Return a port of the loopback address on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class RedisServer:
    """One server, which can be stopped, paused and started again empty."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> Any:
        return redis.Redis(port=self.port, decode_responses=True, socket_timeout=60)

    def start(self, *options: str, before: Sequence[str] = ()) -> None:
        """Start it, empty; options are those of its command line, after its configuration file in `before`."""
        here = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        save = () if before else ("--save", "")
        server = shutil.which("redis-server")
        assert server is not None, NEEDED
        log = (self.folder / "redis.log").open("ab")
        with log:
            self._process = subprocess.Popen([server, *before, *here, *save, *options], stdout=log, stderr=log)
        until(self._answers, "redis-server")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "redis.log").read_text()
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Let it answer nothing any more, while connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End a pause."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def redis_server(folder: Path, *options: str, before: Sequence[str] = ()) -> Iterator[RedisServer]:
    """Run one until the block ends; without the program the test is skipped."""
    if shutil.which("redis-server") is None:
        pytest.skip(NEEDED)
    folder.mkdir(parents=True, exist_ok=True)
    server = RedisServer(folder)
    server.start(*options, before=before)
    try:
        yield server
    finally:
        server.stop()
