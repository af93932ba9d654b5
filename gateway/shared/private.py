"""Quotas of a process that shares them with no other on its machine, in memory of its own."""

from typing import Final

from gateway.shared.quota import Owing, SharedQuota
from gateway.shared.table import Layout, Table, allot, write_header

_BLOCK: Final = 256
_CELL: Final = 8


class NoLocks:
    """Locks of a table that one process has: each is free."""

    def acquire(self, number: int) -> bool:  # noqa: ARG002 - as other locks have it
        """Hold one."""
        return True

    def release(self, number: int) -> None:
        """Let go of it."""


class NoWakes:
    """Wakes of a table that one process has: there is none to wake."""

    def wake(self, row: int) -> None:
        """Do nothing."""


class PrivateQuotas:
    """Gives quotas their columns, in tables of some hundred; those of tenants that are gone are used again."""

    def __init__(self) -> None:
        self._tables: list[Table] = []
        self._unused: list[tuple[Table, int]] = []
        self._used: dict[SharedQuota, tuple[Table, int]] = {}
        self._owing = Owing()
        self._now = 0.0

    def __repr__(self) -> str:
        return f"<PrivateQuotas of {len(self._used)} tenants>"

    def beat(self, now: float) -> None:
        """Let time pass, and charge what is owed."""
        self._now = now
        for table in self._tables:
            table.beat(now)
        self._owing.pay(now)

    def add(self) -> SharedQuota:
        """Return a tenant's column, empty."""
        if not self._unused:
            table = _table(self._now)
            self._tables.append(table)
            self._unused = [(table, column) for column in reversed(range(_BLOCK))]
        table, column = self._unused.pop()
        quota = SharedQuota(table, column, self._owing)
        self._used[quota] = table, column
        return quota

    def drop(self, quota: SharedQuota) -> None:
        """Empty the column of a tenant that is gone and has nothing in flight any more, for another."""
        table, column = self._used.pop(quota)
        self._owing.forget(quota)
        start, cells = table.layout.tenants.start(column), table.cells
        for place in range(start, start + table.layout.tenants.stride):
            cells[place] = 0
        self._unused.append((table, column))


def _table(now: float) -> Table:
    layout = Layout(1, 0, _BLOCK)
    memory = memoryview(bytearray(layout.size * _CELL))
    cells = memory.cast("q")
    write_header(layout, cells)
    row = allot(layout, cells, 1)
    table = Table(layout, cells, memory.cast("d"), row=row or 0, locks=NoLocks(), wakes=NoWakes())
    table.beat(now)
    return table
