"""A redis-server of a program's own: on a free port, in a folder of its own, and ended by its process id."""

import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from loadtest.bench.peers import find_packaged, free_port

_START_WITHIN = 60.0


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
        """Start it, empty; options are those of its command line, after its configuration file in `before`.

        Raises RuntimeError where it does not answer.
        """
        here = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        save = () if before else ("--save", "")
        server = find_packaged("redis-server", "redis-server")
        with (self.folder / "redis.log").open("ab") as log:
            process = subprocess.Popen([server, *before, *here, *save, *options], stdout=log, stderr=log)
        self._process = process
        deadline = time.monotonic() + _START_WITHIN
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"redis-server does not answer: {(self.folder / 'redis.log').read_text()}")
            time.sleep(0.02)

    def _answers(self) -> bool:
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
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End a pause."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)
