"""The table in memory that real processes share."""

import os
import signal

import pytest

from gateway.claim import Claim
from gateway.shared.memory import SharedTable, joined
from gateway.shared.table import Table
from tests.shared.columns import slots_of
from tests.shared.forking import Witness, forked, takes_and_gives_back

PLENTY = 1 << 60


@pytest.mark.parametrize("limit", [1, 2, 8])
def test_processes_never_exceed_a_limit_together(limit: int) -> None:
    table, witness = SharedTable.create(4), Witness(limit)
    processes = max(3, limit + 2)
    assert forked(table, processes, lambda seen: takes_and_gives_back(seen, witness, limit, 1_500)) == [0] * processes


def test_a_cell_is_never_seen_half_written() -> None:
    table = SharedTable.create(2)
    whole = {0, -1, 0x0123_4567_89AB_CDEF}

    def writes(seen: Table) -> None:
        for _ in range(30_000):
            for value in whole:
                seen.cells[4000] = value

    def reads(seen: Table) -> None:
        for _ in range(60_000):
            assert seen.cells[4000] in whole

    assert forked(table, 2, lambda seen: (writes, reads)[seen.row](seen)) == [0, 0]


def test_a_killed_process_holds_no_lock_and_its_slots_come_back() -> None:
    table, others = SharedTable.create(2), []

    def dies(seen: Table) -> None:
        slots = slots_of(seen, "engine")
        assert slots.take(Claim(10), 1, PLENTY, 1.0)
        assert seen.locks.acquire(seen.layout.backends.lock)
        os.kill(os.getpid(), signal.SIGKILL)

    assert forked(table, 1, dies) == [-signal.SIGKILL]
    row = table.allot(2)
    assert row == 1
    seen = table.seen(row)
    others.append(slots_of(seen, "engine"))
    assert not others[0].take(Claim(1), 1, PLENTY, 1.0)
    table.clear(0)
    assert others[0].take(Claim(1), 1, PLENTY, 1.0)
    assert table.allot(3) == 0


def test_a_worker_joins_by_what_the_supervisor_named_and_is_woken() -> None:
    table = SharedTable.create(1)
    first, second = table.allot(1), table.allot(2)
    assert first is not None
    assert second is not None
    one, other = joined(table.named(first)), joined(table.named(second))
    assert one is not None
    assert other is not None
    for each in (one, other):
        each.table.beat(1.0)
    holder, waiter = slots_of(one.table, "engine"), slots_of(other.table, "engine")
    assert holder.take(Claim(1), 1, PLENTY, 1.0)
    assert not waiter.take(Claim(1), 1, PLENTY, 1.0)
    assert not waiter.wait(1, 1)
    holder.give_back(Claim(1))
    assert os.eventfd_read(other.wake_fd) == 1
    other.heard()
    assert waiter.take(Claim(1), 1, PLENTY, 1.0)
    assert len(set(table.fds)) == len(table.fds)
    adopted = SharedTable.adopt(table.fds[0])
    assert adopted is not None
    assert adopted.fds == table.fds


def test_a_table_of_another_version_is_not_read() -> None:
    table = SharedTable.create(1)
    table.seen(0).cells[1] = 99
    assert joined(table.named(0)) is None
    assert SharedTable.adopt(table.fds[0]) is None
