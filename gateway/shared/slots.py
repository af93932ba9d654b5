"""The limit of one backend over all processes of a gateway, and which of them the next free slot is for."""

from typing import Final

from gateway.claim import Claim
from gateway.shared.table import Table

NOTHING: Final = 0
_SINCE: Final = 44
"""Bits of the time (ms) in what a process shows of the request that waits first; its priority stands above."""
_LAST: Final = (1 << _SINCE) - 1
_FIRST_PRIORITY: Final = 1 << 16
"""What is added to priorities, so that none is below 1."""
_SLOTS: Final = 44
"""Bits of the tokens in what a process has at a backend; its requests in flight stand above."""
_TOKENS: Final = (1 << _SLOTS) - 1
_MOST_TOKENS: Final = (1 << 36) - 1
"""So many tokens of one process are told at most: those of 256 add up below its requests in flight."""
_ROOM: Final = 4
"""Slots for each process that are left free where one is taken without the lock."""


def mark(priority: int, since: float) -> int:
    """Return what a process shows of a request that waits: of two marks the lower goes first. Never NOTHING."""
    return (priority + _FIRST_PRIORITY << _SINCE) | max(0, min(int(since * 1000), _LAST))


def packed(in_flight: int, kv: int) -> int:
    """Return what a process has, in one number: sums of these are of both."""
    return (in_flight << _SLOTS) + max(0, min(kv, _MOST_TOKENS))


def unpacked(held: int) -> tuple[int, int]:
    """Return requests in flight and tokens of one process, or of several."""
    return held >> _SLOTS, held & _TOKENS


class SharedSlots:
    """A backend's column, as one process sees it. `in_flight` and `kv` are all processes' as of the last look.

    `yields` says that since then this process was refused a free slot, for one with a better right. `own` and `own_kv`
    are what this process has.

    A process takes a slot under the column's lock: it reads the sum of the rows, and raises its own cell where the
    limit leaves room and no other process has a better right. One that cannot have the lock takes nothing. Only its
    owner writes a cell, so that giving back needs no lock: a sum read meanwhile is at most too high.

    Where much is free and no other process waits, it takes one without the lock: it raises its own cell first, and
    keeps the slot if the sum that it reads then leaves several slots for each process. Two that do so at once may each
    miss what the other raised last, which is one slot of each process at most.

    Each process shows what waits first in its queues for this backend. The better right is that of a higher class,
    then that of the process with fewer slots here, then that of the request that has waited for longest, then that of
    the lower row: an order of all, so that exactly one process is never refused. A slot that comes free is offered to
    that one; a process that does not use it offers it to the next.
    """

    __slots__ = ("_held", "_lock", "_marked", "_table", "_waits", "in_flight", "kv", "own", "own_kv", "yields")

    def __init__(self, table: Table, column: int) -> None:
        layout, start = table.layout, table.layout.backends.start(column)
        self._table = table
        self._held = start
        self._waits = start + layout.rows
        self._lock = layout.backends.lock + column
        self._marked = NOTHING
        self.in_flight = 0
        self.kv = 0
        self.own, self.own_kv = unpacked(table.cells[self._held + table.row])
        self.yields = False

    def __repr__(self) -> str:
        return f"<SharedSlots {self.in_flight} in flight>"

    def look(self) -> None:
        """Read what all processes have."""
        self._add_up(self._table.rows)

    def _add_up(self, rows: int) -> None:
        cells, held, own = self._table.cells, self._held, self._table.row
        total = packed(self.own, self.own_kv)
        for row in range(rows):
            if row != own:
                total += cells[held + row]
        self.in_flight = total >> _SLOTS
        self.kv = total & _TOKENS
        self.yields = False

    def take(self, claim: Claim, limit: int, kv_capacity: int, now: float) -> bool:
        """Take a slot for a request; the last look is that before it."""
        table = self._table
        if self._takes_of_many(claim, limit, kv_capacity):
            return True
        if not table.locks.acquire(self._lock):
            return False
        try:
            self.look()
            if self.in_flight >= limit or (self.in_flight and self.kv + claim.kv > kv_capacity):
                return False
            first = self._first(mark(_priority(claim), min(claim.since, now)))
            if first == table.row:
                self._change(1, claim.kv)
                return True
        finally:
            table.locks.release(self._lock)
        self.yields = True
        table.wakes.wake(first)
        return False

    def _takes_of_many(self, claim: Claim, limit: int, kv_capacity: int) -> bool:
        """Take one without the lock, where at least half of the tokens and several slots for each process are free."""
        rows = self._table.rows
        room = _ROOM * rows
        most, most_kv = limit - room, kv_capacity // 2
        if self.in_flight >= most or self.kv > most_kv or claim.kv * room > kv_capacity:
            return False
        self._change(1, claim.kv)
        self._add_up(rows)
        keeps = self.in_flight <= most and self.kv <= most_kv and not self._others_wait(rows)
        self.in_flight -= 1
        self.kv -= claim.kv
        if not keeps:
            self.give_back(claim)
        return keeps

    def _change(self, slots: int, kv: int) -> None:
        """Have so many slots and tokens more."""
        table = self._table
        self.own_kv += kv
        self.own += slots
        table.cells[self._held + table.row] = packed(self.own, self.own_kv)

    def _others_wait(self, rows: int) -> bool:
        """Whether requests of other processes wait."""
        cells, waits, own = self._table.cells, self._waits, self._table.row
        others = 0
        for row in range(rows):
            if row != own:
                others |= cells[waits + row]
        return others != NOTHING

    def give_back(self, claim: Claim) -> None:
        """Give a slot back, and offer it."""
        self._change(-1, -claim.kv)
        self.offer()

    def wait(self, marked: int, limit: int) -> bool:
        """Show what waits first here, NOTHING where nothing does; return whether a slot came free meanwhile.

        One that waits no more has others look whether a slot is left.
        """
        before, self._marked = self._marked, marked
        if marked == before:
            return False
        self._table.cells[self._waits + self._table.row] = marked
        self.look()
        if self.in_flight >= limit:
            return False
        if not marked or (before and marked > before):
            self.offer()
        return marked != NOTHING and before == NOTHING

    def offer(self) -> None:
        """Wake the process whose requests are to have the next slot, if that is another one."""
        if not self._others_wait(self._table.rows):
            return
        first = self._first(self._marked)
        if first not in {self._table.row, -1}:
            self._table.wakes.wake(first)

    def _first(self, own: int) -> int:
        """Return the row that has the best right to a slot, this process with `own` mark; -1 where nothing waits."""
        table, cells, waits, all_held = self._table, self._table.cells, self._waits, self._held
        best, best_row, best_used = own, table.row if own else -1, self.own
        for row in range(table.rows):
            if row == table.row or not (waiting := cells[waits + row]) or not table.is_alive(row):
                continue
            if best_row >= 0:
                if waiting >> _SINCE > best >> _SINCE:
                    continue
                if waiting >> _SINCE == best >> _SINCE:
                    held = cells[all_held + row] >> _SLOTS
                    if (held, waiting, row) > (best_used, best, best_row):
                        continue
            best, best_row, best_used = waiting, row, cells[all_held + row] >> _SLOTS
        return best_row


def _priority(claim: Claim) -> int:
    """Return the priority of a request; that of one whose class's guaranteed share has come due is before all."""
    return -1 if claim.is_due else claim.priority
