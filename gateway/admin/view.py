"""What the admin plane looks at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.backends.registry import Registry
from gateway.clock import Clock
from gateway.control.alerts import Alerter
from gateway.control.audit import Audit
from gateway.control.capacity import CapacityController
from gateway.control.deployments import Deployments
from gateway.control.drained import Drained
from gateway.control.fleet_quotas import FleetQuotas
from gateway.control.persistence import Flusher
from gateway.control.reload import Reloader
from gateway.control.rollouts import RolloutController
from gateway.control.sharing import Sharing
from gateway.policy.slo.ledger import SloLedger
from gateway.proxy.explain import Explained
from gateway.proxy.gateway import Gateway
from gateway.telemetry.discovery_exposition import DiscoveryRow
from gateway.telemetry.exposition import Exposition
from gateway.telemetry.latency_profile import LatencyProfile
from gateway.telemetry.tenant_exposition import TenantCollector
from gateway.wire.client import Client
from gateway.wire.slices import Slices


@dataclass(frozen=True, slots=True)
class AdminView:
    """The parts of a gateway that are shown, or take commands."""

    registry: Registry
    reloader: Reloader
    settle: Callable[[], None]
    metrics: Exposition
    used: TenantCollector
    ledger: SloLedger
    latencies: LatencyProfile
    alerter: Alerter
    explain: Callable[[str, int, str], tuple[str, list[Explained]]]
    rollouts: RolloutController
    deployments: Deployments
    capacity: CapacityController
    drained: Drained
    discovered: Callable[[], Sequence[DiscoveryRow]]
    audit: Audit
    flusher: Flusher
    fleet_quotas: FleetQuotas | None
    sharing: Sharing
    gateway: Gateway
    background: Slices
    clients: Callable[[], Sequence[Client]]
    clock: Clock
    began: float
