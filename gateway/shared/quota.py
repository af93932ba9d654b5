"""The quota of one tenant over all processes of a gateway, and what other gateways have to hear of it."""

from collections.abc import Callable
from math import inf
from typing import Final

from gateway.shared.table import Table

MINUTE: Final = 60.0
STALE: Final = 2.0
"""Seconds after which the first charge has what other gateways charged asked for at once."""
_MAY_OWE: Final = 128.0
"""Of what is left, all processes together may owe one part in so many."""
_CHARGED: Final = 2
_HEARD: Final = 4
_HEARD_AT: Final = 6
_SINCE: Final = 7


class SharedBucket:
    """A token bucket in one cell: when it will be full, in seconds of the clock that all processes share.

    This is the theoretical arrival time of the generic cell rate algorithm: charging moves it on, giving back moves it
    back, and time refills the bucket by itself. A change is one store, so that a process that dies leaves no half of
    one. Where the limit changes, the part of the minute that is used stays used. `owed` is what this process has not
    charged yet: because another held the lock, or because it is no more than `may_owe`, a little of what is left.

    Where gateways on other machines charge it too, two more cells have all that this machine ever charged, and how
    much of that the others had been told of when this machine last heard from them. From `urgent_at` charged on they
    are to be told at once.
    """

    __slots__ = ("_charged", "_heard", "_place", "_table", "counts", "may_owe", "owed", "size", "urgent_at")

    def __init__(self, table: Table, place: int) -> None:
        self._table = table
        self._place = place
        self._charged = place + _CHARGED
        self._heard = place + _HEARD
        self.counts = False
        self.owed = self.may_owe = 0.0
        self.size = 1
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
        self.size = size
        if not locked:
            self.owed += amount
            return
        amount += self.owed
        self.owed = 0.0
        floats, place = self._table.floats, self._place
        full_at = max(floats[place], now) + amount * MINUTE / size
        floats[place] = full_at
        if self.counts:
            floats[self._charged] = floats[self._charged] + amount
        left = size - max(0.0, full_at - now) * size / MINUTE
        self.may_owe = left / _MAY_OWE / self._table.rows
        if self.counts and self.urgent_at < inf:
            self.may_owe = min(self.may_owe, self.urgent_at - floats[self._charged])

    def pay(self, now: float) -> None:
        """Charge what is owed, under the lock, and owe nothing before the next charge."""
        if self.owed:
            self.charge(0.0, self.size, now, locked=True)
        self.may_owe = 0.0

    def hear(self, full_in: float, charged: float, size: int, at: float) -> None:
        """Take when it is full, as all gateways together have it at `at`: with so much of what this one charged."""
        floats = self._table.floats
        floats[self._place] = at + full_in + (floats[self._charged] - charged) * MINUTE / size
        floats[self._heard] = charged
        self.may_owe = 0.0

    def assume(self, seconds: float, now: float) -> None:
        """Take it that others used what so many seconds have refilled; a full bucket stays full."""
        floats, place = self._table.floats, self._place
        left = floats[place] - now
        if left > 0.0:
            floats[place] = floats[place] + min(seconds, left)


class SharedQuota:
    """A tenant's column, as one process sees it: its buckets, and its requests in flight of all processes.

    `own` are those of this process. `news` is there where gateways on other machines share the quota, too. What this
    process owes of it is paid by `owing`.
    """

    __slots__ = (
        "_lock",
        "_owing",
        "_start",
        "_table",
        "_used",
        "is_news",
        "is_owing",
        "news",
        "own",
        "requests",
        "tokens",
    )

    def __init__(self, table: Table, column: int, owing: "Owing") -> None:
        columns = table.layout.tenants
        start = columns.start(column)
        self._table = table
        self._start = start
        self._used = start + columns.head
        self._lock = columns.lock + column
        self.own = table.cells[self._used + table.row]
        self.requests = SharedBucket(table, start)
        self.tokens = SharedBucket(table, start + 1)
        self.news: News | None = None
        self._owing = owing
        self.is_news = self.is_owing = False

    def __repr__(self) -> str:
        return f"<SharedQuota {self.in_flight} in flight, {self.requests}, {self.tokens}>"

    @property
    def in_flight(self) -> int:
        """The tenant's requests in flight, of all processes."""
        return self._table.total(self._used)

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

    def owe(self, requests: int, tokens: int) -> bool:
        """Charge so much later, give tokens back below 0; False, and nothing, where that would be too much to owe."""
        requests_owed, tokens_owed = self.requests.owed + requests, self.tokens.owed + tokens
        if requests and requests_owed > self.requests.may_owe:
            return False
        if tokens and abs(tokens_owed) > self.tokens.may_owe:
            return False
        self.requests.owed, self.tokens.owed = requests_owed, tokens_owed
        return True

    def owes(self) -> None:
        """Note that this process owes something, or may."""
        if not self.is_owing:
            self.is_owing = True
            self._owing.quotas.append(self)

    def pay(self, now: float) -> bool:
        """Charge what is owed; False where another process does not let go of the lock."""
        if not self.lock():
            return False
        owed = self.requests.owed or self.tokens.owed
        self.requests.pay(now)
        self.tokens.pay(now)
        self.unlock()
        if owed and self.news is not None:
            self.news.note(self, now)
        return True

    def count(self, change: int) -> None:
        """Count one more request of this process in flight, or one less."""
        self.own += change
        self._table.cells[self._used + self._table.row] = self.own


class Owing:
    """The quotas of which a process owes something, or may."""

    __slots__ = ("quotas",)

    def __init__(self) -> None:
        self.quotas: list[SharedQuota] = []

    def __repr__(self) -> str:
        return f"<Owing of {len(self.quotas)} tenants>"

    def pay(self, now: float) -> None:
        """Charge what is owed, as far as locks can be had; called a few times a second."""
        kept = []
        for each in self.quotas:
            each.is_owing = not each.pay(now)
            if each.is_owing:
                kept.append(each)
        self.quotas = kept

    def forget(self, quota: SharedQuota) -> None:
        """Owe nothing of a quota any more."""
        quota.is_owing = False
        self.quotas = [each for each in self.quotas if each is not quota]


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
