"""Processes that share memory, for tests: each of their loads, stores and locks is one step, in an order that is given.

They are threads of which one runs at a time, from one step to its next.
"""

from collections.abc import Callable, Iterable
from threading import Semaphore, Thread, current_thread

from gateway.shared.table import Layout, Table, allot, write_header


class Process:
    """One process, in a thread of its own."""

    def __init__(self, memory: "SteppedMemory", row: int, work: Callable[[Table], None]) -> None:
        self.row = row
        self.go, self.is_done, self.failure = Semaphore(0), False, ""
        self.woken = self.sleeps = False
        self._memory = memory
        self._work = work
        self._thread = Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        self.go.acquire()
        try:
            self._work(self._memory.seen(self.row))
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.failure = repr(error)
        self.is_done = True
        self._memory.idle.release()

    def owns(self) -> bool:
        """Whether the caller is this process."""
        return current_thread() is self._thread


class SteppedMemory:
    """A table in a list: cells, locks and wakes of processes that go on step by step."""

    def __init__(
        self,
        rows: int,
        after_step: "Callable[[SteppedMemory], None]" = lambda _: None,
        *,
        backends: int = 1,
        patient: bool = False,
    ) -> None:
        """Take whether a process waits for a lock until it has it; else it does without, as after a few ms."""
        self.layout = Layout(rows, backends, 1)
        self.values: list[int] = [0] * self.layout.size
        write_header(self.layout, self.values)
        self.idle = Semaphore(0)
        self.processes: list[Process] = []
        self.held: dict[int, int] = {}
        self.woken: set[int] = set()
        self._after_step = after_step
        self._patient = patient

    def add(self, work: Callable[[Table], None]) -> None:
        """Add a process."""
        self.processes.append(Process(self, self.join().row, work))

    def run(self, order: Iterable[int]) -> None:
        """Run all to their end: the order says which of those that can go on goes next."""
        for process in self.processes:
            process.start()
        for turn in order:
            ready = [each for each in self.processes if not each.is_done and not (each.sleeps and not each.woken)]
            if not ready:
                break
            self._advance(ready[turn % len(ready)])
        else:
            raise AssertionError("no end")
        failures = [each.failure for each in self.processes if each.failure]
        assert not failures, failures

    def _advance(self, process: Process) -> None:
        process.go.release()
        self.idle.acquire()
        self._after_step(self)

    def _step(self) -> Process | None:
        for process in self.processes:
            if process.owns():
                self.idle.release()
                process.go.acquire()
                return process
        return None

    def join(self) -> Table:
        """Return the table as one more process sees it, in a row of its own."""
        row = allot(self.layout, self.values, 1)
        assert row is not None
        return self.seen(row)

    def seen(self, row: int) -> Table:
        """Return the table as the process of a row sees it."""
        return Table(self.layout, self, self, row=row, locks=self, wakes=self)

    def sleep(self) -> None:
        """Wait until woken."""
        for process in self.processes:
            if process.owns():
                process.sleeps = True
                self._step()
                process.sleeps = process.woken = False

    def __getitem__(self, place: int) -> int:
        self._step()
        return self.values[place]

    def __setitem__(self, place: int, value: float) -> None:
        self._step()
        self.values[place] = value  # type: ignore[call-overload]

    def acquire(self, number: int) -> bool:
        process = self._step()
        row = -1 if process is None else process.row
        while self._patient and self.held.get(number, row) != row:
            self._step()
        return self.held.setdefault(number, row) == row

    def release(self, number: int) -> None:
        self._step()
        del self.held[number]

    def wake(self, row: int) -> None:
        self._step()
        self.woken.add(row)
        if row < len(self.processes):
            self.processes[row].woken = True
