"""The routes in force, for whatever needs those of the moment."""

from gateway.backends.registry import Registry
from gateway.clock import Clock
from gateway.config.table import RouteTable
from gateway.proxy.live import LiveTable
from gateway.proxy.renewal import outlived, renew_waiting
from gateway.proxy.tenants import Tenants


class CurrentTable:
    """Holds the `routes` in force, the live `table` made of them, and its `tenants`; a reload swaps all three.

    A request keeps the table that it began with.
    """

    __slots__ = ("_clock", "_created", "_registry", "routes", "table", "tenants")

    def __init__(self, routes: RouteTable, registry: Registry, clock: Clock, created: int) -> None:
        """Join `routes` with `registry`, reconciled with them before; clients are told `created` (epoch s)."""
        self._registry = registry
        self._clock = clock
        self._created = created
        self.routes = routes
        self.table = LiveTable(routes, registry, created)
        self.tenants = Tenants(routes, clock)

    def swap(self, routes: RouteTable) -> LiveTable:
        """Put other routes in force, and return the table before; `renew` has to follow."""
        before = self.table
        self.table = LiveTable(routes, self._registry, self._created, before=before)
        self.tenants = Tenants(routes, self._clock, before=self.tenants)
        self.routes = routes
        return before

    def renew(self, before: LiveTable) -> None:
        """Move requests that wait under the table `before` to their places under this one."""
        outlived(before, self.table)
        renew_waiting(before, self.table, self._clock())
