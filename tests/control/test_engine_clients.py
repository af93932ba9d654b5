"""Each engine has one client for as long as some loop asks it, and every connection is closed after that."""

import asyncio
from pathlib import Path
from random import Random
from time import monotonic

import pytest

from gateway.backends.registry import Registry
from gateway.control.engine_clients import EngineClients
from gateway.control.probes import Prober
from gateway.control.scrapes import Scraper
from loadtest.bench.listening import Listener
from tests.control.tables import models, registered, written
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
METRICS = b"vllm:num_requests_running 3\n"


class Engine:
    """An engine that counts its open connections."""

    def __init__(self) -> None:
        self.open = 0
        self.paths: list[bytes] = []
        self.listener = Listener(self)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
                self.paths.append(path)
                body = METRICS if path == b"/metrics" else b""
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        finally:
            self.open -= 1


async def closed(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def loops(registry: Registry, clients: EngineClients) -> list["asyncio.Task[None]"]:
    prober = Prober(registry, monotonic, clients, interval=0.01)
    scraper = Scraper(registry, monotonic, clients, interval=0.01)
    return [asyncio.create_task(prober.run()), asyncio.create_task(scraper.run())]


def test_a_client_is_there_for_as_long_as_it_is_held(tmp_path: Path) -> None:
    clients = EngineClients(monotonic, Random(1))
    one, other = registered(written(tmp_path / "routes.yaml", models("http://a:1", "https://b:1")))
    with clients.held(one) as first:
        with clients.held(one) as second, clients.held(other) as third:
            assert first is second
            assert third is not first
            assert repr(clients) == "<EngineClients 2>"
        assert repr(clients) == "<EngineClients 1>"
        with clients.held(one) as again:
            assert again is first
    with clients.held(one) as another:
        assert another is not first
    assert repr(clients) == "<EngineClients 0>"


def test_each_process_asks_an_engine_at_a_moment_of_its_own(tmp_path: Path) -> None:
    (backend,) = registered(written(tmp_path / "routes.yaml", models("http://a:1")))
    assert len({EngineClients(monotonic, Random(seed)).turn(backend) for seed in range(8)}) == 8


async def test_probes_and_scrapes_share_a_connection_which_ends_with_the_loops(tmp_path: Path) -> None:
    engine, clients = Engine(), EngineClients(monotonic, Random(1))
    port = await engine.listener.start()
    registry = registered(written(tmp_path / "routes.yaml", models(f"http://127.0.0.1:{port}")), monotonic)
    running = loops(registry, clients)
    try:
        await eventually(lambda: engine.paths.count(b"/health") > 5 and engine.paths.count(b"/metrics") > 2)
        await eventually(lambda: engine.open == 1)
    finally:
        await closed(*running)
    await eventually(lambda: engine.open == 0)
    assert repr(clients) == "<EngineClients 0>"
    await engine.listener.stop()


async def test_a_backend_that_leaves_the_routes_loses_its_connection(tmp_path: Path) -> None:
    one, other, clients = Engine(), Engine(), EngineClients(monotonic, Random(1))
    urls = [f"http://127.0.0.1:{await each.listener.start()}" for each in (one, other)]
    registry = registered(written(tmp_path / "routes.yaml", models(*urls)), monotonic)
    running = loops(registry, clients)
    try:
        await eventually(lambda: one.open >= 1 and b"/metrics" in other.paths)
        registry.reconcile(written(tmp_path / "routes.yaml", models(urls[1])))
        await eventually(lambda: one.open == 0)
        assert repr(clients) == "<EngineClients 1>"
        asked = len(other.paths)
        await eventually(lambda: len(other.paths) > asked + 4)
    finally:
        await closed(*running)
    await eventually(lambda: other.open == 0)
    for each in (one, other):
        await each.listener.stop()


async def test_many_engines_take_no_task_or_descriptor_with_them(tmp_path: Path) -> None:
    engines, clients = [Engine() for _ in range(20)], EngineClients(monotonic, Random(1))
    urls = [f"http://127.0.0.1:{await each.listener.start()}" for each in engines]
    before = len(asyncio.all_tasks())
    registry = registered(written(tmp_path / "routes.yaml", models(*urls)), monotonic)
    running = loops(registry, clients)
    await eventually(lambda: all(b"/metrics" in each.paths and b"/v1/models" in each.paths for each in engines))
    await closed(*running)
    await eventually(lambda: not any(each.open for each in engines))
    await eventually(lambda: len(asyncio.all_tasks()) == before)
    for each in engines:
        await each.listener.stop()
