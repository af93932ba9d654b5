"""A real `tidegate serve` in front of the engine, and what it counts."""

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from loadtest.real.engine import KEY, MODEL

_URL = re.compile(r"http://[0-9.]+:\d+")
_IN_FLIGHT = re.compile(r"(?m)^tidegate_in_flight (\S+)")
_WITHIN = 60.0
_COUNTED = {
    "requests": ("tidegate_requests_total", "outcome"),
    "attempts": ("tidegate_attempts_total", "outcome"),
    "users": ("tidegate_sli_events_total", "verdict"),
    "backend": ("tidegate_backend_sli_events_total", "verdict"),
    "ejections": ("tidegate_ejections_total", "reason"),
}
Counts = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where a gateway listens, and the file of its access log."""

    url: str
    admin: str
    log: Path

    def ready(self) -> bool:
        """Whether it has a backend that is ready."""
        return 'state="ready"} 1.0' in self._metrics()

    def in_flight(self) -> int:
        """Return how many requests are in progress."""
        return round(float(_IN_FLIGHT.findall(self._metrics())[0]))

    def wait_until_ready(self, *, seconds: float = _WITHIN) -> None:
        """Wait for a ready backend; raises TimeoutError."""
        _wait(self.ready, seconds, "a ready backend")

    def counts(self) -> Counts:
        """Return requests, attempts, availability events and ejections so far, once nothing is in progress."""
        _wait(lambda: not self.in_flight(), _WITHIN, "the end of all requests")
        counts: dict[str, dict[str, float]] = {name: {} for name in _COUNTED}
        for family in text_string_to_metric_families(self._metrics()):
            for sample in family.samples:
                for name, (metric, label) in _COUNTED.items():
                    if sample.name == metric and sample.labels.get("sli", "availability") == "availability":
                        value = sample.labels[label]
                        counts[name][value] = counts[name].get(value, 0.0) + sample.value
        return counts

    def reasons(self) -> list[str]:
        """Return what went wrong in each request that the access log has, in words."""
        lines = (json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{"))
        return [line["reason"] for line in lines if "outcome" in line and line.get("reason")]

    def _metrics(self) -> str:
        return httpx.get(f"{self.admin}/metrics", trust_env=False).raise_for_status().text


def difference(before: Counts, after: Counts) -> dict[str, dict[str, int]]:
    """Return what was counted in between, without what was not."""
    return {
        name: {
            label: round(value - before[name].get(label, 0.0))
            for label, value in sorted(labels.items())
            if value != before[name].get(label, 0.0)
        }
        for name, labels in after.items()
    }


@contextlib.contextmanager
def serving(engine_url: str, folder: Path, **timeouts: str) -> Iterator[Gateway]:
    """Start a gateway and wait until its backend is ready; it ends with this process, however that ends."""
    routes, log = folder / "routes.json", folder / "gateway.log"
    routes.write_text(json.dumps(_routes(engine_url, timeouts)))
    options = ("--port", "0", "--admin-port", "0", "--state", "memory://")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.processes.ends_with_parent", "gateway.cli", "serve", str(routes), *options],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=environment | {"REAL_KEY": KEY},
        )
    try:
        _wait(lambda: "tidegate serves" in log.read_text(), _WITHIN, f"the gateway to listen; see {log}")
        line = next(line for line in log.read_text().splitlines() if "tidegate serves" in line)
        url, admin = _URL.findall(line)[:2]
        gateway = Gateway(url, admin, log)
        gateway.wait_until_ready()
        yield gateway
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _routes(engine_url: str, timeouts: Mapping[str, str]) -> dict[str, Any]:
    return {
        "pools": {"real": {"backends": [{"url": engine_url, "api_key": "${REAL_KEY}"}]}},
        "models": {MODEL: {"versions": {"v1": {"pools": ["real"]}}, "timeouts": dict(timeouts)}},
        "tenants": {"tester": {"key_sha256": hashlib.sha256(KEY.encode()).hexdigest()}},
    }


def _wait(condition: Any, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.1)
