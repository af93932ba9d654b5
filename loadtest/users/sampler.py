"""What the gateway says of itself meanwhile, read from its metrics once a second."""

import os
import time
import urllib.request

import gevent

from loadtest.report.recording import Sample
from loadtest.report.told import read

TOKEN_VARIABLE = "TIDEGATE_ADMIN_TOKEN"
_EVERY = 1.0
_TIMEOUT = 2.0


class Sampler:
    """Reads the metrics of one gateway until it is stopped. `missed` counts the times when it could not."""

    def __init__(self, admin: str, began: float) -> None:
        self.series: list[Sample] = []
        self.missed = 0
        self._admin = admin
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
                text = fetch(self._admin, "/metrics")
            except OSError:
                self.missed += 1
                continue
            samples, self._attempts = read(text, time.monotonic() - self._began, self._attempts)
            self.series.extend(samples)


def fetch(admin: str, path: str) -> str:
    """Return what an admin listener answers; raises OSError."""
    token = os.environ.get(TOKEN_VARIABLE)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{admin.removesuffix('/metrics')}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        text: str = answer.read().decode()
    return text
