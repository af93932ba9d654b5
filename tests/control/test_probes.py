"""The loop that probes: it follows what engines say of themselves, and blames none for this process' own pauses."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from time import monotonic

import pytest

from gateway.backends.registry import Registry
from gateway.control.engine_clients import EngineClients
from gateway.control.probes import Prober
from loadtest.bench.listening import listening
from tests.control.tables import models, registered, written
from tests.e2e.fakes import Call, FakeBackend, backends
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


async def unasked(call: Call) -> None:
    raise AssertionError(f"a probe asks nothing else: {call.head!r}")


@asynccontextmanager
async def probing(tmp_path: Path, hops: bytes = b"") -> AsyncIterator[tuple[FakeBackend, Registry]]:
    """Probe one engine, again and again."""
    async with backends(unasked) as (fake,):
        registry = registered(written(tmp_path / "routes.yaml", models(fake.url)), monotonic)
        running = asyncio.create_task(
            Prober(registry, monotonic, EngineClients(monotonic, Random(1)), interval=0.01, hops=hops).run()
        )
        try:
            yield fake, registry
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_an_engine_that_answers_is_ready_and_its_models_are_known(tmp_path: Path) -> None:
    async with probing(tmp_path) as (fake, (backend,)):
        fake.models, fake.max_model_len = ("m", "adapter"), 4096
        await eventually(lambda: bool(backend.models and "adapter" in backend.models))
        assert backend.readiness.state == "ready"
        assert backend.models == {"m": 4096, "adapter": 4096}


async def test_an_engine_that_says_it_is_ill_is_not_ready_until_it_is_well(tmp_path: Path) -> None:
    async with probing(tmp_path) as (fake, (backend,)):
        await eventually(lambda: backend.readiness.state == "ready")
        fake.health = b"503 Service Unavailable"
        await eventually(lambda: backend.readiness.state == "not_ready")
        fake.health = b"200 OK"
        await eventually(lambda: backend.readiness.state == "ready")


async def test_an_engine_that_is_gone_is_not_ready(tmp_path: Path) -> None:
    async with probing(tmp_path) as (fake, (backend,)):
        await eventually(lambda: backend.readiness.state == "ready")
        await fake.stop()
        await eventually(lambda: backend.readiness.state == "not_ready")


async def test_backends_of_other_routes_are_probed_instead(tmp_path: Path) -> None:
    async with probing(tmp_path) as (_, registry), backends(unasked) as (other,):
        registry.reconcile(written(tmp_path / "routes.yaml", models(other.url)))
        await eventually(lambda: [each.readiness.state for each in registry] == ["ready"])


async def test_a_connection_that_the_engine_closes_between_probes_is_no_failed_probe(tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def closes_when_it_is_asked_again(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            asked.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")

    async with listening(closes_when_it_is_asked_again) as url:
        registry = registered(written(tmp_path / "routes.yaml", models(url)), monotonic)
        (backend,) = registry
        failed: list[int] = []
        clients = EngineClients(monotonic, Random(1))
        running = asyncio.create_task(Prober(registry, monotonic, clients, interval=0.01).run())

        def probed() -> bool:
            failed.append(backend.readiness.failed_probes)
            return len(asked) > 30

        await eventually(probed)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert set(failed) == {0}
    assert backend.readiness.state == "ready"


async def test_with_many_engines_models_are_asked_for_more_seldom_while_all_is_well(tmp_path: Path) -> None:
    asked = Counter[bytes]()

    async def well(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            asked[(await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]] += 1
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with listening(well) as url:
        urls = [url, *(f"http://127.0.0.1:{port}" for port in range(1, 33))]
        registry = registered(written(tmp_path / "routes.yaml", models(*urls)), monotonic)
        clients = EngineClients(monotonic, Random(1))
        running = asyncio.create_task(Prober(registry, monotonic, clients, interval=0.02).run())
        await eventually(lambda: asked[b"/health"] >= 20)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert asked[b"/health"] // 2 <= asked[b"/v1/models"] <= asked[b"/health"] // 2 + 2
