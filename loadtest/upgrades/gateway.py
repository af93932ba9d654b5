"""A gateway as a process of its own, with or without workers, and what its admin listener says."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loadtest.bench.peers import HERE, free_port

MOCK = HERE / "mockvllm"
_PATIENCE = 300.0
OWN = (sys.executable, "-m", "gateway.cli")
"""What starts the `tidegate` of this checkout."""


class Gateway:
    """One gateway; `options` are those of `tidegate serve`, and without workers it is one process."""

    def __init__(self, folder: Path, backend: int, options: Mapping[str, object], program: Sequence[str] = OWN) -> None:
        self.port, self.admin = free_port(), free_port()
        folder.mkdir(parents=True, exist_ok=True)
        routes = folder / "routes.yaml"
        routes.write_text(f"models: {{m: {{backends: ['http://127.0.0.1:{backend}']}}}}")
        listed = {"state": "memory://", "port": self.port, "admin-port": self.admin, **options}
        words = [word for name, value in listed.items() for word in (f"--{name}", str(value))]
        self._command = [*program, "serve", str(routes), "--no-access-log", *words]
        self._log = folder / "gateway.log"
        self._workers = int(str(options.get("workers", 0)))
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            return subprocess.Popen(self._command, stderr=log)

    def restart(self) -> None:
        """End it with SIGTERM, and start it once it has ended, as a supervisor without upgrades does."""
        self.process.terminate()
        self.process.wait()
        self.process = self._start()

    def ask(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=60) as answer:
            text: str = answer.read().decode()
            return text

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask("/admin/status"))
        return found

    def until_serving(self, generation: int | None = None) -> None:
        """Wait until a backend is ready and all workers serve, in that generation if one is given."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            try:
                status = self.status()
            except OSError:
                status = {}
            stages = [each["stage"] for each in status.get("workers", ())]
            ready = any(each["state"] == "ready" for each in status.get("backends", ()))
            whole = stages == ["serving"] * self._workers  # one that was killed is not listed until it starts again
            if ready and whole and generation in {None, status.get("generation")}:
                return
            time.sleep(0.1)
        raise RuntimeError(f"{_PATIENCE:g} s were not enough for all workers to serve; see {self._log}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


@contextmanager
def engine() -> Iterator[int]:
    """Run an engine that costs next to nothing until the block ends; gives its port."""
    port = free_port()
    process = subprocess.Popen([str(MOCK), "-p", str(port), "-m", "m", "-t", "1", "-i", "1"])
    try:
        yield port
    finally:
        process.terminate()
        process.wait()
