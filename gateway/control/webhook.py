"""Telling a webhook of alerts in Alertmanager's own JSON, so that what receives those receives these."""

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import httpx
from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_delay, wait_random_exponential

from gateway.config.addresses import check_url
from gateway.config.problems import InvalidValueError
from gateway.control.incidents import FAILED, SENT, Notice
from gateway.runbooks import runbook

_log = logging.getLogger(__name__)
WAITING = 1000
_NEVER = "0001-01-01T00:00:00Z"
_NAME = "TidegateErrorBudgetBurn"


class _Refused(Exception):
    """The receiver did not take it, for now."""


class Webhook:
    """Posts notices one after the other, in order. `results` counts them: sent, failed, dropped.

    `delivered` is told what became of each notice: `SENT` or `FAILED`. The URL may hold a secret: it is in no log,
    metric or error.
    """

    def __init__(self, url: str, *, patience: float = 120.0, timeout: float = 5.0) -> None:
        """`patience` is how long one notice is tried for, `timeout` how long one try may take, in seconds.

        Raises ValueError, without the URL in it, for what is none.
        """
        try:
            check_url(url, "write it as https://host/path, without spaces")
        except InvalidValueError as error:
            raise ValueError(f"the webhook's URL (--alert-webhook) {error.message}: {error.hint}") from None
        self.results: Counter[str] = Counter(sent=0, failed=0, dropped=0)
        self._url = url
        self._patience = patience
        self._timeout = timeout
        self._waiting: asyncio.Queue[Notice] = asyncio.Queue(WAITING)
        self.delivered: Callable[[Notice, str], None] = lambda _notice, _how: None

    def notify(self, notice: Notice) -> None:
        """Have a notice sent; where too many wait the oldest goes."""
        if self._waiting.full():
            dropped = self._waiting.get_nowait()
            self.results["dropped"] += 1
            self.delivered(dropped, FAILED)
        self._waiting.put_nowait(notice)

    async def run(self) -> None:
        """Send until cancelled."""
        # Proxies named by the environment are for people's browsers; a redirect could carry the alert anywhere.
        async with httpx.AsyncClient(timeout=self._timeout, trust_env=False, follow_redirects=False) as client:
            while True:
                notice = await self._waiting.get()
                self.delivered(notice, SENT if await self._send(client, payload(notice)) else FAILED)

    async def _send(self, client: httpx.AsyncClient, body: Mapping[str, object]) -> bool:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((httpx.HTTPError, TimeoutError, _Refused)),
            wait=wait_random_exponential(multiplier=0.5, max=15.0),
            stop=stop_after_delay(self._patience),
        )
        try:
            async for attempt in retrying:
                with attempt:
                    status = await self._post(client, body)
                    if status == 429 or status >= 500:
                        raise _Refused(f"status {status}")
        except RetryError as error:
            self._failed(repr(error.last_attempt.exception())[:100].partition("(")[0])
            return False
        if 200 <= status < 300:
            self.results["sent"] += 1
            return True
        self._failed(f"status {status}")
        return False

    async def _post(self, client: httpx.AsyncClient, body: Mapping[str, object]) -> int:
        """Return the status; whatever else the receiver has to say is not waited for."""
        async with asyncio.timeout(self._timeout), client.stream("POST", self._url, json=body) as answer:
            return answer.status_code

    def _failed(self, why: str) -> None:
        self.results["failed"] += 1
        _log.error("an alert could not be sent to the webhook", extra={"reason": why})


def payload(notice: Notice) -> dict[str, object]:
    """Return Alertmanager's webhook message, version 4; each alert is a group of its own."""
    status = "firing" if notice.firing else "resolved"
    labels = {"alertname": _NAME, **notice.labels}
    annotations = {
        "summary": notice.summary,
        "description": notice.description,
        "runbook_url": runbook(notice.labels["sli"]),
    }
    alert = {
        "status": status,
        "labels": labels,
        "annotations": annotations,
        "startsAt": _time(notice.started),
        "endsAt": _NEVER if notice.firing else _time(notice.ended),
        "generatorURL": "",
        "fingerprint": hashlib.blake2b(repr(sorted(labels.items())).encode(), digest_size=8).hexdigest(),
    }
    return {
        "version": "4",
        "groupKey": "{}:{" + ", ".join(f'{name}="{value}"' for name, value in labels.items()) + "}",
        "truncatedAlerts": 0,
        "status": status,
        "receiver": "tidegate",
        "groupLabels": labels,
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "",
        "alerts": [alert],
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
