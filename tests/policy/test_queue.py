"""Who is next: never lost, never twice, by class, by share, fair between tenants, in order within one."""

from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.policy.admission.classes import CLASSES, ServiceClass
from gateway.policy.admission.queue import Entry, Queue

NAMES = list(CLASSES)
TENANTS = ["a", "b", "c"]
names, tenants = st.sampled_from(NAMES), st.sampled_from(TENANTS)
costs = st.integers(1, 500)


def served(queue: Queue[Any]) -> Entry[Any]:
    """Give a slot to whoever is next."""
    entry = queue.head()
    assert entry is not None
    queue.serve(entry)
    return entry


class Queueing(RuleBasedStateMachine):
    """Any interleaving of arrivals, departures and slots, against a list."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: Queue[int] = Queue(CLASSES)
        self.entries: list[Entry[int]] = []
        self.arrived = 0

    @rule(name=names, tenant=tenants, cost=costs)
    def arrive(self, name: str, tenant: str, cost: int) -> None:
        self.arrived += 1
        self.entries.append(self.queue.push(self.arrived, CLASSES[name], tenant, cost, float(self.arrived)))

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        entry = self.entries.pop(data.draw(st.integers(0, len(self.entries) - 1)))
        assert self.queue.remove(entry)
        assert not self.queue.remove(entry)

    @precondition(lambda self: self.entries)
    @rule()
    def serve(self) -> None:
        entry = self.queue.head()
        assert entry is not None
        earlier = [
            each
            for each in self.entries
            if (each.tenant, each.service_class) == (entry.tenant, entry.service_class) and each.since < entry.since
        ]
        assert not earlier, "first come, first served within one tenant of a class"
        highest = min(each.service_class.priority for each in self.entries)
        assert entry.service_class.priority == highest or entry.service_class.min_share
        self.queue.serve(entry)
        self.entries.remove(entry)

    @rule(name=names, tenant=tenants)
    def look(self, name: str, tenant: str) -> None:
        ahead = self.queue.ahead(CLASSES[name], tenant)
        most = sum(each.service_class.priority <= CLASSES[name].priority for each in self.entries)
        assert 0 <= ahead <= most
        below = self.queue.below(CLASSES[name])
        lower = [each for each in self.entries if each.service_class.priority > CLASSES[name].priority]
        assert (below is None) == (not lower)
        if below is not None:
            assert below.service_class.priority == max(each.service_class.priority for each in lower)
            assert below.since == max(each.since for each in lower if each.service_class is below.service_class)

    @invariant()
    def holds_exactly_who_waits(self) -> None:
        assert sorted(each.item for each in self.queue) == sorted(each.item for each in self.entries)
        assert len(self.queue) == len(self.entries) == sum(size for _, size in self.queue.sizes())
        assert (self.queue.head() is None) == (not self.entries)


TestQueueing = Queueing.TestCase


@settings(deadline=None)
@given(st.lists(st.tuples(tenants, costs), min_size=30, max_size=200))
def test_tenants_of_a_class_are_served_alike_to_within_one_request(rows: list[tuple[str, int]]) -> None:
    """While all of them wait, what two tenants have been served differs by at most one request of each."""
    queue: Queue[int] = Queue(CLASSES)
    standard = CLASSES["standard"]
    waiting: Counter[str] = Counter()
    for number, (tenant, cost) in enumerate(rows):
        queue.push(number, standard, tenant, cost, float(number))
        waiting[tenant] += 1
    served: Counter[str] = Counter()
    largest = max(cost for _, cost in rows)
    while len(waiting) == len(TENANTS) and all(waiting.values()):
        entry = queue.head()
        assert entry is not None
        queue.serve(entry)
        served[entry.tenant] += int(entry.cost)
        waiting[entry.tenant] -= 1
        assert max(served[each] for each in TENANTS) - min(served[each] for each in TENANTS) <= 2 * largest


def test_one_that_was_served_much_cannot_forget_it_by_leaving_for_a_moment() -> None:
    queue: Queue[str] = Queue(CLASSES)
    standard = CLASSES["standard"]
    queue.push("a big one", standard, "greedy", 1000, 0.0)
    queue.push("small", standard, "modest", 10, 0.0)
    served(queue)
    for number in range(5):
        queue.push(f"small {number}", standard, "modest", 10, 1.0)
    queue.push("again", standard, "greedy", 10, 1.0)
    order = []
    while (entry := queue.head()) is not None:
        order.append(entry.item)
        queue.serve(entry)
    assert order[-1] == "again"


def test_idling_earns_nothing() -> None:
    queue: Queue[str] = Queue(CLASSES)
    standard = CLASSES["standard"]
    for number in range(100):
        queue.push(f"busy {number}", standard, "busy", 10, float(number))
    for _ in range(50):
        served(queue)
    for number in range(50):
        queue.push(f"idle {number}", standard, "idle", 10, 100.0)
    first = [served(queue).tenant for _ in range(20)]
    assert 9 <= first.count("idle") <= 11


@given(st.floats(0.01, 0.5), st.lists(costs, min_size=100, max_size=400))
def test_a_class_gets_its_share_under_endless_higher_load(share: float, sizes: list[int]) -> None:
    classes = {"high": ServiceClass("high", 0), "low": replace(CLASSES["batch"], name="low", min_share=share)}
    queue: Queue[int] = Queue(classes)
    for number, cost in enumerate(sizes):
        queue.push(number, classes["high"], "a", cost, 0.0)
        queue.push(number, classes["low"], "b", cost, 0.0)
    total = low = 0.0
    for _ in sizes:
        entry = queue.head()
        assert entry is not None
        queue.serve(entry)
        total += entry.cost
        low += entry.cost if entry.service_class.name == "low" else 0
        assert share * total - 2 * max(sizes) <= low <= share * total + max(sizes)


def test_classes_may_change_while_somebody_waits() -> None:
    queue: Queue[str] = Queue(CLASSES)
    queue.push("old", CLASSES["batch"], "a", 1, 0.0)
    other = {"gold": ServiceClass("gold", 1)}
    queue.follow(other)
    queue.push("new", other["gold"], "a", 1, 1.0)
    assert queue.service_class("gold") is other["gold"]
    assert queue.service_class("standard") is None
    assert repr(queue) == "<Queue gold 1 batch 1>"
    served = []
    while (entry := queue.head()) is not None:
        served.append(entry.item)
        queue.serve(entry)
    assert served == ["new", "old"]
    assert repr(queue.push("x", other["gold"], "t", 2, 0.0)) == "<Entry of t in gold, 2 tokens>"
    stranger = Entry("y", CLASSES["interactive"], "t", 1, 0.0)
    assert not queue.remove(stranger)
    queue.push("z", CLASSES["interactive"], "t", 1, 0.0)
    queue.push("x", other["gold"], "t", 1, 0.0)
    assert [name for name, _ in queue.sizes()] == ["interactive", "gold", "batch"]
    assert queue.head() is not None


def test_once_nobody_waits_all_is_forgotten() -> None:
    queue: Queue[str] = Queue(CLASSES)
    standard = CLASSES["standard"]
    for tenant, cost in (("a", 1000), ("b", 10)):
        queue.push(tenant, standard, tenant, cost, 0.0)
        served(queue)
    queue.push("first", standard, "a", 10, 1.0)
    queue.push("second", standard, "b", 10, 2.0)
    assert served(queue).item == "first"
