"""Who is next: classes by priority with guaranteed shares, tenants fairly by tokens, first come first served inside.

Fairness is start-time fair queueing (Goyal, Vin and Cheng, 1996) with a virtual time for each tenant of a class: its
tokens served, and never behind whoever was served last, so that idling earns nothing. Guaranteed shares are credits in
tokens. Every operation takes a time that grows with the number of tenants that wait, not of requests.
"""

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from gateway.policy.admission.classes import ServiceClass

Item = TypeVar("Item")
DEAREST = 1e9
"""Tokens that a request counts for at most: beyond, sums of them would lose the small ones."""


class Entry(Generic[Item]):
    """One place in the queue: whose, of how many tokens, since when (seconds)."""

    __slots__ = ("cost", "item", "service_class", "since", "tenant")

    def __init__(self, item: Item, service_class: ServiceClass, tenant: str, cost: float, since: float) -> None:
        self.item = item
        self.service_class = service_class
        self.tenant = tenant
        self.cost = cost
        self.since = since

    def __repr__(self) -> str:
        return f"<Entry of {self.tenant} in {self.service_class.name}, {self.cost:.0f} tokens>"


class _Tenant(Generic[Item]):
    __slots__ = ("entries", "virtual")

    def __init__(self, virtual: float) -> None:
        self.virtual = virtual
        self.entries: dict[Entry[Item], None] = {}


class _ClassQueue(Generic[Item]):
    """The tenants of one class that wait, each in order of arrival; `virtual` is when the last one served started.

    `idle` is what tenants that wait no more have had: it counts against them until nobody waits at all.
    """

    __slots__ = ("credit", "idle", "service_class", "size", "virtual", "waiting")

    def __init__(self, service_class: ServiceClass) -> None:
        self.service_class = service_class
        self.size = 0
        self.credit = 0.0
        self.virtual = 0.0
        self.waiting: dict[str, _Tenant[Item]] = {}
        self.idle: dict[str, float] = {}

    def push(self, entry: Entry[Item]) -> None:
        tenant = self.waiting.get(entry.tenant)
        if tenant is None:
            virtual = max(self.virtual, self.idle.pop(entry.tenant, 0.0))
            tenant = self.waiting[entry.tenant] = _Tenant(virtual)
        tenant.entries[entry] = None
        self.size += 1

    def remove(self, entry: Entry[Item]) -> bool:
        tenant = self.waiting.get(entry.tenant)
        if tenant is None or entry not in tenant.entries:
            return False
        del tenant.entries[entry]
        self.size -= 1
        if not tenant.entries:
            del self.waiting[entry.tenant]
            self.idle[entry.tenant] = tenant.virtual
        if not self.size:
            self.idle.clear()
        return True

    def head(self) -> Entry[Item]:
        """Return whoever is next in this class; it must not be empty."""
        tenant = min(self.waiting.values(), key=lambda each: each.virtual)
        return next(iter(tenant.entries))

    def newest(self) -> Entry[Item]:
        """Return whoever came last; the class must not be empty."""
        return max((next(reversed(each.entries)) for each in self.waiting.values()), key=lambda entry: entry.since)

    def serve(self, entry: Entry[Item]) -> None:
        tenant = self.waiting[entry.tenant]
        self.virtual = tenant.virtual
        tenant.virtual += entry.cost
        self.remove(entry)


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
        """Take other classes; whoever waits in one that is no more stays until served, after all others."""
        known = self._by_name
        self._by_name = {}
        for name, service_class in classes.items():
            queue = known.pop(name) if name in known else _ClassQueue(service_class)
            queue.service_class = service_class
            self._by_name[name] = queue
        self._by_name |= {name: queue for name, queue in known.items() if queue.size}
        self._classes = sorted(self._by_name.values(), key=lambda each: each.service_class.priority)

    def push(self, item: Item, service_class: ServiceClass, tenant: str, cost: float, now: float) -> Entry[Item]:
        """Add one at the end of its tenant's line; `cost` is in tokens, and counts as 1 to `DEAREST`.

        A class that is no more, which the request began with, is known again until nobody waits in it.
        """
        entry = Entry(item, service_class, tenant, max(1.0, min(cost, DEAREST)), now)
        queue = self._by_name.get(service_class.name)
        if queue is None:
            queue = self._by_name[service_class.name] = _ClassQueue(service_class)
            self._classes = sorted(self._by_name.values(), key=lambda each: each.service_class.priority)
        queue.push(entry)
        self.size += 1
        return entry

    def remove(self, entry: Entry[Item]) -> bool:
        """Take one out, wherever it stands; return whether it was there."""
        queue = self._by_name.get(entry.service_class.name)
        gone = queue is not None and queue.remove(entry)
        self.size -= gone
        return gone

    def head(self) -> Entry[Item] | None:
        """Return whoever is next: a class whose guaranteed share has come due, else the first that is not empty."""
        first = None
        for each in self._classes:
            if not each.size:
                continue
            if first is None:
                first = each
            elif each.credit >= (entry := each.head()).cost:
                return entry
        return first.head() if first is not None else None

    def serve(self, entry: Entry[Item]) -> None:
        """Take the head out because it got its slot, and book its tokens."""
        chosen = self._by_name[entry.service_class.name]
        for each in self._classes:
            if each.size and each.service_class.min_share:
                each.credit += each.service_class.min_share * entry.cost
        chosen.serve(entry)
        chosen.credit = max(0.0, chosen.credit - entry.cost)
        if not chosen.size:
            chosen.credit = 0.0
        self.size -= 1

    def below(self, service_class: ServiceClass) -> Entry[Item] | None:
        """Return the newest request of the lowest class under this one: whoever makes room first; None for nobody."""
        for each in reversed(self._classes):
            if each.size and each.service_class.priority > service_class.priority:
                return each.newest()
        return None

    def ahead(self, service_class: ServiceClass, tenant: str) -> int:
        """Return about how many requests would be served before one that came now."""
        ahead = 0
        for each in self._classes:
            if each.service_class.priority > service_class.priority:
                break
            if each.service_class.name != service_class.name:
                ahead += each.size
                continue
            own = each.waiting.get(tenant)
            others = len(each.waiting) - (own is not None)
            mine = len(own.entries) if own is not None else 0
            ahead += min(each.size, mine + others * (mine + 1))
        return ahead

    def service_class(self, name: str) -> ServiceClass | None:
        """Return a class by its name."""
        queue = self._by_name.get(name)
        return queue.service_class if queue is not None else None

    def sizes(self) -> list[tuple[str, int]]:
        """Return how many wait, by class, the first served first."""
        return [(each.service_class.name, each.size) for each in self._classes]
