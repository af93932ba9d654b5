"""Collectors of traces and metrics that do not end their answers, are busy, or are silent."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.bench.listening import listening
from tests.e2e.fakes import backends, good
from tests.e2e.harness import Running, ask, chat, gateway, routes
from tests.waiting import eventually, patient_client, until

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Send spans soon, and leave no thread behind: one that works while Python ends may crash it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    yield
    until(lambda: not {"spans", "close", "metrics"} & {thread.name for thread in threading.enumerate()}, "threads")


SAMPLED = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
MOST = 64 * 1024 * 1024


async def dropped(running: Running) -> float:
    """Return how many spans were dropped, as the metrics say."""
    async with patient_client() as client:
        text = (await client.get(f"{running.admin}/metrics")).text
    return float(text.split("\ntidegate_spans_dropped_total ")[1].split()[0])


async def test_an_endless_answer_of_a_collector_is_not_read(tmp_path: Path) -> None:
    written, ended = [0], asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        try:
            while written[0] < MOST:
                writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                await writer.drain()
                written[0] += 0x10000
        except ConnectionError:
            ended.set()

    async with listening(endless) as url, backends(good) as (fake,):
        async with gateway(tmp_path, routes(fake.url), otlp_endpoint=url) as running:
            assert (await ask(running.port, chat(), headers=SAMPLED)).status == 200
            await eventually(lambda: ended.is_set() or written[0] >= MOST)
            assert ended.is_set()


async def test_a_busy_collector_gets_the_same_spans_when_it_says_so(tmp_path: Path) -> None:
    bodies: list[bytes] = []

    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            bodies.append(await reader.readexactly(length))
            status = b"200 OK" if len(bodies) > 2 else b"429 Too Many Requests\r\nretry-after: 0"
            writer.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\n\r\n" % status)

    async with listening(busy) as url, backends(good) as (fake,):
        async with gateway(tmp_path, routes(fake.url), otlp_endpoint=url) as running:
            assert (await ask(running.port, chat(), headers=SAMPLED)).status == 200
            await eventually(lambda: len(bodies) == 3)
            assert len(set(bodies)) == 1
            assert await dropped(running) == 0


async def test_spans_without_room_are_counted_while_a_collector_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await asyncio.Event().wait()

    async with listening(silent) as url, backends(good) as (fake,):
        async with gateway(tmp_path, routes(fake.url), otlp_endpoint=url) as running:
            assert (await ask(running.port, chat(), headers=SAMPLED)).status == 200
            await asked.wait()
            for _ in range(5):
                assert (await ask(running.port, chat(), headers=SAMPLED)).status == 200
            await running.settled(6)
            running.app.data.observers.flush()
            assert await dropped(running) == 6
