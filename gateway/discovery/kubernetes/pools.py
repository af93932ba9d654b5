"""A Kubernetes InferencePool as a source of targets: the pods that it selects."""

import asyncio

from gateway.clock import Clock, monotonic
from gateway.config.origins import InferencePoolOrigin
from gateway.discovery.kubernetes.cluster import Cluster
from gateway.discovery.kubernetes.endpoints import Found, is_ending, of_pods, selector_of
from gateway.discovery.kubernetes.reflector import Pace, Reflector
from gateway.discovery.kubernetes.resources import InferencePool, Pod, pods_with, pool_named
from gateway.discovery.kubernetes.settling import Settling
from gateway.discovery.target import Publish, Target


class InferencePoolSource:
    """Follows an InferencePool, and the pods that it selects. An origin without a namespace is in the gateway's.

    While the pods of a selector that has changed are being listed, the set stays as it is.
    """

    def __init__(
        self, origin: InferencePoolOrigin, cluster: Cluster, clock: Clock = monotonic, pace: Pace | None = None
    ) -> None:
        self._origin = origin
        self._cluster = cluster
        self._now = clock
        self._pace = pace or Pace()
        self._namespace = origin.namespace or cluster.namespace
        self._settling = Settling(self._pace.hold)
        self._found = Found({})
        collection = pool_named(origin.name, self._namespace)
        self._pools: Reflector[InferencePool] = Reflector(cluster, collection, self._confirmed, clock, self._pace)
        self._pods: Reflector[Pod] | None = None
        self._selector: str | None = None
        self._selected = asyncio.Event()
        self._earlier_errors = 0
        self._told: tuple[Target, ...] = ()
        self._publish: Publish = lambda _targets: None

    def __repr__(self) -> str:
        return f"<InferencePoolSource {self._origin} {self._pods!r}>"

    @property
    def problem(self) -> str:
        """What is wrong at the moment, in one line for people; "" while all is well."""
        pods = self._pods.problem if self._pods else ""
        return self._pools.problem or pods or self._found.problem

    @property
    def errors(self) -> int:
        """How often the API server could not be asked, or told what cannot be used."""
        return self._pools.errors + self._earlier_errors + (self._pods.errors if self._pods else 0)

    async def run(self, publish: Publish) -> None:
        """List and watch until cancelled."""
        self._publish = publish
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pools.run())
            tasks.create_task(self._follow_pods())

    async def _follow_pods(self) -> None:
        """Follow the pods of the selector; another selector begins with a list of its own."""
        while True:
            self._selected.clear()
            tasks = [asyncio.create_task(self._selected.wait())]
            if self._pods is not None:
                tasks.append(asyncio.create_task(self._pods.run()))  # type: ignore[arg-type]  # it returns nothing
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

    def _told_of(self, pod: Pod) -> None:
        if is_ending(pod):
            self._settling.ending([pod.metadata.uid])

    def _confirmed(self) -> None:
        listed = self._pools.listed
        if listed is None:
            return
        pool = self._pools.objects.get(self._origin.name)
        if pool is not None:
            self._select(selector_of(pool))
        if pool is None or self._pods is None:
            problem = self._missing() if pool is None else "the InferencePool selects no pods: it has no matchLabels"
            self._found = Found({}, problem=problem)
        elif self._pods.listed is None:
            return
        else:
            self._found = of_pods(pool, self._pods.objects.values())
            listed = min(listed, self._pods.listed)
        targets = self._settling.settle(self._found, self._now(), listed)
        if self._settling.waits:
            self._list_again()
        if targets != self._told or not self._in_trouble():
            self._told = targets
            self._publish(targets)

    def _in_trouble(self) -> bool:
        """Whether one of both is away: what the other says does not confirm the set."""
        return bool(self._pools.problem or (self._pods and self._pods.problem))

    def _missing(self) -> str:
        return f"there is no InferencePool {self._origin.name} in namespace {self._namespace}"

    def _select(self, selector: str | None) -> None:
        if selector == self._selector:
            return
        self._selector = selector
        self._earlier_errors += self._pods.errors if self._pods else 0
        self._pods = None
        if selector is not None:
            collection = pods_with(selector, self._namespace)
            self._pods = Reflector(
                self._cluster, collection, self._confirmed, self._now, self._pace, told=self._told_of
            )
        self._selected.set()

    def _list_again(self) -> None:
        self._pools.list_again(self._pace.hold)
        if self._pods is not None:
            self._pods.list_again(self._pace.hold)
