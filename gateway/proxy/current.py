"""The routes in force, for whatever needs those of the moment."""

from gateway.backends.registry import Reconciled, Registry
from gateway.clock import Clock
from gateway.config.table import RouteTable
from gateway.proxy.live import LiveBuilding, LiveTable, live_table
from gateway.proxy.renewal import outlived, renewing
from gateway.proxy.tenants import Tenants, tenants_of
from gateway.wire.slices import Work


class Successor:
    """Other routes joined with live backends, that are not in force yet."""

    __slots__ = ("building", "routes", "tenants")

    def __init__(self, prepared: Reconciled, before: "CurrentTable", clock: Clock) -> None:
        self.routes: RouteTable = prepared.table
        changed = dict(before.tenants.classes) != dict(self.routes.classes)
        self.building = LiveBuilding(prepared, before.table, classes_changed=changed)
        self.tenants = Tenants(self.routes, clock, before.tenants)

    def __repr__(self) -> str:
        return f"<Successor {self.building!r}>"

    def work(self, created: int) -> Work[None]:
        """Make it, in small pieces."""
        yield from self.building.work(created)
        yield from self.tenants.work()


class CurrentTable:
    """Holds the `routes` in force, the live `table` made of them, and its `tenants`; a reload swaps all three.

    A request keeps the table that it began with.
    """

    __slots__ = ("_clock", "_created", "routes", "table", "tenants")

    def __init__(self, routes: RouteTable, registry: Registry, clock: Clock, created: int) -> None:
        """Join `routes` with `registry`, reconciled with them before; clients are told `created` (epoch s)."""
        self._clock = clock
        self._created = created
        self.routes = routes
        self.table = live_table(routes, registry, created)
        self.tenants = tenants_of(routes, clock)

    def prepare(self, prepared: Reconciled) -> Work[Successor]:
        """Return what is put in force by `adopt`; until then nothing is changed."""
        successor = Successor(prepared, self, self._clock)
        yield from successor.work(self._created)
        return successor

    def adopt(self, successor: Successor) -> LiveTable:
        """Put other routes in force, and return the table before; `renewing` has to follow."""
        before = self.table
        successor.building.put_in_force()
        successor.tenants.put_in_force()
        self.table, self.tenants, self.routes = successor.building.table, successor.tenants, successor.routes
        outlived(before, self.table)
        return before

    def renewing(self, before: LiveTable) -> Work[None]:
        """Move requests that wait under the table `before` to their places under this one, in small pieces."""
        yield from renewing(before, self.table, self._clock)
