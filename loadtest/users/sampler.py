"""What the gateway says of itself meanwhile, read from its metrics once a second."""

import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from types import MappingProxyType

import gevent
from prometheus_client.parser import text_string_to_metric_families

from loadtest.report.recording import Sample

TOKEN_VARIABLE = "TIDEGATE_ADMIN_TOKEN"
_EVERY = 1.0
_TIMEOUT = 2.0
_ATTEMPTS = "tidegate_attempts_total"
_GAUGES = MappingProxyType(
    {
        "tidegate_backend_routing_burn": ("burn", "backend"),
        "tidegate_backend_in_flight": ("in_flight", "backend"),
        "tidegate_queue_depth": ("queue", "class"),
        "tidegate_canary_weight_ratio": ("split", "version"),
    }
)


class Sampler:
    """Reads the metrics of one gateway until it is stopped. `missed` counts the times when it could not."""

    def __init__(self, admin: str, began: float) -> None:
        self.series: list[Sample] = []
        self.missed = 0
        self._url = f"{admin.removesuffix('/metrics')}/metrics"
        self._began = began
        self._attempts: dict[str, float] = {}
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Read no more."""
        self._greenlet.kill()

    def _run(self) -> None:
        due = self._began
        while True:
            due += _EVERY
            gevent.sleep(max(due - time.monotonic(), 0))
            try:
                text = self._read()
            except (OSError, urllib.error.URLError):
                self.missed += 1
                continue
            samples, self._attempts = read(text, time.monotonic() - self._began, self._attempts)
            self.series.extend(samples)

    def _read(self) -> str:
        token = os.environ.get(TOKEN_VARIABLE)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(self._url, headers=headers)
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            text: str = answer.read().decode()
        return text


def read(text: str, at: float, before: Mapping[str, float]) -> tuple[list[Sample], dict[str, float]]:
    """Return the samples of one reading and the attempts by backend so far; `before` has those of the last reading.

    `share` is the part of all attempts since then that a backend had. Only the few lines that count are parsed, since
    users wait while this runs.
    """
    wanted = (_ATTEMPTS, *_GAUGES)
    lines = "\n".join(line for line in text.splitlines() if line.startswith(wanted))
    values: dict[tuple[str, str], float] = {}
    attempts: dict[str, float] = {}
    for family in text_string_to_metric_families(lines + "\n"):
        for sample in family.samples:
            if sample.name == _ATTEMPTS:
                backend = sample.labels["backend"]
                attempts[backend] = attempts.get(backend, 0.0) + sample.value
            elif sample.name in _GAUGES:
                name, label = _GAUGES[sample.name]
                key = name, sample.labels[label]
                values[key] = values.get(key, 0.0) + sample.value
    new = {backend: count - before.get(backend, 0.0) for backend, count in attempts.items()}
    if before and (everything := sum(new.values())):
        values.update({("share", backend): count / everything for backend, count in new.items()})
    return [Sample(at, name, label, value) for (name, label), value in values.items()], attempts
