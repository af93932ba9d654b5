"""An order as a test needs it: for the model of the smallest routes, at its one backend."""

from pathlib import Path
from time import monotonic

from gateway.backends.backend import Backend
from gateway.backends.registry import Registry
from gateway.config.load import load_routes
from gateway.exchange import Endpoint
from gateway.lateness import Lateness
from gateway.proxy.live import LiveTable
from gateway.proxy.order import Order
from gateway.proxy.tenants import Tenants
from gateway.wire.guard import Head
from gateway.wire.outbox import Outbox

ROUTES = Path(__file__).parents[2] / "routes" / "minimal.yaml"


def ordered(endpoint: str) -> tuple[Order, Backend]:
    """Return an order, and the backend that it can go to."""
    table = load_routes(ROUTES, {})
    registry = Registry(Outbox(), monotonic, Lateness())
    registry.reconcile(table)
    (model,), (backend,) = LiveTable(table, registry, 0), registry
    (version,), asked = model.versions.values(), Endpoint(endpoint, "test")
    tenant = Tenants(table, monotonic).of(Head(asked, endpoint.encode(), b"", frozenset(), False, None, None))  # noqa: FBT003
    return Order(asked, model, version, tenant, tenant.service_class, fields=b""), backend
