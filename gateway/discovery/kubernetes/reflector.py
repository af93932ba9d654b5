"""Keeping a copy of a collection of the Kubernetes API: list it once, then watch what changes (a reflector)."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic

import msgspec
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from gateway.clock import Clock
from gateway.discovery.kubernetes import problems
from gateway.discovery.kubernetes.api import Api, Lines, connected, decode
from gateway.discovery.kubernetes.cluster import Cluster
from gateway.discovery.kubernetes.problems import ApiError, BrokenError, ExpiredError
from gateway.discovery.kubernetes.resources import Collection, Event, Resource, Status, T

_TICK: Final = 0.001
"""A timer of the event loop may be so much early."""
_STATUS: Final = msgspec.json.Decoder(Status)
_VERSION: Final = msgspec.json.Decoder(Resource)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a reflector waits for what, in seconds.

    A watch is ended by the API server after `watch` seconds, some earlier, so that not all come again at once. One
    that is still open `slack` later is taken for dead: nothing but its end tells a quiet collection from a lost
    connection. After a failure comes a pause of at most `first` seconds, then of up to twice as many each time, and of
    `most` at the most. A watch that ends within `brief` seconds has failed. What vanished is looked for in another
    list `hold` seconds later (`settling.py`).
    """

    watch: int = 90
    slack: float = 15.0
    answer: float = 30.0
    first: float = 0.5
    most: float = 30.0
    brief: float = 1.0
    hold: float = 2.0


class Reflector(Generic[T]):
    """Keeps `objects` as the API server has them, by name, and calls `confirmed` each time that it heard from it.

    `told` gets each object that a watch names, also those that others follow before `confirmed` is called. `listed` is
    when the last complete list was asked for, None before the first. While the API server is away the objects stay.
    """

    def __init__(
        self,
        cluster: Cluster,
        collection: Collection[T],
        confirmed: Callable[[], None],
        now: Clock,
        pace: Pace,
        *,
        told: Callable[[T], None] | None = None,
    ) -> None:
        self._cluster = cluster
        self._collection = collection
        self._confirmed = confirmed
        self._told = told
        self._now = now
        self._pace = pace
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(collection.kind)
        self._version = ""
        self._list_due: float | None = None
        self._deadline: asyncio.Timeout | None = None
        self._opened: float | None = None
        self.objects: dict[str, T] = {}
        self.listed: float | None = None
        self.problem = ""
        self.errors = 0

    def __repr__(self) -> str:
        return f"<Reflector {self._collection.path} {len(self.objects)} objects at {self._version or 'no version'}>"

    def list_again(self, seconds: float) -> None:
        """List everything again in so many seconds, or earlier when that has been asked for."""
        due = asyncio.get_running_loop().time() + seconds
        if self._list_due is not None and self._list_due <= due:
            return
        self._list_due = due
        if self._deadline is not None and due < (self._deadline.when() or due):
            self._deadline.reschedule(due)

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            again = retry_if_exception_type(ApiError)
            await AsyncRetrying(retry=again, wait=self._pause, before_sleep=self._failed)(self._turn)

    def _pause(self, state: RetryCallState) -> float:
        wanted = wait_random_exponential(multiplier=self._pace.first, max=self._pace.most)(state)
        error = state.outcome and state.outcome.exception()
        return max(wanted, error.retry_after) if isinstance(error, ApiError) else wanted

    def _failed(self, state: RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        if not isinstance(error, ExpiredError):
            self._tell(str(error))

    def _tell(self, problem: str) -> None:
        self.errors += 1
        self.problem = problem

    async def _turn(self) -> None:
        """List when that is needed, and watch until the watch ends. Raises ApiError."""
        async with connected(self._cluster, answer=self._pace.answer) as api:
            if not self._version or self._is_due():
                await self._list(api)
            await self._watch(api)

    def _is_due(self) -> bool:
        return self._list_due is not None and asyncio.get_running_loop().time() >= self._list_due - _TICK

    async def _list(self, api: Api) -> None:
        self._version, self._list_due = "", None
        asked = self._now()
        found, version = await api.list(self._collection)
        self.objects = {each.metadata.name: each for each in found}
        self._version, self.listed = version, asked
        self._heard()

    def _heard(self) -> None:
        self.problem = ""
        self._confirmed()

    async def _watch(self, api: Api) -> None:
        """Follow changes until the watch ends. Raises ApiError where it was refused, or over as soon as it began.

        A watch that breaks goes on where it was; after all other failures comes a list.
        """
        seconds = random.randint(max(1, self._pace.watch * 2 // 3), self._pace.watch)
        limit = asyncio.get_running_loop().time() + seconds + self._pace.slack
        self._opened = None
        try:
            async with asyncio.timeout_at(limit if self._list_due is None else min(limit, self._list_due)) as deadline:
                self._deadline = deadline
                await self._follow(api, seconds)
            if self._is_brief():
                raise ApiError(problems.ended(self._cluster))
        except TimeoutError:
            if not self._is_due():
                raise BrokenError(problems.silent(self._cluster, seconds + self._pace.slack)) from None
        except ApiError as error:
            if not isinstance(error, BrokenError):
                self._version = ""
            if self._is_brief():
                raise
            if not isinstance(error, ExpiredError):
                self._tell(str(error))
        finally:
            self._deadline = None

    def _is_brief(self) -> bool:
        return self._opened is None or asyncio.get_running_loop().time() - self._opened < self._pace.brief

    async def _follow(self, api: Api, seconds: int) -> None:
        async with api.watch(self._collection, self._version, seconds) as chunks:
            self._opened = asyncio.get_running_loop().time()
            self._heard()
            lines = Lines(self._cluster)
            async for chunk in chunks:
                self._take(lines, chunk)

    def _take(self, lines: Lines, chunk: bytes) -> None:
        """Apply the events in what came. Those before a failure count. Raises ApiError."""
        applied = 0
        try:
            for event in lines.feed(chunk):
                self._apply(event)
                applied += 1
        finally:
            if applied:
                self._heard()

    def _apply(self, event: Event) -> None:
        if event.type == "ERROR":
            status: Status = decode(_STATUS, event.object, self._cluster)
            raise problems.failure(self._cluster, self._collection, "watch", status)
        if event.type == "BOOKMARK":
            self._reached(decode(_VERSION, event.object, self._cluster))
            return
        found: Any = decode(self._decoder, event.object, self._cluster)
        if self._told is not None:
            self._told(found)
        if event.type == "DELETED":
            self.objects.pop(found.metadata.name, None)
        elif event.type in {"ADDED", "MODIFIED"}:
            self.objects[found.metadata.name] = found
        self._reached(found)

    def _reached(self, found: Resource) -> None:
        self._version = found.metadata.resource_version or self._version
