"""Sources that follow an API server, with what they publish."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gateway.clock import Clock, monotonic
from gateway.config.origins import InferencePoolOrigin, KubernetesOrigin
from gateway.discovery.kubernetes.cluster import Cluster
from gateway.discovery.kubernetes.pools import InferencePoolSource
from gateway.discovery.kubernetes.reflector import Pace
from gateway.discovery.kubernetes.services import KubernetesSource
from gateway.discovery.target import Source, Target, TargetState
from tests.background import in_background
from tests.waiting import eventually

PACE = Pace(first=0.01, most=0.02, brief=0.0, hold=0.05)


@dataclass
class Followed:
    """A source that runs, and each set that it published."""

    source: Source
    sets: list[dict[str, Target]] = field(default_factory=list)

    def publish(self, targets: Collection[Target]) -> None:
        made = {target.key: target for target in targets}
        assert len(made) == len(targets), "an endpoint is doubled"
        assert len({(target.host, target.port) for target in targets}) == len(targets), "an address is doubled"
        self.sets.append(made)

    @property
    def ready(self) -> set[str]:
        """The addresses of the last set that get requests."""
        return self._in_state(TargetState.READY)

    @property
    def draining(self) -> set[str]:
        return self._in_state(TargetState.DRAINING)

    def _in_state(self, state: TargetState) -> set[str]:
        last = self.sets[-1] if self.sets else {}
        return {f"{each.host}:{each.port}" for each in last.values() if each.state is state}

    async def has(self, *ready: str, draining: Collection[str] = ()) -> None:
        await eventually(lambda: bool(self.sets) and self.ready == set(ready) and self.draining == set(draining))


class Server(Protocol):
    """What stands for an API server."""

    token: str | None

    @property
    def url(self) -> str: ...


def cluster_of(server: Server, folder: Path) -> Cluster:
    token = folder / "token"
    token.write_text(server.token or "")
    return Cluster(server.url, token, None, "serving")


@asynccontextmanager
async def followed(source: Source) -> AsyncIterator[Followed]:
    """Run a source until the block ends."""
    following = Followed(source)
    async with in_background(source.run(following.publish)):
        yield following


@asynccontextmanager
async def service(
    server: Server, folder: Path, port: str = "", pace: Pace = PACE, clock: Clock = monotonic
) -> AsyncIterator[Followed]:
    """Follow a Service in the gateway's own namespace."""
    origin = KubernetesOrigin("vllm", "", port)
    async with followed(KubernetesSource(origin, cluster_of(server, folder), clock, pace)) as following:
        yield following


@asynccontextmanager
async def pool(server: Server, folder: Path, pace: Pace = PACE, clock: Clock = monotonic) -> AsyncIterator[Followed]:
    """Follow an InferencePool in the gateway's own namespace."""
    origin = InferencePoolOrigin("llama", "")
    async with followed(InferencePoolSource(origin, cluster_of(server, folder), clock, pace)) as following:
        yield following
