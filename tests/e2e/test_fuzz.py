"""Whatever clients send, no answer is a 500, nothing breaks inside, and nothing is left behind."""

import asyncio
import json
import logging
import os
import re
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateway.wire.guard import Limits
from tests.e2e.fakes import JSON_ANSWER, STREAM_HEAD, Call, backends, chunked, event, whole
from tests.e2e.fuzzer import request
from tests.e2e.harness import ask, chat, gateway, routes
from tests.e2e.raw_client import connect

pytestmark = pytest.mark.anyio
CASES = int(os.environ.get("TIDEGATE_FUZZ_CASES", "300"))
SEED = int(os.environ.get("TIDEGATE_FUZZ_SEED", "1"))
AT_ONCE = 25
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")


async def engine(call: Call) -> None:
    if re.search(rb'"stream"\s*:\s*(?:true|1|"true")', call.body):
        await call.send(
            STREAM_HEAD, chunked(event("a")), chunked(event("b", "stop"), b"data: [DONE]\n\n") + b"0\r\n\r\n"
        )
    else:
        await call.send(whole(b"200 OK", JSON_ANSWER))


def text(url: str) -> str:
    spec: dict[str, Any] = json.loads(routes(url))
    spec["models"]["m"]["aliases"] = ["whisper"]
    spec["models"]["m"]["rules"] = [{"when": {"tools": True, "images": False, "max_tokens": "<9"}, "use": ["default"]}]
    spec["tenants"] = {
        "t": {"key_sha256": sha256(b"sk-fuzz").hexdigest(), "limits": {"tokens_per_minute": 10**12, "concurrent": 99}}
    }
    return json.dumps(spec)


async def test_no_bytes_of_a_client_break_anything(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = Limits(head_seconds=0.5, body_seconds=1.0, body_silence=0.5, keep_alive=0.5, body=2**20)
    broken: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(context))
    async with backends(engine) as (fake,), gateway(tmp_path, text(fake.url), limits=limits) as running:
        for first in range(SEED * 1_000_000, SEED * 1_000_000 + CASES, AT_ONCE):
            cases = {seed: request(Random(seed)) for seed in range(first, first + AT_ONCE)}
            answers = await asyncio.gather(*(sent(running.port, data) for data in cases.values()))
            for (seed, data), answer in zip(cases.items(), answers, strict=True):
                assert not {int(code) for code in _STATUS.findall(answer)} & {500, 502, 504}, (
                    seed,
                    data[:3000],
                    answer,
                )
                assert b"Traceback" not in answer
            errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
            assert (broken, errors) == ([], []), first
        await running.quiet()
        key = "authorization: Bearer sk-fuzz\r\n"
        assert (await ask(running.port, chat(stream=False), headers=key)).status == 200


async def sent(port: int, data: bytes) -> bytes:
    """Send all, whatever is said meanwhile, and return everything that comes back."""
    client = await connect(port)
    try:
        _, answer = await asyncio.gather(_send(client.writer, data), _read(client.reader))
        return answer
    finally:
        client.close()


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    try:
        writer.write(data)
        await writer.drain()
    except ConnectionError:
        pass


async def _read(reader: asyncio.StreamReader) -> bytes:
    answer = b""
    try:
        while data := await reader.read(65536):
            answer += data
    except ConnectionError:
        pass
    return answer
