"""Who is next: classes by priority with guaranteed shares, tenants fairly by tokens, first come first served inside.

Fairness is start-time fair queueing (Goyal, Vin and Cheng, 1996) with a virtual time for each tenant of a class: its
tokens served, and never behind the one that was served last, so that idling earns nothing. Guaranteed shares are
credits in tokens. Operations take no longer for many requests that wait, and hardly for many tenants.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, filterfalse, islice, takewhile
from typing import Final, Generic, TypeVar

from gateway.policy.admission.classes import ServiceClass
from gateway.policy.admission.ranking import Ranking

Item = TypeVar("Item")
DEAREST: Final = 1e9
"""Tokens that a request counts for at most: beyond, sums of them would lose the small ones."""
FARTHEST: Final = 256
"""How many of a class are looked through for one that is not stuck."""


class Entry(Generic[Item]):
    """One place in the queue: whose, of how many tokens, since when (seconds).

    `holding` is how long it will hold a slot, in seconds, as far as one knows; `until` when its patience ends. Once it
    was served, `start` is its tenant's virtual time before, and `credit` the part of its class's credit that it used.
    """

    __slots__ = ("cost", "credit", "holding", "item", "service_class", "since", "start", "tenant", "until")

    def __init__(
        self,
        item: Item,
        service_class: ServiceClass,
        tenant: str,
        cost: float,
        since: float,
        *,
        holding: float = 0.0,
        until: float = float("inf"),
    ) -> None:
        self.item = item
        self.service_class = service_class
        self.tenant = tenant
        self.cost = cost
        self.since = since
        self.holding = holding
        self.until = until
        self.start: float | None = None
        self.credit = 0.0

    def __repr__(self) -> str:
        return f"<Entry of {self.tenant} in {self.service_class.name}, {self.cost:.0f} tokens>"


Stuck = Callable[[Entry[Item]], bool]
"""Says whether one that waits cannot be served now, whatever comes free for others."""


class _Tenant(Generic[Item]):
    """The requests of one tenant that wait, and by which numbers it is ranked: `virtual`, and when its `last` came."""

    __slots__ = ("entries", "last", "turn", "virtual")

    def __init__(self, virtual: float, turn: int) -> None:
        self.virtual = virtual
        self.last = 0.0
        self.turn = turn
        self.entries: OrderedDict[Entry[Item], None] = OrderedDict()


class _ClassQueue(Generic[Item]):
    """The tenants of one class that wait, each in order of arrival; `virtual` is when the last one served started.

    `idle` is what tenants that wait no more have had: it counts against them until the queue is empty. `holding` is
    the sum of how long its entries will hold a slot, in seconds; `since` when the first came who found it empty. Equal
    tenants are ranked by `turn`: who began to wait first.
    """

    __slots__ = (
        "_by_last",
        "_by_virtual",
        "_turns",
        "credit",
        "holding",
        "idle",
        "service_class",
        "since",
        "size",
        "virtual",
        "waiting",
    )

    def __init__(self, service_class: ServiceClass) -> None:
        self.service_class = service_class
        self.size = 0
        self.since = 0.0
        self.credit = 0.0
        self.holding = 0.0
        self.virtual = 0.0
        self.waiting: dict[str, _Tenant[Item]] = {}
        self.idle: dict[str, float] = {}
        self._turns = 0
        self._by_virtual: Ranking[_Tenant[Item]] = Ranking()
        self._by_last: Ranking[_Tenant[Item]] = Ranking()

    def push(self, entry: Entry[Item]) -> None:
        tenant = self.waiting.get(entry.tenant)
        if tenant is None:
            virtual = max(self.virtual, self.idle.pop(entry.tenant, 0.0))
            self._turns += 1
            tenant = self.waiting[entry.tenant] = _Tenant(virtual, self._turns)
            self._by_virtual.add(-virtual, tenant.turn, tenant)
            self._by_last.add(entry.since, tenant.turn, tenant)
        else:
            self._by_last.move(tenant.last, entry.since, tenant.turn, tenant)
        tenant.entries[entry] = None
        tenant.last = entry.since
        if not self.size:
            self.since = entry.since
        self.size += 1
        self.holding += entry.holding

    def restore(self, entry: Entry[Item]) -> None:
        self.push(entry)
        tenant = self.waiting[entry.tenant]
        if entry.start is not None:
            self._charge(tenant, max(entry.start, tenant.virtual - entry.cost))
        earlier = [*takewhile(lambda each: each is not entry and each.since <= entry.since, tenant.entries)]
        for each in (entry, *reversed(earlier)):
            tenant.entries.move_to_end(each, last=False)
        self._rank_last(tenant)

    def remove(self, entry: Entry[Item]) -> bool:
        tenant = self.waiting.get(entry.tenant)
        if tenant is None or entry not in tenant.entries:
            return False
        del tenant.entries[entry]
        self.size -= 1
        self.holding = self.holding - entry.holding if self.size else 0.0
        if tenant.entries:
            self._rank_last(tenant)
        else:
            del self.waiting[entry.tenant]
            self._by_virtual.remove(-tenant.virtual, tenant.turn, tenant)
            self._by_last.remove(tenant.last, tenant.turn, tenant)
            self.idle[entry.tenant] = tenant.virtual
        if not self.size:
            self.idle.clear()
        return True

    def head(self) -> Entry[Item]:
        """Return the next request of this class; it must not be empty."""
        return next(iter(self._by_virtual.top().entries))

    def first(self, most: int, stuck: Stuck[Item]) -> Iterator[Entry[Item]]:
        """Return those who are next, at most so many that are not stuck."""
        entries = chain.from_iterable(each.entries for each in self._by_virtual)
        return islice(filterfalse(stuck, islice(entries, FARTHEST)), most)

    def newest(self) -> Entry[Item]:
        """Return the request that came last; the class must not be empty."""
        return next(reversed(self._by_last.top().entries))

    def serve(self, entry: Entry[Item]) -> None:
        tenant = self.waiting[entry.tenant]
        self.virtual = entry.start = tenant.virtual
        self._charge(tenant, tenant.virtual + entry.cost)
        self.remove(entry)

    def _charge(self, tenant: _Tenant[Item], virtual: float) -> None:
        """Let a tenant have had so much."""
        self._by_virtual.move(-tenant.virtual, -virtual, tenant.turn, tenant)
        tenant.virtual = virtual

    def _rank_last(self, tenant: _Tenant[Item]) -> None:
        """Rank a tenant anew if the last of its requests is another one now."""
        last = next(reversed(tenant.entries)).since
        if last != tenant.last:
            self._by_last.move(tenant.last, last, tenant.turn, tenant)
            tenant.last = last


class Queue(Generic[Item]):
    """Requests that wait for a slot, over all classes. Times are seconds of the caller's clock."""

    __slots__ = ("_by_name", "_classes", "size")

    def __init__(self, classes: Mapping[str, ServiceClass]) -> None:
        self.size = 0
        self._classes: list[_ClassQueue[Item]] = []
        self._by_name: dict[str, _ClassQueue[Item]] = {}
        self.follow(classes)

    def __repr__(self) -> str:
        return f"<Queue {' '.join(f'{each.service_class.name} {each.size}' for each in self._classes)}>"

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Entry[Item]]:
        for each in self._classes:
            for tenant in each.waiting.values():
                yield from tenant.entries

    def follow(self, classes: Mapping[str, ServiceClass]) -> None:
        """Take other classes; requests that wait in one that is gone stay until served, after all others."""
        known = self._by_name
        self._by_name = {}
        for name, service_class in classes.items():
            queue = known.pop(name) if name in known else _ClassQueue(service_class)
            queue.service_class = service_class
            self._by_name[name] = queue
        self._by_name |= {name: queue for name, queue in known.items() if queue.size}
        self._classes = sorted(self._by_name.values(), key=lambda each: each.service_class.priority)

    def standing(self, service_class: ServiceClass, now: float) -> float:
        """Return for how many seconds requests of a class have waited without a pause."""
        queue = self._by_name.get(service_class.name)
        return now - queue.since if queue is not None and queue.size else 0.0

    def push(self, entry: Entry[Item]) -> None:
        """Add one at the end of its tenant's line; its cost counts as 1 to `DEAREST`.

        A class that is no more, which the request began with, is known again until it is empty.
        """
        entry.cost = max(1.0, min(entry.cost, DEAREST))
        self._of(entry.service_class).push(entry)
        self.size += 1

    def restore(self, entry: Entry[Item]) -> None:
        """Put back one that got a slot and could not use it, where it was by `since`; its tokens are booked again."""
        entry.cost = max(1.0, min(entry.cost, DEAREST))
        queue = self._of(entry.service_class)
        if entry.start is not None:
            for each in self._classes:
                if each.size or each is queue:
                    each.credit = max(0.0, each.credit - each.service_class.min_share * entry.cost)
            queue.credit += entry.credit
            entry.credit = 0.0
        queue.restore(entry)
        self.size += 1

    def _of(self, service_class: ServiceClass) -> _ClassQueue[Item]:
        queue = self._by_name.get(service_class.name)
        if queue is None:
            queue = self._by_name[service_class.name] = _ClassQueue(service_class)
            self._classes = sorted(self._by_name.values(), key=lambda each: each.service_class.priority)
        return queue

    def remove(self, entry: Entry[Item]) -> bool:
        """Take one out, wherever it stands; return whether it was there."""
        queue = self._by_name.get(entry.service_class.name)
        gone = queue is not None and queue.remove(entry)
        self.size -= gone
        return gone

    def head(self) -> Entry[Item] | None:
        """Return the next class: one whose guaranteed share has come due, else the first that is not empty."""
        waiting = self._waiting()
        for each in waiting[1:]:
            if each.credit >= (entry := each.head()).cost:
                return entry
        return waiting[0].head() if waiting else None

    def due(self) -> Entry[Item] | None:
        """Return the next of a class whose guaranteed share has come due before a higher class; None without one."""
        head = self.head()
        first = min((each.service_class.priority for each in self._classes if each.size), default=0)
        return head if head is not None and head.service_class.priority > first else None

    def next(self, most: int, stuck: Stuck[Item] = lambda _: False) -> Iterator[Entry[Item]]:
        """Return who could be served, in order, at most so many of each class: some of them may not fit.

        The heads of classes whose guaranteed share has come due go first, then classes by priority. Those that are
        `stuck` are passed over: they wait for something else than those behind them.
        """
        waiting = self._waiting()
        for each in waiting[1:]:
            if each.credit >= (entry := each.head()).cost and not stuck(entry):
                yield entry
        for each in waiting:
            yield from each.first(most, stuck)

    def _waiting(self) -> list[_ClassQueue[Item]]:
        """Return the classes that wait, by priority; of equal ones that whose head has waited for longest."""
        waiting = [each for each in self._classes if each.size]
        if len({each.service_class.priority for each in waiting}) < len(waiting):
            waiting.sort(key=lambda each: (each.service_class.priority, each.head().since))
        return waiting

    def waits_before(self, priority: int) -> bool:
        """Whether somebody waits whom a newcomer of this priority must not overtake."""
        return any(each.size and each.service_class.priority <= priority for each in self._classes)

    def serve(self, entry: Entry[Item]) -> None:
        """Take one out because it got its slot, and book its tokens."""
        chosen = self._by_name[entry.service_class.name]
        for each in self._classes:
            if each.size and each.service_class.min_share:
                each.credit += each.service_class.min_share * entry.cost
        chosen.serve(entry)
        entry.credit = min(chosen.credit, entry.cost)
        chosen.credit -= entry.credit
        if not chosen.size:
            chosen.credit = 0.0
        self.size -= 1

    def below(self, service_class: ServiceClass) -> Entry[Item] | None:
        """Return the newest request of the lowest class under this one: it makes room first. None without one."""
        for each in reversed(self._classes):
            if each.size and each.service_class.priority > service_class.priority:
                return each.newest()
        return None

    def ahead(self, service_class: ServiceClass, tenant: str) -> tuple[int, float]:
        """Return about how many requests would be served before one that came now, and for how long they hold a slot.

        The second is the mean, in seconds; 0.0 when the queue is empty.
        """
        ahead, seconds = 0, 0.0
        for each in self._classes:
            if each.service_class.priority > service_class.priority:
                break
            if not each.size:
                continue
            count = each.size
            if each.service_class.name == service_class.name:
                own = each.waiting.get(tenant)
                others = len(each.waiting) - (own is not None)
                mine = len(own.entries) if own is not None else 0
                count = min(each.size, mine + others * (mine + 1))
            ahead += count
            seconds += each.holding * count / each.size
        return ahead, seconds / ahead if ahead else 0.0

    def classes(self) -> dict[str, ServiceClass]:
        """Return the classes, by name."""
        return {each.service_class.name: each.service_class for each in self._classes}

    def priorities(self) -> set[int]:
        """Return the priorities of the classes that wait."""
        return {each.service_class.priority for each in self._classes if each.size}

    def by_tenant(self) -> list[tuple[str, str, int]]:
        """Return how many of each class and tenant wait."""
        return [
            (each.service_class.name, tenant, len(waiting.entries))
            for each in self._classes
            for tenant, waiting in each.waiting.items()
        ]

    def sizes(self) -> list[tuple[str, int]]:
        """Return how many wait, by class, the first served first."""
        return [(each.service_class.name, each.size) for each in self._classes]
