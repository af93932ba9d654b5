"""`python -m loadtest.store_faults`: what requests notice of a Redis server that is slow, away, or refuses to work.

Two gateways share a redis-server of this program's own, each over a link that can delay answers. One client sends
requests to one of them, without and with each fault in turn, and prints latencies side by side. It fails when a
request fails, when the median rises by a millisecond, or when counts are not saved again after a fault.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from gateway import native
from loadtest.bench.peers import free_port
from loadtest.bench.redis_server import RedisServer
from loadtest.store_faults.link import in_thread
from loadtest.upgrades.gateway import MOCK, Gateway

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}).encode()
FIELDS = {"content-type": "application/json"}
LATE = 0.2
MOST_ADDED = 0.001
_PACE = 0.005
_PATIENCE = 120.0


@dataclass
class Seen:
    """What a client saw: the seconds of each answer, and how many requests failed."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0

    def quantile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Client:
    """Sends requests one after another on a connection that is kept."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, seconds: float, seen: Seen) -> None:
        """Send requests for a while, and note what came of them."""
        until = time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            try:
                self._connection.request("POST", "/v1/chat/completions", BODY, FIELDS)
                answer = self._connection.getresponse()
                answer.read()
                seen.failed += answer.status != 200
            except (OSError, HTTPException):
                seen.failed += 1
                self._connection.close()
            took = time.perf_counter() - began
            seen.seconds.append(took)
            time.sleep(max(0.0, _PACE - took))


def _until(holds: Callable[[], bool], what: str, instead: Callable[[], object] = str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"this did not come within {_PATIENCE:g} s: {what}\n{instead()}")
        time.sleep(0.05)


@contextmanager
def _gateway(folder: Path, backend: int, state: str) -> Iterator[Gateway]:
    """Run a gateway that serves and saves."""
    gateway = Gateway(folder, backend, {"state": state})
    try:
        _until(lambda: is_saved(gateway), "a gateway that serves and saves")
        yield gateway
    finally:
        gateway.process.kill()
        gateway.process.wait()


def status(gateway: Gateway) -> dict[str, Any]:
    """Return what a gateway says of its state and its backends, nothing where it does not answer."""
    with suppress(OSError):
        found = gateway.status()
        return {key: found[key] for key in ("state", "backends")}
    return {}


def is_saved(gateway: Gateway) -> bool:
    """Whether a gateway has a ready backend, and its last save was good."""
    if not (found := status(gateway)):
        return False
    ready = all(each["state"] == "ready" for each in found["backends"])
    return bool(ready and found["state"]["fleet"]["saved_seconds"] is not None and not found["state"]["not_saved"])


@dataclass
class Fault:
    """Something that befalls a server, how it ends, and what was seen without and with it."""

    name: str
    begin: Callable[[], object]
    end: Callable[[], object]
    well: Seen = field(default_factory=Seen)
    ill: Seen = field(default_factory=Seen)

    @property
    def added(self) -> float:
        """By how many seconds the median is longer."""
        return statistics.median(self.ill.seconds) - statistics.median(self.well.seconds)

    @property
    def is_good(self) -> bool:
        return self.added < MOST_ADDED and not self.well.failed + self.ill.failed

    def row(self) -> str:
        """Return a line of the table, in milliseconds."""
        parts = [f"{1000 * each.quantile(share):8.2f}" for share in (0.5, 0.99) for each in (self.well, self.ill)]
        counts = f"{len(self.ill.seconds):8,d} {self.well.failed + self.ill.failed:7,d}"
        return f"{self.name:24s} {' '.join(parts)} {1000 * self.added:+8.2f} {counts}{'' if self.is_good else '  FAIL'}"


def _faults(server: RedisServer, slow: Callable[[float], object]) -> list[Fault]:
    def restart(*options: str) -> None:
        server.stop()
        server.start(*options)

    def permit(word: str) -> None:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "default", word)

    return [
        Fault("none (noise)", lambda: None, lambda: None),
        Fault(f"{1000 * LATE:g} ms late", lambda: slow(LATE), lambda: slow(0.0)),
        Fault("paused (SIGSTOP)", server.pause, server.go_on),
        Fault("stopped, then empty", server.stop, server.start),
        Fault("restarted empty", restart, lambda: None),
        Fault("EVAL forbidden", lambda: permit("-eval"), lambda: permit("+eval")),
        Fault("EVAL renamed", lambda: restart("--rename-command", "EVAL", "NOEVAL"), restart),
    ]


def main() -> int:
    """Return 1 when a fault was noticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each is measured at a time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="faults whose names contain this")
    asked = parser.parse_args()
    if not MOCK.exists():
        raise SystemExit(f"first: make {MOCK.relative_to(Path.cwd())}")
    with tempfile.TemporaryDirectory() as name:
        folder, backend = Path(name), free_port()
        server = RedisServer(folder)
        server.start()
        engine = subprocess.Popen([str(MOCK), "-p", str(backend), "-m", "m", "-t", "1", "-i", "1"])
        try:
            with (
                in_thread(server.port) as a,
                in_thread(server.port) as b,
                _gateway(folder / "a", backend, a.url) as one,
                _gateway(folder / "b", backend, b.url) as two,
            ):

                def slow(seconds: float) -> None:
                    a.delay = b.delay = seconds

                faults = [each for each in _faults(server, slow) if asked.only in each.name]
                for _ in range(asked.rounds):
                    for fault in faults:
                        _measure(fault, Client(one.port), [one, two], asked.seconds)
        finally:
            server.stop()
            engine.kill()
            engine.wait()
    return _report(faults)


def _measure(fault: Fault, client: Client, gateways: list[Gateway], seconds: float) -> None:
    client.ask(1.0, Seen())
    client.ask(seconds, fault.well)
    fault.begin()
    client.ask(seconds, fault.ill)
    fault.end()
    for gateway in gateways:
        _until(lambda: is_saved(gateway), f"counts that are saved after: {fault.name}", lambda: status(gateway))  # noqa: B023


def _report(faults: list[Fault]) -> int:
    columns = ("p50", "p50 with", "p99", "p99 with", "added", "requests")
    print(f"{'milliseconds':24s} {' '.join(f'{each:>8s}' for each in columns)} {'failed':>7s}")
    for fault in faults:
        print(fault.row())
    print(f"tidegate ran {native.running()}")
    return int(not all(fault.is_good for fault in faults))


if __name__ == "__main__":
    sys.exit(main())
