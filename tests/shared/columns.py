"""Columns of a shared table that processes are attached to, for tests."""

from gateway.shared.quota import Owing, SharedQuota
from gateway.shared.slots import SharedSlots
from gateway.shared.table import Table


def slots_of(table: Table, name: str = "engine") -> SharedSlots:
    """Return a backend's column."""
    column = table.attach(table.layout.backends, name)
    assert column is not None
    return SharedSlots(table, column)


def quota_of(table: Table, name: str = "acme", owing: Owing | None = None) -> SharedQuota:
    """Return a tenant's column."""
    column = table.attach(table.layout.tenants, name)
    assert column is not None
    return SharedQuota(table, column, owing or Owing())
