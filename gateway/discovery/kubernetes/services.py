"""A Kubernetes Service as a source of targets: its EndpointSlices."""

from gateway.clock import Clock, monotonic
from gateway.config.origins import KubernetesOrigin
from gateway.discovery.kubernetes.cluster import Cluster
from gateway.discovery.kubernetes.endpoints import Found, ending_in, of_slices
from gateway.discovery.kubernetes.reflector import Pace, Reflector
from gateway.discovery.kubernetes.resources import EndpointSlice, slices_of
from gateway.discovery.kubernetes.settling import Settling
from gateway.discovery.target import Publish


class KubernetesSource:
    """Follows the EndpointSlices of a Service. An origin without a namespace is in that of the gateway."""

    def __init__(
        self, origin: KubernetesOrigin, cluster: Cluster, clock: Clock = monotonic, pace: Pace | None = None
    ) -> None:
        self._origin = origin
        self._now = clock
        self._pace = pace or Pace()
        self._settling = Settling(self._pace.hold)
        self._found = Found({})
        collection = slices_of(origin.service, origin.namespace or cluster.namespace)
        self._slices: Reflector[EndpointSlice] = Reflector(
            cluster, collection, self._confirmed, clock, self._pace, told=self._told_of
        )
        self._publish: Publish = lambda _targets: None

    def __repr__(self) -> str:
        return f"<KubernetesSource {self._origin} {self._slices!r}>"

    @property
    def problem(self) -> str:
        """What is wrong at the moment, in one line for people; "" while all is well."""
        return self._slices.problem or self._found.problem

    @property
    def errors(self) -> int:
        """How often the API server could not be asked, or told what cannot be used."""
        return self._slices.errors

    async def run(self, publish: Publish) -> None:
        """List and watch until cancelled."""
        self._publish = publish
        await self._slices.run()

    def _told_of(self, part: EndpointSlice) -> None:
        self._settling.ending(ending_in(part))

    def _confirmed(self) -> None:
        listed = self._slices.listed
        if listed is None:
            return
        self._found = of_slices(self._slices.objects.values(), self._origin.service, self._origin.port)
        targets = self._settling.settle(self._found, self._now(), listed)
        if self._settling.waits:
            self._slices.list_again(self._pace.hold)
        self._publish(targets)
