"""Engines that are too slow for their probes: they serve as long as tokens flow, and are left where nothing does."""

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.fakes import DONE, LAST_CHUNK, ROLE, STREAM_HEAD, Call, FakeBackend, backends, chunked, event, good
from tests.e2e.harness import Running, ask, chat, gateway, post
from tests.e2e.processes import engine, serving
from tests.e2e.raw_client import Answer, connect
from tests.e2e.test_pauses import port, streaming
from tests.waiting import DEADLINE, eventually

pytestmark = pytest.mark.anyio
ASKING: set["asyncio.Task[Answer]"] = set()
LONG = chat(messages=[{"role": "user", "content": "long"}])


class Engine:
    """An engine whose long answers last until they are told to end; they give tokens while it `flows`."""

    def __init__(self) -> None:
        self.flows = True
        self.ends = False

    async def __call__(self, call: Call) -> None:
        if b"long" not in call.body:
            await good(call)
            return
        await call.send(STREAM_HEAD, chunked(ROLE), chunked(event("x")))
        while not self.ends:
            if self.flows:
                await call.send(chunked(event("x")))
            await asyncio.sleep(0.05)  # the pace of its tokens
        await call.send(chunked(event("y", "stop"), DONE) + LAST_CHUNK)


@pytest.fixture(autouse=True)
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let probes wait for so long that on a busy machine none of the other engines is silent to them."""
    monkeypatch.setattr("gateway.control.probes.TIMEOUT", 1.0)


@pytest.fixture
def engines() -> Iterator[list[Engine]]:
    made = [Engine(), Engine()]
    yield made
    for each in made:
        each.ends = True


def versions(first: str, second: str) -> str:
    pools = {"a": {"backends": [first]}, "b": {"backends": [second]}}
    split = {"versions": {"v1": {"pools": ["a"]}, "v2": {"pools": ["b"]}}, "split": {"v1": 95, "v2": 5}}
    return json.dumps({"pools": pools, "models": {"m": split}})


def pool(first: str, second: str) -> str:
    slots = [{"url": first, "max_concurrency": 32}, {"url": second, "max_concurrency": 1}]
    return json.dumps({"models": {"m": {"backends": slots}}})


async def at_work(running: Running, *indexes: int) -> None:
    """Ask for long answers until these backends give one each."""
    async with asyncio.timeout(DEADLINE):
        while not all(running.backend(index).in_flight for index in indexes):
            asking, before = asyncio.create_task(ask(running.port, LONG)), running.in_flight
            await eventually(lambda before=before: running.in_flight > before)  # type: ignore[misc]
            await eventually(lambda: all(backend.health.latency.unbegun == 0 for backend in running.app.data.registry))
            ASKING.add(asking)
            asking.add_done_callback(ASKING.discard)


async def falls_silent(running: Running, fake: FakeBackend) -> None:
    fake.silent = True
    await eventually(lambda: not running.backend().readiness.eligible)


@pytest.mark.parametrize("flows", [True, False], ids=["tokens flow", "nothing flows"])
async def test_a_version_keeps_its_requests_while_its_engine_works(
    tmp_path: Path, engines: list[Engine], flows: bool
) -> None:
    async with backends(*engines) as fakes:
        async with gateway(tmp_path, versions(fakes[0].url, fakes[1].url)) as running:
            await at_work(running, 0)
            engines[0].flows = flows
            await falls_silent(running, fakes[0])
            before = len(fakes[0].calls)
            for _ in range(20):
                assert (await ask(running.port, chat())).complete
            assert (len(fakes[0].calls) > before + 10) is flows
            assert flows or len(fakes[0].calls) == before
            for each in engines:
                each.ends = True
            await running.quiet()


@pytest.mark.parametrize("flows", [True, False], ids=["tokens flow", "nothing flows"])
async def test_before_anyone_waits_one_that_works_is_asked(tmp_path: Path, engines: list[Engine], flows: bool) -> None:
    async with backends(*engines) as fakes:
        async with gateway(tmp_path, pool(fakes[0].url, fakes[1].url)) as running:
            await at_work(running, 0, 1)
            engines[0].flows = flows
            await falls_silent(running, fakes[0])
            before = len(fakes[0].calls)
            last = asyncio.create_task(ask(running.port, chat()))
            if flows:
                assert (await last).complete
                assert (len(fakes[0].calls), running.waiting) == (before + 1, 0)
            else:
                await eventually(lambda: running.waiting == 1)
                assert len(fakes[0].calls) == before
            for each in engines:
                each.ends = True
            assert (await last).complete
            await running.quiet()


async def test_a_version_whose_engine_is_stopped_leaves_its_requests_to_another(tmp_path: Path) -> None:
    async with engine("--output-tokens", "1000") as first, engine() as second:
        text = versions(first.urls[0], second.urls[0])
        async with serving(tmp_path, [], text=text) as served:
            clients = [await streaming(served, max_tokens=1000) for _ in range(3)]
            first.process.send_signal(signal.SIGSTOP)
            await served.said("backend not ready")
            for _ in range(10):
                client = await connect(port(served))
                await client.send(post(chat(max_tokens=2)))
                answer = await client.answer()
                assert answer.complete
                assert answer.headers["x-gateway-version"] == "v2"
                client.close()
            for client in clients:
                client.close()
            first.process.send_signal(signal.SIGCONT)
