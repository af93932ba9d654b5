"""A routed request as a test needs it: for the model of the smallest routes, at its one backend."""

from pathlib import Path
from time import monotonic

from gateway.backends.backend import Backend
from gateway.backends.registry import Registry
from gateway.claim import Claim
from gateway.config.load import load_routes
from gateway.config.table import TenantSpec
from gateway.exchange import Endpoint
from gateway.lateness import Lateness
from gateway.policy.admission.classes import CLASSES, STANDARD
from gateway.policy.admission.kinds import Kind
from gateway.policy.admission.quota import Quota, QuotaLimits
from gateway.policy.slo.objective import Objective
from gateway.proxy.engine_request import EngineRequest
from gateway.proxy.live import live_table
from gateway.proxy.request_ids import RequestIds
from gateway.proxy.routed_request import RoutedRequest
from gateway.proxy.spec import Charge, RequestSpec
from gateway.proxy.tenants import LiveTenant, tenants_of
from gateway.wire.guard import Head
from gateway.wire.outbox import Outbox

ROUTES = Path(__file__).parents[2] / "routes" / "minimal.yaml"


def routed_to(
    endpoint: str,
    kind: Kind | None = None,
    *,
    stream: bool = False,
    is_hurried: bool = False,
    objective: Objective | None = None,
    charge: Charge | None = None,
    ids: RequestIds | None = None,
) -> tuple[RoutedRequest, Backend]:
    """Return a request, and the backend that it can go to."""
    table = load_routes(ROUTES, {})
    registry = Registry(Outbox(), monotonic, Lateness())
    registry.reconcile(table)
    (model,), (backend,) = live_table(table, registry, 0), registry
    (version,), asked = model.versions.values(), Endpoint(endpoint, "test")
    tenant = tenants_of(table, monotonic).of(Head(asked, endpoint.encode()))
    spec = RequestSpec(
        asked, tenant, tenant.service_class, kind or Kind(), stream=stream, seconds=600.0, is_hurried=is_hurried
    )
    objective = objective or model.objectives.default
    message = EngineRequest(spec, b"", "r1")
    route = version.routes[-1]
    return RoutedRequest(
        spec, model, version, route, message, objective=objective, claim=Claim(), charge=charge, ids=ids
    ), backend


def charged(limits: QuotaLimits) -> Charge:
    """Return what a tenant with these limits was charged for a request of ten tokens."""
    spec = TenantSpec("acme", (), limits=limits)
    return Charge(LiveTenant(spec, CLASSES[STANDARD], Quota(limits, 0.0)), 10, 0.0)
