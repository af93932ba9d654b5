"""Collectors of traces that do not end their answers."""

import asyncio
from pathlib import Path

import pytest

from tests.e2e.fakes import backends, good
from tests.e2e.harness import ask, chat, gateway, routes
from tests.listening import listening
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
SAMPLED = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
MOST = 64 * 1024 * 1024


async def test_an_endless_answer_of_a_collector_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
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
