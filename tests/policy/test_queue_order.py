"""The queue has the order of a slow, obvious one, which looks at every tenant each time."""

from collections.abc import Callable
from itertools import chain, takewhile

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.policy.admission.classes import ServiceClass
from gateway.policy.admission.queue import FARTHEST, Entry, Queue
from gateway.policy.admission.ranking import Ranking

ABOVE, CLASS = ServiceClass("above", 0), ServiceClass("one", 5)
TENANTS = [f"tenant {number}" for number in range(8)]
MOST = 8


class ObviousTenant:
    """The entries of one tenant, and what it has had."""

    def __init__(self, virtual: float) -> None:
        self.virtual = virtual
        self.entries: list[Entry[int]] = []


class ObviousQueue:
    """One class, by the words of start-time fair queueing; nothing is kept ready."""

    def __init__(self) -> None:
        self.virtual = 0.0
        self.waiting: dict[str, ObviousTenant] = {}
        self.idle: dict[str, float] = {}
        self.starts: dict[Entry[int], float] = {}

    def push(self, entry: Entry[int]) -> None:
        if entry.tenant not in self.waiting:
            self.waiting[entry.tenant] = ObviousTenant(max(self.virtual, self.idle.pop(entry.tenant, 0.0)))
        self.waiting[entry.tenant].entries.append(entry)

    def restore(self, entry: Entry[int]) -> None:
        self.push(entry)
        tenant = self.waiting[entry.tenant]
        if entry in self.starts:
            tenant.virtual = max(self.starts[entry], tenant.virtual - entry.cost)
        others = tenant.entries[:-1]
        earlier = [*takewhile(lambda each: each.since <= entry.since, others)]
        tenant.entries = [*earlier, entry, *others[len(earlier) :]]

    def remove(self, entry: Entry[int]) -> None:
        tenant = self.waiting[entry.tenant]
        tenant.entries.remove(entry)
        if not tenant.entries:
            self.idle[entry.tenant] = self.waiting.pop(entry.tenant).virtual
        if not self.waiting:
            self.idle.clear()

    def serve(self, entry: Entry[int]) -> None:
        tenant = self.waiting[entry.tenant]
        self.virtual = self.starts[entry] = tenant.virtual
        tenant.virtual += entry.cost
        self.remove(entry)

    def in_order(self) -> list[Entry[int]]:
        tenants = sorted(self.waiting.values(), key=lambda each: each.virtual)
        return [*chain.from_iterable(each.entries for each in tenants)]

    def next(self, most: int, stuck: Callable[[Entry[int]], bool]) -> list[Entry[int]]:
        return [each for each in self.in_order()[:FARTHEST] if not stuck(each)][:most]

    def newest(self) -> Entry[int]:
        return max((each.entries[-1] for each in self.waiting.values()), key=lambda entry: entry.since)


class SameOrder(RuleBasedStateMachine):
    """Whatever happens, both queues say the same."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: Queue[int] = Queue({each.name: each for each in (ABOVE, CLASS)})
        self.obvious = ObviousQueue()
        self.waiting: list[Entry[int]] = []
        self.served: list[Entry[int]] = []
        self.now = 0.0
        self.number = 0

    def entry(self, tenant: str, cost: float, since: float) -> Entry[int]:
        self.number += 1
        return Entry(self.number, CLASS, tenant, cost, since)

    @rule(
        tenant=st.sampled_from(TENANTS),
        cost=st.sampled_from([1.0, 10.0]) | st.floats(1, 500),
        pause=st.sampled_from([0.0, 1.0, -5.0]),
    )
    def arrive(self, tenant: str, cost: float, pause: float) -> None:
        """Some come at once, and some that waited in another line since earlier."""
        self.now += max(0.0, pause)
        entry = self.entry(tenant, cost, self.now + min(0.0, pause))
        self.queue.push(entry)
        self.obvious.push(entry)
        self.waiting.append(entry)

    @precondition(lambda self: self.waiting)
    @rule(place=st.integers(0, 100))
    def leave(self, place: int) -> None:
        entry = self.waiting.pop(place % len(self.waiting))
        assert self.queue.remove(entry)
        self.obvious.remove(entry)

    @precondition(lambda self: self.waiting)
    @rule(place=st.sampled_from([0, 0, 0, 1, 5]))
    def serve(self, place: int) -> None:
        """Mostly the first; one that does not fit lets another pass."""
        order = self.obvious.in_order()
        entry = order[place % len(order)]
        self.queue.serve(entry)
        self.obvious.serve(entry)
        self.waiting.remove(entry)
        self.served.append(entry)

    @precondition(lambda self: self.served)
    @rule(place=st.integers(0, 100))
    def send_back(self, place: int) -> None:
        entry = self.served.pop(place % len(self.served))
        self.queue.restore(entry)
        self.obvious.restore(entry)
        self.waiting.append(entry)

    @rule(tenant=st.sampled_from(TENANTS), ago=st.integers(0, 10))
    def wait_again(self, tenant: str, ago: int) -> None:
        """One is refused by an engine that has never waited here."""
        entry = self.entry(tenant, 5.0, self.now - ago)
        self.queue.restore(entry)
        self.obvious.restore(entry)
        self.waiting.append(entry)

    @invariant()
    def both_say_the_same(self) -> None:
        order = self.obvious.in_order()
        assert self.queue.head() is (order[0] if order else None)
        assert self.queue.below(ABOVE) is (self.obvious.newest() if order else None)
        for stuck in (lambda _: False, lambda entry: entry.item % 2 == 0):
            assert [*self.queue.next(MOST, stuck)] == self.obvious.next(MOST, stuck)
        assert [*self.queue] == [*chain.from_iterable(each.entries for each in self.obvious.waiting.values())]


TestSameOrder = SameOrder.TestCase


@given(st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5]), min_size=1, max_size=12), st.data())
def test_a_ranking_is_a_sorted_list(numbers: list[float], data: st.DataObject) -> None:
    ranking: Ranking[str] = Ranking()
    for turn, number in enumerate(numbers):
        ranking.add(number, turn, str(turn))
    known = dict(enumerate(numbers))
    for turn in data.draw(st.permutations(range(len(numbers)))):
        expected = sorted(known, key=lambda each: (-known[each], each))
        assert [*ranking] == [str(each) for each in expected]
        assert ranking.top() == str(expected[0])
        assert repr(ranking) == f"<Ranking {[str(each) for each in expected]}>"
        if data.draw(st.booleans()):
            number = data.draw(st.sampled_from([0.0, 1.0, 3.0]))
            ranking.move(known[turn], number, turn, str(turn))
            known[turn] = number
        else:
            ranking.remove(known.pop(turn), turn, str(turn))
            if not known:
                return
