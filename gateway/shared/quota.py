"""The quota of one tenant over all processes of a gateway, and what other gateways have to hear of it."""

from collections.abc import Callable
from math import inf
from typing import Final

from gateway.shared.table import Table

MINUTE: Final = 60.0
STALE: Final = 2.0
"""Seconds after which the first charge has what other gateways charged asked for at once."""
_CHARGED: Final = 2
_HEARD: Final = 4
_HEARD_AT: Final = 6
_SINCE: Final = 7


class SharedBucket:
    """A token bucket in one cell: when it will be full, in seconds of the clock that all processes share.

    This is the theoretical arrival time of the generic cell rate algorithm: charging moves it on, giving back moves it
    back, and time refills the bucket by itself. A change is one store, so that a process that dies leaves no half of
    one. Where the limit changes, the part of the minute that is used stays used. `owed` is what could not be charged
    yet because another process held the lock.

    Where gateways on other machines charge it too, two more cells have all that this machine ever charged, and how
    much of that the others had been told of when this machine last heard from them. From `urgent_at` charged on they
    are to be told at once.
    """

    __slots__ = ("_charged", "_heard", "_place", "_table", "counts", "owed", "urgent_at")

    def __init__(self, table: Table, place: int) -> None:
        self._table = table
        self._place = place
        self._charged = place + _CHARGED
        self._heard = place + _HEARD
        self.counts = False
        self.owed = 0.0
        self.urgent_at = inf

    def __repr__(self) -> str:
        return f"<SharedBucket full at {self._table.floats[self._place]:.1f}>"

    @property
    def charged(self) -> float:
        """All that this machine has charged."""
        return self._table.floats[self._charged]

    @property
    def heard(self) -> float:
        """How much of that was in what was heard last."""
        return self._table.floats[self._heard]

    @property
    def is_urgent(self) -> bool:
        """Whether so much was charged that others are to be told at once."""
        return self._table.floats[self._charged] >= self.urgent_at

    def level(self, size: int, now: float) -> float:
        """Return what is left of so much a minute; below 0 when it is in debt."""
        return size - max(0.0, self._table.floats[self._place] - now) * size / MINUTE - self.owed

    def full_in(self, now: float) -> float:
        """Return seconds until it is full."""
        return max(0.0, self._table.floats[self._place] - now)

    def charge(self, amount: float, size: int, now: float, *, locked: bool) -> None:
        """Take so much out, or put it back below 0; where the caller has no lock, with the next charge."""
        if not locked:
            self.owed += amount
            return
        amount += self.owed
        self.owed = 0.0
        floats, place = self._table.floats, self._place
        floats[place] = max(floats[place], now) + amount * MINUTE / size
        if self.counts:
            floats[self._charged] = floats[self._charged] + amount

    def hear(self, full_in: float, charged: float, size: int, at: float) -> None:
        """Take when it is full, as all gateways together have it at `at`: with so much of what this one charged."""
        floats = self._table.floats
        floats[self._place] = at + full_in + (floats[self._charged] - charged) * MINUTE / size
        floats[self._heard] = charged

    def assume(self, seconds: float, now: float) -> None:
        """Take it that others used what so many seconds have refilled; a full bucket stays full."""
        floats, place = self._table.floats, self._place
        left = floats[place] - now
        if left > 0.0:
            floats[place] = floats[place] + min(seconds, left)


class SharedQuota:
    """A tenant's column, as one process sees it: its buckets, and its requests in flight of all processes.

    `news` is there where gateways on other machines share the quota, too.
    """

    __slots__ = ("_lock", "_start", "_table", "_used", "is_news", "news", "requests", "tokens")

    def __init__(self, table: Table, column: int) -> None:
        columns = table.layout.tenants
        start = columns.start(column)
        self._table = table
        self._start = start
        self._used = start + columns.head
        self._lock = columns.lock + column
        self.requests = SharedBucket(table, start)
        self.tokens = SharedBucket(table, start + 1)
        self.news: News | None = None
        self.is_news = False

    def __repr__(self) -> str:
        return f"<SharedQuota {self.in_flight} in flight, {self.requests}, {self.tokens}>"

    @property
    def in_flight(self) -> int:
        """The tenant's requests in flight, of all processes."""
        return self._table.total(self._used)

    @property
    def own(self) -> int:
        """Those of this process."""
        return self._table.cells[self._used + self._table.row]

    @property
    def now(self) -> float:
        """About the time, in seconds: that of this process's last sign of life."""
        return self._table.now

    @property
    def heard_at(self) -> float:
        """When this machine last heard what others have charged, 0 for never."""
        return self._table.floats[self._start + _HEARD_AT]

    @property
    def since(self) -> float:
        """Since when the machine adds up what it charges."""
        return self._table.floats[self._start + _SINCE]

    def tell(self, news: "News", now: float) -> None:
        """Note in `news` from now on what is charged."""
        floats, place = self._table.floats, self._start + _SINCE
        if floats[place] == 0.0:
            floats[place] = now
        self.requests.counts = self.tokens.counts = True
        self.news = news

    def heard(self, now: float) -> float:
        """Note that what others have charged is known, or assumed; return for how long it was not."""
        floats, place = self._table.floats, self._start + _HEARD_AT
        before = floats[place]
        floats[place] = now
        return now - before

    def lock(self) -> bool:
        """Keep other processes from changing it; False where one does not let go of it soon."""
        return self._table.locks.acquire(self._lock)

    def unlock(self) -> None:
        """Let others change it."""
        self._table.locks.release(self._lock)

    def count(self, change: int) -> None:
        """Count one more request of this process in flight, or one less."""
        place = self._used + self._table.row
        self._table.cells[place] = self._table.cells[place] + change


class News:
    """What a process has charged and other machines do not know yet: they hear of it soon, and at once if `urgent`."""

    __slots__ = ("_wake", "quotas", "urgent")

    def __init__(self, wake: Callable[[], None]) -> None:
        """Take what is called when others are to be told at once."""
        self._wake = wake
        self.quotas: list[SharedQuota] = []
        self.urgent = False

    def __repr__(self) -> str:
        return f"<News of {len(self.quotas)} tenants{', urgent' if self.urgent else ''}>"

    def note(self, quota: SharedQuota, now: float) -> None:
        """Note that a quota was charged, or had too little left: others may have given something back."""
        stale = False
        if not quota.is_news:
            quota.is_news = True
            self.quotas.append(quota)
            stale = now - quota.heard_at > STALE
        if not self.urgent and (stale or quota.requests.is_urgent or quota.tokens.is_urgent):
            self.urgent = True
            self._wake()

    def told(self) -> list[SharedQuota]:
        """Return those that were noted, and begin anew."""
        quotas, self.quotas = self.quotas, []
        self.urgent = False
        for quota in quotas:
            quota.is_news = False
        return quotas
