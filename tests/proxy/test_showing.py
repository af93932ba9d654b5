"""Queues of several processes that share the slots of one backend."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.claim import Claim
from gateway.policy.admission.classes import ServiceClass
from gateway.policy.admission.decide import TurnedAway
from gateway.policy.admission.queue import Entry
from gateway.policy.routing.health import Health
from gateway.policy.routing.lease import Lease
from gateway.policy.routing.pool_state import PoolState
from gateway.proxy.admission_queue import AdmissionQueue, Queued, join
from tests.shared.columns import slots_of
from tests.shared.stepping import SteppedMemory

CLASSES = {name: ServiceClass(name, priority) for name, priority in (("high", 0), ("middle", 10), ("low", 20))}


class Asker:
    """A request that waits at one process."""

    def __init__(self, process: "Process", name: str) -> None:
        self.process = process
        self.service_class = CLASSES[name]
        self.claim = Claim(1, self.service_class.priority)
        self.lease: Lease | None = None

    def begin(self, now: float) -> bool:
        slots = self.process.health.slots
        if not slots.has_slot(self.claim) or not slots.secure(self.claim, now):
            return False
        self.lease = self.process.health.lease(1, self.claim, now)
        self.process.house.began(self)
        return True

    def turned_away(self, refused: TurnedAway) -> None:
        raise AssertionError(refused)

    def broke(self) -> None:
        raise AssertionError

    def renew(self, now: float) -> None:
        """Not called here."""


class Process:
    def __init__(self, house: "House", row: int, limit: int) -> None:
        self.house, self.row = house, row
        self.table = house.memory.join()
        assert self.table.row == row
        self.table.beat(0.0)
        self.health = Health("engine", PoolState("gpu", 0.0))
        self.health.slots.limit_to(limit)
        self.health.slots.shared = slots_of(self.table)
        self.line = AdmissionQueue(CLASSES)
        self.line.refuses = False
        join([(self.line, (self.health,))])
        self.line.slots.shared = True
        self.waiting: list[tuple[Asker, Entry[Queued]]] = []

    def ask(self, name: str) -> None:
        asker = Asker(self, name)
        if not self.line.must_wait(asker.service_class) and asker.begin(self.house.now):
            return
        entry = self.line.enter(asker, asker.service_class, "", now=self.house.now, patience=1e9, chance=0.5)
        assert isinstance(entry, Entry)
        if asker.lease is None:
            self.waiting.append((asker, entry))


class House:
    """Processes on one machine, and the time."""

    def __init__(self, processes: int, limit: int) -> None:
        self.now, self.limit = 0.0, limit
        self.memory = SteppedMemory(processes)
        self.running: list[Asker] = []
        self.processes = [Process(self, row, limit) for row in range(processes)]

    def began(self, asker: Asker) -> None:
        self.running.append(asker)
        assert len(self.running) <= self.limit
        for process in self.processes:
            process.waiting = [each for each in process.waiting if each[0].lease is None]
            if process is not asker.process and process.table.is_alive(process.row):
                priorities = [each.service_class.priority for each, _ in process.waiting]
                assert not any(priority < asker.service_class.priority for priority in priorities), "an inversion"

    def end(self, place: int) -> None:
        if self.running:
            asker = self.running.pop(place % len(self.running))
            assert asker.lease is not None
            asker.lease.release()
            asker.process.line.give_back(self.now)

    def leave(self, place: int) -> None:
        process = self.processes[place % len(self.processes)]
        if process.waiting:
            _, entry = process.waiting.pop(place % len(process.waiting))
            process.line.leave(entry, self.now)

    def wake(self) -> None:
        """Let those that were woken look, until no one is."""
        while self.memory.woken:
            self.processes[self.memory.woken.pop()].line.freed(self.now)


actions = st.lists(
    st.tuples(st.sampled_from(["ask", "ask", "end", "leave", "wake"]), st.integers(0, 5), st.sampled_from([*CLASSES])),
    max_size=40,
)


@settings(max_examples=300)
@given(st.integers(1, 3), st.integers(2, 3), actions)
def test_no_lower_class_is_served_before_a_higher_one_and_no_slot_is_left(
    limit: int, processes: int, rows: list[tuple[str, int, str]]
) -> None:
    house = House(processes, limit)
    for action, place, name in rows:
        house.now += 0.01
        match action:
            case "ask":
                house.processes[place % processes].ask(name)
            case "end":
                house.end(place)
            case "leave":
                house.leave(place)
            case "wake":
                house.wake()
    house.wake()
    waiting = sum(len(each.waiting) for each in house.processes)
    assert len(house.running) == limit or not waiting, "asleep beside a free slot"
    while house.running:
        house.end(0)
        house.wake()
    assert not any(process.waiting for process in house.processes)
    assert sum(house.memory.values[house.memory.layout.backends.start(0) :][:processes]) == 0
    assert not any(process.line.slots.shows for process in house.processes)


def test_a_process_that_stands_still_keeps_no_other_from_a_slot() -> None:
    house = House(2, 1)
    for process, name in ((0, "low"), (1, "high"), (0, "low")):
        house.processes[process].ask(name)
    house.now = 5.0
    house.processes[0].table.beat(5.0)
    house.processes[1].table.now = 5.0
    house.end(0)
    assert len(house.running) == 1
    assert house.running[0].process.row == 0
