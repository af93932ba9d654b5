"""The wants of a gateway, as its admin listener tells them: asked for a few times a second, for all who follow them."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from math import isfinite
from time import monotonic
from typing import Any

import httpx

_log = logging.getLogger(__name__)
INTERVAL = 0.5
STALE_AFTER = 10.0
"""Seconds after which a want is not known any more, where the gateway does not answer."""
_FORESEEN = (httpx.HTTPError, ValueError, KeyError, TypeError)
"""A gateway that is away, or answers something else: where in this program that shows is of no use to anyone."""


class UnknownWant(Exception):
    """It is not known what a pool wants; the message says why."""


class UnknownPool(Exception):
    """The gateway has no pool of that name with a capacity; the message names those that there are."""


@dataclass(frozen=True, slots=True)
class _Want:
    """How many replicas a pool wants, and the value by which an HPA comes to that; None while unknown."""

    target: int | None
    value: float | None
    problem: str


class Wants:
    """Asks one gateway, or the supervisor of several workers, again and again."""

    def __init__(self, client: httpx.AsyncClient, *, interval: float = INTERVAL) -> None:
        """Take a client whose base URL is the admin listener."""
        self._client = client
        self._interval = interval
        self._wants: dict[str, _Want] = {}
        self._read_at: float | None = None
        self._problem = "the gateway has not been asked yet"
        self._logged: set[type[Exception]] = set()
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Wants of {', '.join(self._wants)}>"

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            before = self._problem
            try:
                self._take(await self._ask())
            except Exception as error:  # noqa: BLE001 - whatever it is, KEDA is to learn of the next want
                self._failed(error)
            else:
                if before:
                    _log.info("wants are read")
                self._logged.clear()
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
            await asyncio.sleep(self._interval)

    def value(self, pool: str) -> float:
        """Return what an HPA is to be told; raises UnknownWant or UnknownPool."""
        value = self._known(pool).value
        if value is None or not isfinite(value) or value < 0:
            raise UnknownWant(f"what pool `{pool}` wants is no number")
        return value

    def is_active(self, pool: str) -> bool:
        """Return whether a pool wants a replica at all; raises UnknownWant or UnknownPool."""
        return bool(self._known(pool).target)

    async def activity(self, pool: str) -> AsyncIterator[bool]:
        """Yield whether a pool wants a replica, now and whenever that changes, and nothing while it is unknown.

        Raises UnknownPool once there is no such pool.
        """
        told: bool | None = None
        while True:
            changed = self._changed
            with contextlib.suppress(UnknownWant):
                found = self.is_active(pool)
                if found is not told:
                    told = found
                    yield found
            await changed.wait()

    async def _ask(self) -> Any:
        answer = await self._client.get("/admin/capacity")
        if answer.is_error:
            raise ValueError(f"status {answer.status_code}")
        return answer.json()

    def _take(self, found: Any) -> None:
        self._wants = {
            str(each["pool"]): _Want(each["target"], each["value"], str(each["problem"] or "")) for each in found
        }
        self._read_at, self._problem = monotonic(), ""

    def _failed(self, error: Exception) -> None:
        """Remember why wants cannot be read, and log it once by the kind of error until they are read again."""
        self._problem = f"the gateway at {self._client.base_url} does not tell: {str(error) or type(error).__name__}"
        if type(error) not in self._logged:
            self._logged.add(type(error))
            trace = None if isinstance(error, _FORESEEN) else error
            _log.warning("wants cannot be read", extra={"reason": self._problem}, exc_info=trace)

    def _known(self, pool: str) -> _Want:
        if self._read_at is None or monotonic() - self._read_at > STALE_AFTER:
            raise UnknownWant(self._problem)
        want = self._wants.get(pool)
        if want is None:
            known = ", ".join(self._wants) or "none"
            raise UnknownPool(f"the gateway has no pool `{pool}` with a `capacity`; there are: {known}")
        if want.target is None:
            raise UnknownWant(f"what pool `{pool}` wants is not known: {want.problem}")
        return want
