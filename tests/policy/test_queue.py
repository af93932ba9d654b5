"""Who is next: never lost, never twice, by class, by share, fair between tenants, in order within one."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.policy.admission.classes import CLASSES, ServiceClass
from gateway.policy.admission.queue import DEAREST, FARTHEST, Entry, Queue

NAMES = list(CLASSES)
TENANTS = ["a", "b", "c"]
names, tenants = st.sampled_from(NAMES), st.sampled_from(TENANTS)
costs = st.integers(1, 500)


def push(  # noqa: PLR0917
    queue: Queue[Any], item: Any, service_class: ServiceClass, tenant: str, cost: float, now: float
) -> Entry[Any]:
    entry = Entry(item, service_class, tenant, cost, now, holding=min(cost, 1000) / 10)
    queue.push(entry)
    return entry


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
        self.entries.append(push(self.queue, self.arrived, CLASSES[name], tenant, cost, float(self.arrived)))

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

    @precondition(lambda self: self.entries)
    @rule()
    def send_back(self) -> None:
        entry = self.queue.head()
        assert entry is not None
        virtual, credit = self._booked(entry)
        self.queue.serve(entry)
        self.queue.restore(entry)
        first = next(
            each for each in self.queue if each.tenant == entry.tenant and each.service_class is entry.service_class
        )
        assert first is entry
        assert self._booked(entry)[0] == pytest.approx(virtual)
        assert self._booked(entry)[1] <= credit + entry.service_class.min_share * entry.cost + 1e-9

    def _booked(self, entry: Entry[int]) -> tuple[float, float]:
        queue = self.queue._by_name[entry.service_class.name]  # noqa: SLF001 - one queue of many
        return queue.waiting[entry.tenant].virtual, queue.credit

    @rule(name=names, tenant=tenants)
    def look(self, name: str, tenant: str) -> None:
        ahead, holding = self.queue.ahead(CLASSES[name], tenant)
        higher = [each for each in self.entries if each.service_class.priority < CLASSES[name].priority]
        if ahead == len(higher) > 0:
            assert holding == pytest.approx(sum(each.holding for each in higher) / len(higher))
        assert (holding > 0) == (ahead > 0)
        waits = any(each.service_class.priority <= CLASSES[name].priority for each in self.entries)
        assert self.queue.waits_before(CLASSES[name].priority) == waits
        most = sum(each.service_class.priority <= CLASSES[name].priority for each in self.entries)
        assert 0 <= ahead <= most
        below = self.queue.below(CLASSES[name])
        lower = [each for each in self.entries if each.service_class.priority > CLASSES[name].priority]
        assert (below is None) == (not lower)
        if below is not None:
            assert below.service_class.priority == max(each.service_class.priority for each in lower)
            assert below.since == max(each.since for each in lower if each.service_class is below.service_class)

    @precondition(lambda self: self.entries)
    @rule(most=st.integers(1, 20))
    def look_for_one_that_fits(self, most: int) -> None:
        found = list(self.queue.next(most))
        assert found[0] is self.queue.head()
        assert set(found) <= set(self.entries)
        for name in NAMES:
            of_class = [each for each in self.entries if each.service_class.name == name]
            seen = {each for each in found if each.service_class.name == name}
            assert min(most, len(of_class)) <= len(seen) <= most + 1
        assert self.queue.priorities() == {each.service_class.priority for each in self.entries}

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
        push(queue, number, standard, tenant, cost, float(number))
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
    push(queue, "a big one", standard, "greedy", 1000, 0.0)
    push(queue, "small", standard, "modest", 10, 0.0)
    served(queue)
    for number in range(5):
        push(queue, f"small {number}", standard, "modest", 10, 1.0)
    push(queue, "again", standard, "greedy", 10, 1.0)
    order = []
    while (entry := queue.head()) is not None:
        order.append(entry.item)
        queue.serve(entry)
    assert order[-1] == "again"


def test_classes_of_one_priority_are_served_in_order_of_arrival() -> None:
    classes = {name: ServiceClass(name, 5) for name in ("a", "b", "c")}
    queue: Queue[int] = Queue(classes)
    names = [*"cabbacabc"]
    for number, name in enumerate(names):
        push(queue, number, classes[name], "anyone", 10, float(number))
    assert next(queue.next(3)) is queue.head()
    assert [served(queue).item for _ in names] == list(range(len(names)))


def test_those_sent_back_stand_where_they_stood() -> None:
    queue: Queue[str] = Queue(CLASSES)
    standard = CLASSES["standard"]
    first, second, third = [push(queue, str(number), standard, "a", 10, float(number)) for number in range(3)]
    assert [served(queue), served(queue)] == [first, second]
    queue.restore(first)
    queue.restore(second)
    newcomer = Entry("never waited", standard, "a", 10, 1.5)
    queue.restore(newcomer)
    assert [served(queue) for _ in range(4)] == [first, second, newcomer, third]


def test_idling_earns_nothing() -> None:
    queue: Queue[str] = Queue(CLASSES)
    standard = CLASSES["standard"]
    for number in range(100):
        push(queue, f"busy {number}", standard, "busy", 10, float(number))
    for _ in range(50):
        served(queue)
    for number in range(50):
        push(queue, f"idle {number}", standard, "idle", 10, 100.0)
    first = [served(queue).tenant for _ in range(20)]
    assert 9 <= first.count("idle") <= 11


@given(st.floats(0.01, 0.5), st.lists(costs, min_size=100, max_size=400))
def test_a_class_gets_its_share_under_endless_higher_load(share: float, sizes: list[int]) -> None:
    classes = {"high": ServiceClass("high", 0), "low": replace(CLASSES["batch"], name="low", min_share=share)}
    queue: Queue[int] = Queue(classes)
    for number, cost in enumerate(sizes):
        push(queue, number, classes["high"], "a", cost, 0.0)
        push(queue, number, classes["low"], "b", cost, 0.0)
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
    push(queue, "old", CLASSES["batch"], "a", 1, 0.0)
    other = {"gold": ServiceClass("gold", 1)}
    queue.follow(other)
    push(queue, "new", other["gold"], "a", 1, 1.0)
    assert queue.classes() == {"gold": other["gold"], "batch": CLASSES["batch"]}
    assert repr(queue) == "<Queue gold 1 batch 1>"
    served = []
    while (entry := queue.head()) is not None:
        served.append(entry.item)
        queue.serve(entry)
    assert served == ["new", "old"]
    assert repr(push(queue, "x", other["gold"], "t", 2, 0.0)) == "<Entry of t in gold, 2 tokens>"
    stranger = Entry("y", CLASSES["interactive"], "t", 1, 0.0)
    assert not queue.remove(stranger)
    push(queue, "z", CLASSES["interactive"], "t", 1, 0.0)
    push(queue, "x", other["gold"], "t", 1, 0.0)
    assert [name for name, _ in queue.sizes()] == ["interactive", "gold", "batch"]
    assert queue.head() is not None


def test_whose_share_has_come_due_is_offered_first_and_the_others_after_it() -> None:
    queue: Queue[str] = Queue(CLASSES)
    for number in range(40):
        push(queue, f"high {number}", CLASSES["interactive"], "a", 10, float(number))
    push(queue, "low", CLASSES["batch"], "a", 10, 0.0)
    for _ in range(20):
        served(queue)
    assert [each.item for each in queue.next(2)] == ["low", "high 20", "high 21", "low"]


def test_who_is_stuck_is_passed_over_as_far_as_one_looks() -> None:
    queue: Queue[str] = Queue(CLASSES)
    push(queue, "due", CLASSES["batch"], "a", 1, 0.0)
    for number in range(20):
        push(queue, f"high {number}", CLASSES["interactive"], "a", 10, float(number))
    for _ in range(10):
        served(queue)
    offered = [each.item for each in queue.next(2, lambda each: each.item in {"due", "high 9", "high 11"})]
    assert offered == ["high 10", "high 12"]
    for number in range(FARTHEST):
        push(queue, f"stuck {number}", CLASSES["standard"], "a", 1, 0.0)
    push(queue, "far", CLASSES["standard"], "a", 1, 0.0)
    assert "far" not in [each.item for each in queue.next(2, lambda each: each.item.startswith("stuck"))]


def test_how_long_a_class_has_queued_is_counted_from_the_last_time_it_did_not() -> None:
    queue: Queue[str] = Queue(CLASSES)
    interactive, batch = CLASSES["interactive"], CLASSES["batch"]
    assert queue.standing(interactive, 9.0) == 0.0
    first, second = (Entry("x", interactive, "", 1, since) for since in (10.0, 12.0))
    queue.push(Entry("x", batch, "", 1, 5.0))
    queue.push(first)
    queue.push(second)
    assert queue.remove(first)
    assert queue.standing(interactive, 14.0) == 4.0, "another waits since before the first one left"
    assert queue.remove(second)
    assert queue.standing(interactive, 15.0) == 0.0, "whoever waits in another class"
    assert queue.standing(ServiceClass("other", 5), 15.0) == 0.0


def test_once_nobody_waits_all_is_forgotten() -> None:
    queue: Queue[str] = Queue(CLASSES)
    standard = CLASSES["standard"]
    for tenant, cost in (("a", 1000), ("b", 10)):
        push(queue, tenant, standard, tenant, cost, 0.0)
        served(queue)
    push(queue, "first", standard, "a", 10, 1.0)
    push(queue, "second", standard, "b", 10, 2.0)
    assert served(queue).item == "first"


@given(st.sampled_from([10**300, -5, 0, 0.5, 10**18, float("inf")]))
def test_no_cost_overflows_the_queue(cost: float) -> None:
    queue: Queue[str] = Queue(CLASSES)
    standard = CLASSES["standard"]
    assert 1 <= push(queue, "absurd", standard, "a", cost, 0.0).cost <= DEAREST
    push(queue, "sane", standard, "b", 10, 0.0)
    assert {served(queue).item, served(queue).item} == {"absurd", "sane"}
    assert not queue.size


def test_how_many_wait_is_told_by_class_and_tenant() -> None:
    queue: Queue[int] = Queue(CLASSES)
    for number, tenant in enumerate(("a", "b", "a")):
        push(queue, number, CLASSES["batch"], tenant, 1, 0.0)
    push(queue, 3, CLASSES["standard"], "a", 1, 0.0)
    assert sorted(queue.by_tenant()) == [("batch", "a", 2), ("batch", "b", 1), ("standard", "a", 1)]
