"""The quota of one tenant over all processes of a gateway."""

from typing import Final

from gateway.shared.table import Table

MINUTE: Final = 60.0


class SharedBucket:
    """A token bucket in one cell: when it will be full, in seconds of the clock that all processes share.

    This is the theoretical arrival time of the generic cell rate algorithm: charging moves it on, giving back moves it
    back, and time refills the bucket by itself. A change is one store, so that a process that dies leaves no half of
    one. Where the limit changes, the part of the minute that is used stays used. `owed` is what could not be charged
    yet because another process held the lock.
    """

    __slots__ = ("_place", "_table", "owed")

    def __init__(self, table: Table, place: int) -> None:
        self._table = table
        self._place = place
        self.owed = 0.0

    def __repr__(self) -> str:
        return f"<SharedBucket full at {self._table.floats[self._place]:.1f}>"

    def level(self, size: int, now: float) -> float:
        """Return what is left of so much a minute; below 0 when it is in debt."""
        return size - max(0.0, self._table.floats[self._place] - now) * size / MINUTE - self.owed

    def charge(self, amount: float, size: int, now: float, *, locked: bool) -> None:
        """Take so much out, or put it back below 0; where the caller has no lock, with the next charge."""
        if not locked:
            self.owed += amount
            return
        amount += self.owed
        self.owed = 0.0
        floats, place = self._table.floats, self._place
        floats[place] = max(floats[place], now) + amount * MINUTE / size


class SharedQuota:
    """A tenant's column, as one process sees it: its buckets, and its requests in flight of all processes."""

    __slots__ = ("_lock", "_table", "_used", "requests", "tokens")

    def __init__(self, table: Table, column: int) -> None:
        columns = table.layout.tenants
        start = columns.start(column)
        self._table = table
        self._used = start + columns.head
        self._lock = columns.lock + column
        self.requests = SharedBucket(table, start)
        self.tokens = SharedBucket(table, start + 1)

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
