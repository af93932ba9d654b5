"""The gateway and a real Kubernetes API server, with five hundred engines that come, go and flap under load.

API servers refuse loopback addresses of pods. So these tests run where 10.1.0.0/16 is this machine, in a network of
their own, and only where the programs are (`tests/discovery/kubernetes/real_cluster.py`):

    TIDEGATE_KUBERNETES=FOLDER unshare --net sh -c \\
        'ip link set lo up; ip route add local 10.1.0.0/16 dev lo; exec pytest tests/e2e/test_real_cluster.py'

Each kind takes some three minutes: an API server that is told to end waits a minute for its watches, and engines that
have gone are probed for a minute more.
"""

import asyncio
import json
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.discovery.kubernetes.cluster import ClusterSettings
from tests.discovery.kubernetes.objects import Json, inference_pool
from tests.discovery.kubernetes.real_cluster import RealCluster, made_pod, programs, real_cluster, service, set_ready
from tests.e2e.harness import gateway
from tests.e2e.loaded import Load, loaded
from tests.e2e.test_kubernetes import engines, named, serving
from tests.waiting import eventually

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(programs() is None, reason="TIDEGATE_KUBERNETES names no folder with kube-apiserver"),
]

ENGINES = 500
FOLLOWING = {"ready": ["unready", "terminating"], "unready": ["ready"], "terminating": ["absent"], "absent": ["new"]}
KINDS = {
    "service": (1, {"kubernetes": {"service": "vllm", "namespace": "serving", "port": "http"}}),
    "inference_pool": (4, {"inference_pool": "llama", "namespace": "serving"}),
}


def address(number: int) -> str:
    return f"10.1.{number // 250}.{number % 250 + 1}"


@dataclass
class Pods:
    """Pods with their states; some steady ones stay ready."""

    cluster: RealCluster
    ports: list[int]
    states: dict[int, str] = field(default_factory=dict)
    rng: random.Random = field(default_factory=lambda: random.Random(7))

    @property
    def count(self) -> int:
        return ENGINES // len(self.ports)

    def places(self, *states: str) -> set[tuple[str, int]]:
        return {(address(n), port) for n, state in self.states.items() if state in states for port in self.ports}

    @property
    def steady(self) -> set[tuple[str, int]]:
        return {(address(n), port) for n in range(self.count // 5) for port in self.ports}

    async def become(self, number: int, state: str) -> None:
        """Write the state of a pod. One that leaves is noted as such before, one that comes afterwards."""
        name = f"p{number}"
        if state in {"terminating", "unready"}:
            self.states[number] = state
        match state:
            case "new":
                await self.cluster.create(made_pod(name, address(number), app="vllm"))
            case "ready" | "unready":
                await set_ready(self.cluster, name, address(number), ready=state == "ready")
            case "terminating":
                await self.cluster.delete("Pod", name, 60)
            case "absent":
                await self.cluster.delete("Pod", name, 0)
        self.states[number] = "ready" if state == "new" else state

    async def all_become(self, *steps: tuple[int, str]) -> None:
        """Write states, some of them at once."""
        turn = asyncio.Semaphore(8)

        async def one(number: int, state: str) -> None:
            async with turn:
                await self.become(number, state)

        await asyncio.gather(*(one(*step) for step in steps))

    async def flap(self, rounds: int = 4) -> None:
        """Let a tenth of the pods come, go, or change their readiness, some times."""
        for _ in range(rounds):
            chosen = self.rng.sample(range(self.count // 5, self.count * 6 // 5), self.count // 10)
            steps = [(n, self.rng.choice(FOLLOWING[self.states.get(n, "absent")])) for n in chosen]
            await self.all_become(*steps)


async def without_api_server(load: Load, away: Callable[[], Awaitable[Any]]) -> None:
    """Have the API server taken away: that is shown, and all engines stay."""
    before = named(load.running)
    await away()
    row = load.running.app.control.discovery.rows
    await eventually(lambda: row()[0].problem != "")
    await load.asks(before)
    assert named(load.running) == before


@pytest.mark.parametrize("kind", list(KINDS))
async def test_engines_come_and_go_in_a_real_cluster(tmp_path: Path, kind: str) -> None:
    where, (ports, entry) = programs(), KINDS[kind]
    assert where is not None
    (tmp_path / "cluster").mkdir()
    async with engines(ports) as there, real_cluster(where, tmp_path / "cluster") as cluster:
        token = tmp_path / "token"
        token.write_text(await cluster.prepare(crd=True))
        await cluster.create(service(("http", there.ports[0])))
        pool: Json = inference_pool("llama", *there.ports)
        await cluster.create({name: value for name, value in pool.items() if name != "status"})
        pods = Pods(cluster, there.ports)
        await pods.all_become(*((number, "new") for number in range(pods.count)))
        await cluster.start_controllers(period="100ms")
        settings = ClusterSettings(cluster.url, token, cluster.authority)
        routes = json.dumps({"models": {"m": {"backends": [entry]}}})
        async with gateway(tmp_path, routes, wait_ready=False, kubernetes=settings) as running:
            await eventually(lambda: len(serving(running)) == ENGINES)
            discovery, registry = running.app.control.discovery, running.app.data.registry
            async with loaded(running, there, pods.steady) as load:
                await pods.flap()
                await load.only_asks(pods.places("ready"))

                await without_api_server(load, cluster.kill)
                await cluster.start_api_server()
                await pods.flap()
                await cluster.compact()
                await load.only_asks(pods.places("ready"))

                await without_api_server(load, cluster.end)
                await cluster.compact()
                await cluster.start_api_server()
                await pods.flap()
                await load.only_asks(pods.places("ready"))

                await cluster.forbid()
                await without_api_server(load, cluster.restart)
                assert "403" in discovery.rows()[0].problem
                await cluster.allow()
                await pods.flap()
                await load.only_asks(pods.places("ready"))

                before = named(running)
                await cluster.kill("etcd")
                await load.asks(before)
                assert named(running) == before
                await cluster.start_etcd()
                await cluster.until_ready()
                await pods.flap()
                await load.only_asks(pods.places("ready"))

                cluster.signal(signal.SIGSTOP)
                await load.asks(pods.places("ready"))
                cluster.signal(signal.SIGCONT)
                away = [
                    (n, "terminating") for n, state in pods.states.items() if n >= pods.count // 5 and state == "ready"
                ]
                await pods.all_become(*away)
                await pods.all_become(*((n, "absent") for n, _ in away))
                await load.only_asks(pods.places("ready"))
                await eventually(lambda: discovery.rows()[0].problem == "")
            await running.quiet()
            await eventually(lambda: not any(each.pool.idle for each in registry if each.leaving))
            assert len(registry) < 2 * ENGINES
            there_are = pods.places("ready", "terminating")
            await eventually(lambda: there.connected <= there_are)
        await eventually(lambda: not there.connected)
