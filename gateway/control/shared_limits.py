"""The limits and quotas that this process shares with the other workers of the gateway."""

import logging
import os

from gateway.backends.registry import Registry
from gateway.clock import Clock
from gateway.policy.admission.quota import Quota
from gateway.policy.routing.slots import Slots
from gateway.proxy.current import CurrentTable
from gateway.shared.memory import JoinedTable
from gateway.shared.quota import Owing, SharedQuota
from gateway.shared.slots import SharedSlots
from gateway.shared.table import Columns

_log = logging.getLogger(__name__)


class _Tenant:
    """The column of a tenant, and the quotas that count there: a tenant that was gone has another one later."""

    __slots__ = ("column", "quotas", "shared")

    def __init__(self, column: int, shared: SharedQuota) -> None:
        self.column, self.shared = column, shared
        self.quotas: list[Quota] = []


class SharedLimits:
    """Gives every backend and every tenant with limits its column, and looks what the others do."""

    def __init__(self, joined: JoinedTable, registry: Registry, current: CurrentTable, clock: Clock) -> None:
        self._joined = joined
        self._table = joined.table
        self._registry = registry
        self._current = current
        self._clock = clock
        self._columns: dict[str, tuple[int, Slots]] = {}
        self._quotas: dict[str, _Tenant] = {}
        self._alone: set[str] = set()
        self._owing = Owing()

    def __repr__(self) -> str:
        return f"<SharedLimits of {len(self._columns)} backends, {self._table!r}>"

    @property
    def wake_fd(self) -> int:
        """The descriptor that is readable when a slot may be free for what waits here."""
        return self._joined.wake_fd

    def follow(self, now: float) -> None:
        """Share the limits of the backends and tenants that the routes name by now."""
        self._table.beat(now)
        self._let_go()
        layout = self._table.layout
        for backend in self._registry:
            slots = backend.health.slots
            if slots.shared is None and not slots.own:
                column = self._attach("backend", layout.backends, backend.id)
                if column is not None:
                    slots.shared = SharedSlots(self._table, column)
                    self._columns[backend.id] = column, slots
        for tenant in self._current.tenants:
            if tenant.is_limited and tenant.quota.shared is None:
                self._share(tenant.name, tenant.quota)
        for model in self._current.table:
            for line in model.memory.lines.values():
                line.slots.shared = True

    def tick(self, now: float) -> None:
        """Give a sign of life, pay what is owed, and see what others have in flight; called a few times a second."""
        self._table.beat(now)
        self._owing.pay(now)
        for backend in self._registry:
            slots = backend.health.slots
            slots.look()
            backend.health.costs.look(slots.in_flight - slots.own, now)

    def processes(self) -> int:
        """Return how many processes share the table, this one among them."""
        table = self._table
        return sum(row == table.row or table.is_alive(row) for row in range(table.rows))

    def woken(self) -> None:
        """Serve what waits: a slot may have come free in another process."""
        self._joined.heard()
        now = self._clock()
        for model in self._current.table:
            for line in model.memory.lines.values():
                if line.queue.size:
                    line.freed(now)

    def _share(self, name: str, quota: Quota) -> None:
        """Share a quota; that of a tenant that was gone meanwhile counts with what is left of the one before."""
        known = self._quotas.get(name)
        if known is None:
            column = self._attach("tenant", self._table.layout.tenants, name)
            if column is None:
                return
            known = self._quotas[name] = _Tenant(column, SharedQuota(self._table, column, self._owing))
        quota.share(known.shared)
        known.quotas.append(quota)

    def _let_go(self) -> None:
        """Detach from backends and tenants that are gone, once the last of their requests has ended."""
        named = {backend.id for backend in self._registry}
        for name in self._columns.keys() - named:
            column, slots = self._columns[name]
            if not slots.own:
                slots.part()
                self._table.detach(self._table.layout.backends, column)
                del self._columns[name]
        tenants = {each.name for each in self._current.tenants}
        for name in self._quotas.keys() - tenants:
            gone = self._quotas[name]
            if not gone.shared.own and not gone.shared.is_owing:
                for quota in gone.quotas:
                    quota.part()
                self._table.detach(self._table.layout.tenants, gone.column)
                del self._quotas[name]

    def _attach(self, kind: str, columns: Columns, name: str) -> int | None:
        """Return the column of this name; None, and a warning the first time, where it can have none."""
        column = self._table.attach(columns, name)
        if column is None and name not in self._alone:
            self._alone.add(name)
            text = "no room in the table that workers share: the limit holds for each worker alone"
            _log.warning(text, extra={kind: name, "pid": os.getpid()})
        return column
