"""The table that the worker processes of one gateway share: 8-byte cells in one piece of memory that all of them map.

Each process has a row of its own; each backend and each limited tenant has a column. A number that belongs to a process
(requests in flight, tokens, what it waits for) stands in its own cell of a column, which only it writes; readers sum
the rows. So the numbers of a process that died are gone once its row is cleared.

A cell is read and written by one aligned 8-byte load or store: CPython's memoryview copies an item of format `q` or `d`
as one machine word. What must not interleave happens under the `Locks` of its column. A lock, and not a store followed
by loads of the other rows: processors let loads pass earlier stores to other addresses (x86 too), so that two processes
could each raise its own cell and not see the other's rise. `gateway.shared.slots` does without where so much is free
that this does no harm. Python has no fence, and what C libraries offer for one holds on some processors only. The
kernel's record locks order all that comes before and after them on every processor, and end with the process that holds
them.
"""

from hashlib import blake2b
from typing import Final, Protocol

MAGIC: Final = 0x7469_6465_6761_7465
VERSION: Final = 3
HEADER: Final = 64
"""Cells before the rows' own: magic number, version, rows, backends, tenants, rows ever in use, identity."""
ROW_CELLS: Final = 4
"""Cells of a row itself: first its incarnation, and those that follow here."""
SEEN_AT: Final = 1
"""When it was last seen alive, in ms."""
WAKE_FD: Final = 3
"""The descriptor that wakes it."""
SEEN: Final = 2_000
"""Milliseconds without a sign of life from which on a row's waiting requests count for nothing."""
USED_ROWS: Final = 5
IDENTITY: Final = 6
"""A random number that tells this table from those of other machines."""
TENANT_CELLS: Final = 8
"""Cells of a tenant's column that all processes write, as `gateway.shared.quota` says."""
_PATIENT: Final = 100


class Cells(Protocol):
    """Memory as signed numbers of 8 bytes."""

    def __getitem__(self, place: int, /) -> int:
        """Load one."""

    def __setitem__(self, place: int, value: int, /) -> None:
        """Store one."""


class FloatCells(Protocol):
    """The same memory as floating-point numbers of 8 bytes."""

    def __getitem__(self, place: int, /) -> float:
        """Load one."""

    def __setitem__(self, place: int, value: float, /) -> None:
        """Store one."""


class Locks(Protocol):
    """Locks by number, each held by one process at most, and never by one that has ended."""

    def acquire(self, number: int) -> bool:
        """Hold one; return False where another process does not let go of it soon."""

    def release(self, number: int) -> None:
        """Let go of it."""


class Wakes(Protocol):
    """How a process is told that a slot may be free for it."""

    def wake(self, row: int) -> None:
        """Wake the process of a row."""


class Columns:
    """Columns of one kind: `count` of them, whose identities stand from `ids` on and whose cells from `first` on.

    Each has `head` cells of its own, and then so many cells of each row as `kinds` says, kind after kind; the last kind
    says whether the row's process is attached. `lock` is the number of the first one's lock.
    """

    __slots__ = ("attached", "count", "first", "head", "ids", "kinds", "lock", "rows", "stride")

    def __init__(self, *, rows: int, count: int, ids: int, first: int, lock: int, head: int, kinds: int) -> None:
        self.rows = rows
        self.count = count
        self.ids = ids
        self.first = first
        self.lock = lock
        self.head = head
        self.kinds = kinds
        self.attached = head + (kinds - 1) * rows
        self.stride = head + kinds * rows

    def __repr__(self) -> str:
        return f"<Columns {self.count} of {self.stride} cells>"

    @property
    def end(self) -> int:
        """The cell after the last."""
        return self.first + self.count * self.stride

    def start(self, column: int) -> int:
        """Return the first cell of a column."""
        return self.first + column * self.stride


class Layout:
    """Where everything stands, for so many rows, `backends` and `tenants`; `size` is in cells.

    A backend's column: requests in flight with their tokens, what waits, attached. A tenant's: its quota, then requests
    in flight, attached.
    """

    __slots__ = ("backends", "rows", "size", "tenants")

    def __init__(self, rows: int, backends: int, tenants: int) -> None:
        self.rows = rows
        ids = HEADER + rows * ROW_CELLS
        first = ids + backends + tenants
        self.backends = Columns(rows=rows, count=backends, ids=ids, first=first, lock=1, head=0, kinds=3)
        first = self.backends.end
        self.tenants = Columns(
            rows=rows, count=tenants, ids=ids + backends, first=first, lock=1 + backends, head=TENANT_CELLS, kinds=2
        )
        self.size = self.tenants.end

    def __repr__(self) -> str:
        return f"<Layout of {self.rows} rows, {self.backends.count} backends, {self.tenants.count} tenants>"

    def row(self, row: int) -> int:
        """Return the first of the cells of a row itself."""
        return HEADER + row * ROW_CELLS


