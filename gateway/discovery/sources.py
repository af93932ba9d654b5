"""What asks each kind of origin.

What DNS and Kubernetes take is imported only for such an origin: together they are a tenth of the CPU time of a start.
"""

import asyncio
import os
from dataclasses import dataclass, field
from functools import partial

from gateway.clock import Clock
from gateway.config.origins import DnsOrigin, FileOrigin, InferencePoolOrigin, KubernetesOrigin, Origin
from gateway.discovery.file_source import FileSource
from gateway.discovery.kubernetes.cluster import ClusterSettings, NoClusterError, find_cluster
from gateway.discovery.target import Publish, Source


@dataclass(frozen=True, slots=True)
class SourceFactory:
    """Makes sources.

    `dns_server` is asked for names instead of the system's own, where there is one. `kubernetes` says how the API
    server of a cluster is found.
    """

    clock: Clock
    dns_server: tuple[str, int] | None = None
    kubernetes: ClusterSettings = field(default_factory=ClusterSettings)

    def __call__(self, origin: Origin) -> Source:
        """Return what asks an origin."""
        match origin:
            case DnsOrigin():
                from gateway.discovery.dns_source import DnsSource, system_resolver  # noqa: PLC0415 - see above

                return DnsSource(origin, self.clock, partial(system_resolver, self.dns_server))
            case FileOrigin():
                return FileSource(origin)
            case KubernetesOrigin() | InferencePoolOrigin():
                return self._in_kubernetes(origin)

    def _in_kubernetes(self, origin: KubernetesOrigin | InferencePoolOrigin) -> Source:
        try:
            cluster = find_cluster(self.kubernetes, os.environ)
        except NoClusterError as error:
            return Unasked(str(error))
        from gateway.discovery.kubernetes.pools import InferencePoolSource  # noqa: PLC0415 - see above
        from gateway.discovery.kubernetes.services import KubernetesSource  # noqa: PLC0415

        if isinstance(origin, KubernetesOrigin):
            return KubernetesSource(origin, cluster, self.clock)
        return InferencePoolSource(origin, cluster, self.clock)


class Unasked:
    """An origin that cannot be asked at all, for the reason that is its `problem`."""

    errors = 0

    def __init__(self, problem: str) -> None:
        self.problem = problem

    def __repr__(self) -> str:
        return f"<Unasked: {self.problem}>"

    async def run(self, _publish: Publish) -> None:
        """Publish nothing."""
        await asyncio.Event().wait()
