"""What an engine answers to the gateway's own questions takes no memory, and no time, beyond a bound."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.backends import probe
from loadtest.bench.listening import Listener
from tests.e2e.harness import gateway, routes
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
WELL = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
PART = b"%x\r\n%b\r\n" % (64 * 1024, b" " * 64 * 1024)
MOST = 32 * 1024 * 1024
"""Far more than is read of anything, with all that sockets may hold."""
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(CHUNKED)
    for _ in range(MOST // len(PART)):
        writer.write(PART)
        await writer.drain()


async def bomb(writer: asyncio.StreamWriter) -> None:
    body = gzip.compress(b"[" * MOST)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    await writer.drain()


class Probed:
    """An engine that answers one path so; `sent` counts answers that were taken to their end, by path."""

    def __init__(self, path: bytes, answer: Answer) -> None:
        self.path, self.answer = path, answer
        self.heads: list[bytes] = []
        self.ended: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            path = head.split(b" ")[1]
            if path == self.path:
                await self.answer(writer)
            else:
                writer.write(WELL)
            self.ended.append(path)


@pytest.mark.parametrize("path", [b"/health", b"/v1/models", b"/metrics"])
async def test_an_answer_without_end_is_not_read_to_its_end(tmp_path: Path, path: bytes) -> None:
    engine = Probed(path, endless)
    listener = Listener(engine)
    port = await listener.start(0)
    try:
        async with gateway(tmp_path, routes(f"http://127.0.0.1:{port}"), wait_ready=False) as running:
            await eventually(lambda: sum(head.split(b" ")[1] == path for head in engine.heads) >= 2)
            assert path not in engine.ended
            await running.ready()
            assert running.backend().models is None
    finally:
        await listener.stop()


@pytest.mark.parametrize("path", [b"/health", b"/v1/models", b"/metrics"])
async def test_nothing_is_unpacked_that_was_not_asked_for(tmp_path: Path, path: bytes) -> None:
    engine = Probed(path, bomb)
    listener = Listener(engine)
    port = await listener.start(0)
    try:
        async with gateway(tmp_path, routes(f"http://127.0.0.1:{port}"), wait_ready=False) as running:
            await eventually(lambda: engine.ended.count(path) >= 2)
            await running.ready()
            assert running.backend().models is None
            assert running.backend().engine.metrics is None
        assert all(b"\r\naccept-encoding: identity\r\n" in head.lower() for head in engine.heads)
    finally:
        await listener.stop()


async def test_an_answer_that_drips_is_no_answer_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.control.probes.TIMEOUT", 0.25)

    async def drips(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        while True:
            writer.write(b"1\r\n \r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    listener = Listener(Probed(b"/v1/models", drips))
    port = await listener.start(0)
    try:
        async with gateway(tmp_path, routes(f"http://127.0.0.1:{port}"), wait_ready=False) as running:
            await eventually(lambda: running.backend().readiness.reason == probe.SILENT.failure)
    finally:
        await listener.stop()
