"""The memory of the table that the workers of one gateway share: made by the supervisor, mapped by every worker.

It is a memfd without a name, so that nothing has to be unlinked and nothing is left behind. Workers inherit its
descriptor, and those by which any of them wakes another, under the same numbers: the table says which those are.
"""

import contextlib
import fcntl
import mmap
import os
import secrets
import time
from typing import Final

from gateway.shared.table import (
    HEADER,
    WAKE_FD,
    Cells,
    FloatCells,
    Layout,
    Table,
    allot,
    read_header,
    write_header,
)

_CELL: Final = 8
_BACKENDS: Final = 2048
_TENANTS: Final = 8192
_SPARE_ROWS: Final = 16
_GENERATIONS: Final = 4
_IDENTITY_BITS: Final = 60
_TRIES: Final = 20
_PAUSES: Final = 10
_PAUSE: Final = 0.0001


class RecordLocks:
    """The kernel's record locks on the table. They end with the process, and hold only between processes.

    Closing any descriptor of the table in a process would end those it holds: none is ever closed.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def acquire(self, number: int) -> bool:
        """Hold one; return False where another process does not let go of it within about a millisecond."""
        for again in range(_TRIES + _PAUSES):
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
            except OSError:
                if again < _TRIES:
                    os.sched_yield()
                else:
                    time.sleep(_PAUSE)
            else:
                return True
        return False

    def release(self, number: int) -> None:
        """Let go of it."""
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, number)


class TableMemory:
    """The table's memory, mapped."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        memory = memoryview(mmap.mmap(fd, size))
        self.cells: Cells = memory.cast("q")
        self.floats: FloatCells = memory.cast("d")

    def wake_fd(self, layout: Layout, row: int) -> int:
        """Return the descriptor by which the process of a row is woken."""
        return self.cells[layout.row(row) + WAKE_FD]


class EventFds:
    """Wakes processes by their descriptors in the table."""

    def __init__(self, memory: TableMemory, layout: Layout) -> None:
        self._fds = [memory.wake_fd(layout, row) for row in range(layout.rows)]

    def wake(self, row: int) -> None:
        """Wake the process of a row."""
        with contextlib.suppress(OSError):  # enough wakes are waiting already, or the process was started without it
            os.eventfd_write(self._fds[row], 1)


class SharedTable:
    """The table as the supervisor keeps it: it gives rows to workers, and clears those of workers that have ended."""

    def __init__(self, memory: TableMemory, layout: Layout) -> None:
        self._memory = memory
        self._layout = layout
        self._wakes = EventFds(memory, layout)

    def __repr__(self) -> str:
        return f"<SharedTable {self._layout}>"

    @classmethod
    def create(cls, workers: int) -> "SharedTable":
        """Make one for so many workers at a time, and for those of a few generations that drain."""
        layout = Layout(_GENERATIONS * workers + _SPARE_ROWS, _BACKENDS, _TENANTS)
        size = layout.size * _CELL
        fd = os.memfd_create("tidegate-table", os.MFD_CLOEXEC)
        os.ftruncate(fd, size)
        memory = TableMemory(fd, size)
        write_header(layout, memory.cells, secrets.randbits(_IDENTITY_BITS))
        for row in range(layout.rows):
            memory.cells[layout.row(row) + WAKE_FD] = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return cls(memory, layout)

    @classmethod
    def adopt(cls, fd: int) -> "SharedTable | None":
        """Take over one by the descriptor that the program before left to this one; None where this cannot read it."""
        if fd < 0:
            return None
        memory, layout = _mapped(fd)
        if layout is None:
            return None
        table = cls(memory, layout)
        table._let_inherit(inheritable=False)
        return table

    def hand_on(self) -> None:
        """Let the next program in this process have it."""
        self._let_inherit(inheritable=True)

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors that workers, and the supervisor's own next code, have to inherit."""
        rows = range(self._layout.rows)
        return self._memory.fd, *(self._memory.wake_fd(self._layout, row) for row in rows)

    def allot(self, incarnation: int) -> int | None:
        """Give a row to a worker that is about to be started, by a number of its own above 0; None without one left."""
        return allot(self._layout, self._memory.cells, incarnation)

    def named(self, row: int) -> str:
        """Return what the worker is told, to join it."""
        return f"{self._memory.fd}:{row}"

    def clear(self, row: int | None) -> None:
        """Empty the row of a worker that has ended, if it had one, and let the others look for the slots it had."""
        if row is None:
            return
        self.seen(row).clear(row)
        for each in range(self._layout.rows):
            if each != row:
                self._wakes.wake(each)

    def seen(self, row: int) -> Table:
        """Return the table as the process of a row sees it."""
        memory = self._memory
        locks = RecordLocks(memory.fd)
        return Table(self._layout, memory.cells, memory.floats, row=row, locks=locks, wakes=self._wakes)

    def join(self, row: int) -> "JoinedTable":
        """Return the table as the worker of a row joins it."""
        return JoinedTable(self.seen(row), self._memory.wake_fd(self._layout, row))

    def _let_inherit(self, *, inheritable: bool) -> None:
        for each in self.fds:
            os.set_inheritable(each, inheritable)


class JoinedTable:
    """The table as a worker joins it; `wake_fd` is readable when a slot may be free for it."""

    def __init__(self, table: Table, wake_fd: int) -> None:
        self.table = table
        self.wake_fd = wake_fd

    def heard(self) -> None:
        """Learn that the worker was woken, before it looks."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.wake_fd)


def joined(named: str) -> JoinedTable | None:
    """Return the table that the supervisor named; None where this code cannot read it."""
    fd, row = (int(part) for part in named.split(":"))
    table = SharedTable.adopt(fd)
    return None if table is None else table.join(row)


def _mapped(fd: int) -> tuple[TableMemory, Layout | None]:
    size = os.fstat(fd).st_size
    memory = TableMemory(fd, size)
    layout = read_header(memory.cells) if size >= HEADER * _CELL else None
    return memory, layout if layout is not None and layout.size * _CELL <= size else None