class Table:
    """The table as one process sees it, whose row is `row`; `now` is the time of its last sign of life, in seconds."""

    __slots__ = ("cells", "floats", "layout", "locks", "now", "row", "wakes")

    def __init__(
        self, layout: Layout, cells: Cells, floats: FloatCells, *, row: int, locks: Locks, wakes: Wakes
    ) -> None:
        self.layout = layout
        self.cells = cells
        self.floats = floats
        self.row = row
        self.locks = locks
        self.wakes = wakes
        self.now = 0.0

    def __repr__(self) -> str:
        return f"<Table row {self.row} of {self.rows}>"

    @property
    def rows(self) -> int:
        """How many rows have ever been in use: those beyond are empty."""
        return self.cells[USED_ROWS]

    @property
    def identity(self) -> int:
        """What tells it from the tables of other machines."""
        return self.cells[IDENTITY]

    def total(self, first: int) -> int:
        """Return the sum of all rows' cells of one kind, which stand from `first` on."""
        cells, total = self.cells, 0
        for row in range(self.rows):
            total += cells[first + row]
        return total

    def beat(self, now: float) -> None:
        """Give a sign of life; called a few times a second."""
        self.now = now
        self.cells[self.layout.row(self.row) + SEEN_AT] = int(now * 1000)

    def is_alive(self, row: int) -> bool:
        """Whether a row's process gave a sign of life of late."""
        return int(self.now * 1000) - self.cells[self.layout.row(row) + SEEN_AT] < SEEN

    def attach(self, columns: Columns, name: str) -> int | None:
        """Return the column of this name, for as long as this process lives or until it detaches.

        None where none is left, or another process does not let go of the table. A column is taken from a name that no
        process is attached to any more.
        """
        cells, ids, identity = self.cells, columns.ids, _identity(name)
        if not self._lock(0):
            return None
        try:
            unused = -1
            for column in range(columns.count):
                known = cells[ids + column]
                if known == identity:
                    cells[columns.start(column) + columns.attached + self.row] = 1
                    return column
                if not known:
                    unused = column if unused < 0 else unused
                    break
                if unused < 0 and not self._is_attached(columns, column):
                    unused = column
            if unused < 0:
                return None
            start = columns.start(unused)
            for each in range(start, start + columns.stride):
                cells[each] = 0
            cells[start + columns.attached + self.row] = 1
            cells[ids + unused] = identity
            return unused
        finally:
            self.locks.release(0)

    def detach(self, columns: Columns, column: int) -> None:
        """Let go of a column in which this process has nothing any more."""
        self.cells[columns.start(column) + columns.attached + self.row] = 0

    def clear(self, row: int) -> None:
        """Empty the row of a process that has ended."""
        cells, layout = self.cells, self.layout
        for columns in (layout.backends, layout.tenants):
            for column in range(columns.count):
                if not cells[columns.ids + column]:
                    break
                start = columns.start(column) + columns.head + row
                for kind in range(columns.kinds):
                    cells[start + kind * layout.rows] = 0
        for each in range(WAKE_FD):
            cells[layout.row(row) + each] = 0

    def _is_attached(self, columns: Columns, column: int) -> bool:
        start = columns.start(column) + columns.attached
        return any(self.cells[start + row] for row in range(self.rows))

    def _lock(self, number: int) -> bool:
        return any(self.locks.acquire(number) for _ in range(_PATIENT))


def _identity(name: str) -> int:
    """Return what stands for a name: above 0, and of two names the same with a chance of 1 in 10^16."""
    return int.from_bytes(blake2b(name.encode(), digest_size=7).digest()) + 1


def write_header(layout: Layout, cells: Cells, identity: int = 0) -> None:
    """Make a table of cells that are all 0."""
    for place, value in enumerate((MAGIC, VERSION, layout.rows, layout.backends.count, layout.tenants.count)):
        cells[place] = value
    cells[IDENTITY] = identity


def read_header(cells: Cells) -> Layout | None:
    """Return the layout of a table; None where it is none that this code can read."""
    if (cells[0], cells[1]) != (MAGIC, VERSION):
        return None
    return Layout(cells[2], cells[3], cells[4])


def allot(layout: Layout, cells: Cells, incarnation: int) -> int | None:
    """Give a row to a process that is about to be started, by its number, above 0; None where all are in use."""
    for row in range(layout.rows):
        if not cells[layout.row(row)]:
            cells[layout.row(row)] = incarnation
            cells[USED_ROWS] = max(cells[USED_ROWS], row + 1)
            return row
    return None
