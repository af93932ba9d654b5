"""Processes that share one table, for tests: forked, each with a row of its own."""

import fcntl
import os
import tempfile
import traceback
from collections.abc import Callable
from random import Random

from gateway.claim import Claim
from gateway.shared.memory import SharedTable
from gateway.shared.table import Table
from tests.shared.columns import slots_of


def forked(table: SharedTable, processes: int, work: Callable[[Table], None]) -> list[int]:
    """Run `work` in so many processes, each with a row; return their exit statuses."""
    children = []
    for _ in range(processes):
        row = table.allot(1)
        assert row is not None
        child = os.fork()
        if not child:
            status = 1
            try:
                work(table.seen(row))
                status = 0
            except BaseException:  # noqa: BLE001 - told by the exit status
                traceback.print_exc()
            finally:
                os._exit(status)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


class Witness:
    """So many places, each held by one process at most by the kernel's word: more holders than places are found out."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._path = tempfile.mkstemp()[1]
        self._fd = -1

    def enter(self) -> int:
        """Hold a place; fails where all are held."""
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_RDWR)
        for again in range(1 if self._places == 1 else 200):
            for place in range(self._places):
                try:
                    fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, (place + again) % self._places)
                except OSError:
                    continue
                return (place + again) % self._places
        raise AssertionError(f"more than {self._places} at once")

    def leave(self, place: int) -> None:
        """Let go of a place."""
        fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, place)


def takes_and_gives_back(table: Table, witness: Witness, limit: int, takes: int) -> None:
    """Take slots of one backend under a limit and give them back, so many times."""
    slots, rng, claim = slots_of(table, "engine"), Random(table.row), Claim(1)
    table.beat(1.0)
    taken = 0
    held = -1
    while taken < takes:
        if held >= 0 and rng.random() < 0.7:
            witness.leave(held)
            slots.give_back(claim)
            held = -1
        if held < 0 and slots.take(claim, limit, 1 << 60, 1.0):
            held = witness.enter()
            taken += 1
    if held >= 0:
        witness.leave(held)
        slots.give_back(claim)
