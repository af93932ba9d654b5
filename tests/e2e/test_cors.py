"""Web pages of other origins: none may ask, but those of the origins that are named."""

from pathlib import Path

import pytest

from gateway.wire.edge import Edge, origins
from tests.e2e.fakes import JSON_ANSWER, Call, backends, whole
from tests.e2e.harness import ask, chat, gateway, routes
from tests.e2e.raw_client import Answer, connect

pytestmark = pytest.mark.anyio
ALLOWED = "origin: https://chat.example\r\n"
PREFLIGHT = "access-control-request-method: POST\r\naccess-control-request-headers: authorization, content-type\r\n"


async def generous(call: Call) -> None:
    """As vLLM answers by default, whoever asks."""
    await call.send(whole(b"200 OK", JSON_ANSWER, b"access-control-allow-origin: *\r\n"))


async def preflight(port: int, headers: str, path: str = "/v1/chat/completions") -> Answer:
    client = await connect(port)
    await client.send(f"OPTIONS {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n".encode())
    answer = await client.answer()
    client.close()
    return answer


@pytest.mark.parametrize("named", ["", "https://other.example"])
async def test_pages_of_other_origins_may_not_ask(tmp_path: Path, named: str) -> None:
    edge = Edge(cors_origins=origins(named))
    async with backends(generous) as (fake,), gateway(tmp_path, routes(fake.url), edge=edge) as running:
        refused = await preflight(running.port, ALLOWED + PREFLIGHT)
        assert refused.status == 405
        asked = await ask(running.port, chat(stream=False), headers=ALLOWED)
        assert b"access-control" not in refused.raw + asked.raw


@pytest.mark.parametrize("named", ["https://chat.example, https://other.example", "*"])
async def test_pages_of_named_origins_may_ask(tmp_path: Path, named: str) -> None:
    edge = Edge(cors_origins=origins(named))
    async with backends(generous) as (fake,), gateway(tmp_path, routes(fake.url), edge=edge) as running:
        answer = await preflight(running.port, ALLOWED + PREFLIGHT)
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "https://chat.example"
        assert answer.headers["access-control-allow-headers"] == "authorization, content-type"
        assert "POST" in answer.headers["access-control-allow-methods"]
        for body, path, status in (
            (chat(stream=False), "/v1/chat/completions", 200),
            ({}, "/v1/chat/completions", 400),
            (b"x" * 70_000, "/nowhere", 404),
        ):
            asked = await ask(running.port, body, path=path, headers=ALLOWED)
            assert (asked.status, asked.headers["access-control-allow-origin"]) == (status, "https://chat.example")
            assert asked.raw.count(b"access-control-allow-origin") == 1
        assert (await preflight(running.port, ALLOWED + PREFLIGHT, "/nowhere")).status == 404
        assert b"origin" not in fake.calls[0].head.lower()
