"""Five hundred engines in Kubernetes that come, go, move and flap while the gateway serves; an API server that fails.

Few servers stand for many engines: each address of 127.0.0.0/8 is one.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest

from gateway import control_plane
from gateway.control.probes import Prober
from gateway.discovery.kubernetes.cluster import ClusterSettings
from tests.discovery.kubernetes.api_server import ApiServer, api_server
from tests.discovery.kubernetes.objects import Json, endpoint, endpoint_slice, inference_pool, pod, port
from tests.e2e.fakes import JSON_ANSWER, Call, FakeBackend, whole
from tests.e2e.harness import Running, ask, chat, gateway
from tests.waiting import eventually

pytestmark = pytest.mark.anyio

ENGINES = 500
SPARE = 100
"""Engines that are not there at first."""

NEXT = {"ready": ["unready", "terminating"], "unready": ["ready"], "terminating": ["absent"], "absent": ["ready"]}


def address(number: int) -> str:
    return f"127.1.{number // 250}.{number % 250 + 1}"


@dataclass
class Engines:
    """Engines at many addresses and some ports, with the calls that each got."""

    fakes: list[FakeBackend]
    called: list[tuple[str, int]] = field(default_factory=list)

    @property
    def ports(self) -> list[int]:
        return [fake.port for fake in self.fakes]

    @property
    def connected(self) -> set[tuple[str, int]]:
        """The engines to which connections are open."""
        listeners = [fake._listener for fake in self.fakes]
        writers = [writer for each in listeners if each is not None for writer in each._writers]
        return {writer.get_extra_info("sockname")[:2] for writer in writers}


@asynccontextmanager
async def engines(ports: int = 1) -> AsyncIterator[Engines]:
    """Listen on every address, on so many ports."""

    async def serve(call: Call) -> None:
        host, number = call.writer.get_extra_info("sockname")[:2]
        all_of_them.called.append((host, number))
        await call.send(whole(b"200 OK", JSON_ANSWER))

    all_of_them = Engines([FakeBackend(serve, host="0.0.0.0") for _ in range(ports)])
    for fake in all_of_them.fakes:
        await fake.start()
    try:
        yield all_of_them
    finally:
        for fake in all_of_them.fakes:
            await fake.stop()


class Kind(Protocol):
    """How engines are written to the API server: `pods` are those that are there, with their states."""

    ports: int
    entry: ClassVar[dict[str, Any]]

    def write(self, server: ApiServer, pods: dict[int, str], changed: Iterable[int], ports: list[int]) -> None:
        """Write what has changed."""


class Service:
    """EndpointSlices of at most 100 engines; an engine is in another slice each time that its slice number changes."""

    ports = 1
    entry: ClassVar[dict[str, Any]] = {"kubernetes": {"service": "vllm", "namespace": "serving", "port": "http"}}

    def __init__(self) -> None:
        self.shift = 0

    def write(self, server: ApiServer, pods: dict[int, str], changed: Iterable[int], ports: list[int]) -> None:
        for part in range(6):
            shown = [self.shown(n, pods[n]) for n in sorted(pods) if (n + self.shift) // 100 % 6 == part]
            written = endpoint_slice(f"vllm-{part}", shown, ports=[port(ports[0])])
            before = server.objects["endpointslices"].get(f"vllm-{part}", {})
            if before.get("endpoints") != written["endpoints"]:
                server.put(written)

    def shown(self, number: int, state: str) -> Json:
        ready, terminating = state == "ready", state == "terminating"
        return endpoint(
            f"p{number}", address(number), ready=ready, serving=ready or terminating, terminating=terminating
        )


class Pool:
    """Pods of an InferencePool with four ports: 125 pods are 500 engines."""

    ports = 4
    entry: ClassVar[dict[str, Any]] = {"inference_pool": "llama", "namespace": "serving"}

    def write(self, server: ApiServer, pods: dict[int, str], changed: Iterable[int], ports: list[int]) -> None:
        if "llama" not in server.objects["inferencepools"]:
            server.put(inference_pool("llama", *ports))
        for number in changed:
            if number in pods:
                state = pods[number]
                terminating = state == "terminating"
                server.put(pod(f"p{number}", address(number), ready=state != "unready", terminating=terminating))
            elif f"p{number}" in server.objects["pods"]:
                server.delete("pods", f"p{number}")


def serving(running: Running) -> set[tuple[str, int]]:
    """Return where new requests may be sent."""
    return {(each.spec.host, each.spec.port) for each in running.app.data.registry if each.serves("m")}


def named(running: Running) -> set[tuple[str, int]]:
    """Return what discovery names; on a busy machine an engine may be too late for its probes."""
    return {(each.spec.host, each.spec.port) for each in running.app.data.registry if not each.leaving}


def places(pods: dict[int, str], ports: list[int], *states: str) -> set[tuple[str, int]]:
    return {(address(number), port) for number, state in pods.items() if state in states for port in ports}


def probe_seldom(patch: pytest.MonkeyPatch) -> None:
    """Let gateways probe every 4 s: they share a process with the engines, which 500 probes a second keep busy."""
    patch.setattr(control_plane, "Prober", partial(Prober, interval=4.0))


async def flap(kind: Kind, server: ApiServer, pods: dict[int, str], rng: random.Random, ports: list[int]) -> None:
    """Let a tenth of the pods come, go, or change their readiness; each of the steps is seen or not."""
    scale = kind.ports
    steady = ENGINES // scale // 5
    for round_number in range(10):
        changed = rng.sample(range(steady, (ENGINES + SPARE) // scale), ENGINES // scale // 10)
        for number in changed:
            state = rng.choice(NEXT[pods.get(number, "absent")])
            if state == "absent":
                del pods[number]
            else:
                pods[number] = state
        if isinstance(kind, Service) and round_number % 3 == 2:
            kind.shift += 50
        kind.write(server, pods, changed, ports)
        if round_number % 4 == 1:
            server.cut(half_a_line=True)
        if round_number % 4 == 3:
            server.expire()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", [Service(), Pool()], ids=["service", "inference pool"])
async def test_engines_come_and_go_while_requests_are_served(
    tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe_seldom(monkeypatch)
    rng = random.Random(7)
    (tmp_path / "token").write_text("s3cret")
    async with engines(kind.ports) as there, api_server() as server:
        pods = dict.fromkeys(range(ENGINES // kind.ports), "ready")
        steady = places(dict.fromkeys(range(ENGINES // kind.ports // 5), "ready"), there.ports, "ready")
        kind.write(server, pods, pods, there.ports)
        routes = json.dumps({"models": {"m": {"backends": [kind.entry]}}})
        settings = ClusterSettings(server.url, tmp_path / "token")
        async with gateway(tmp_path, routes, wait_ready=False, kubernetes=settings) as running:
            await eventually(lambda: len(serving(running)) == ENGINES)
            done, statuses, least = False, list[int](), list[int]()

            async def client() -> None:
                while not done:
                    statuses.append((await ask(running.port, chat(stream=False))).status)
                    least.append(len(named(running) & steady))
                    await asyncio.sleep(0.01)

            async def gone_get_nothing() -> None:
                expected = places(pods, there.ports, "ready")
                await eventually(lambda: serving(running) == expected)
                under_way = len(there.called) + len(clients)
                await eventually(lambda: len(there.called) >= under_way + 30)
                assert set(there.called[under_way:]) <= expected

            clients = [asyncio.create_task(client()) for _ in range(3)]
            try:
                await flap(kind, server, pods, rng, there.ports)
                await gone_get_nothing()
                server.status = 500
                server.cut()
                await eventually(lambda: running.app.control.discovery.rows()[0].problem != "")
                await gone_get_nothing()
                server.status = None
                await flap(kind, server, pods, rng, there.ports)
                await gone_get_nothing()
            finally:
                done = True
                await asyncio.gather(*clients)
            assert set(statuses) == {200}
            assert min(least) == len(steady), "those that were ready throughout were there throughout"
            await running.quiet()
            assert len(running.app.data.registry) < 2 * ENGINES
            await eventually(lambda: not any(each.pool.idle for each in running.app.data.registry if each.leaving))
        await eventually(lambda: not there.connected)
