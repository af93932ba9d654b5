"""A synthetic request asks an engine something small in whichever way it is asked by users."""

import asyncio
from pathlib import Path

import httpx
import pytest

from gateway.backends.backend import Backend
from gateway.control import synthetic
from gateway.control.synthetic import answers, asking
from tests.control.tables import registered, written
from tests.e2e.fakes import Call, FakeBackend, Script, backends
from tests.waiting import patient_client

pytestmark = pytest.mark.anyio
CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"


def serving(*paths: str) -> Script:
    """Return an engine that knows these paths only."""

    async def script(call: Call) -> None:
        status = b"200 OK" if call.path in paths else b"404 Not Found"
        await call.send(b"HTTP/1.1 " + status + b"\r\ncontent-length: 2\r\n\r\n{}")

    return script


def live(tmp_path: Path, fake: FakeBackend, **more: str) -> Backend:
    """Return the backend of routes that name an engine."""
    routes = {"models": {"m": {"backends": [{"url": fake.url, **more}]}}}
    (backend,) = registered(written(tmp_path / "routes.yaml", routes))
    return backend


@pytest.mark.parametrize(("path", "asked"), [(CHAT, 1), (COMPLETIONS, 2), (EMBEDDINGS, 3)])
async def test_the_first_way_that_an_engine_knows_is_enough(tmp_path: Path, path: str, asked: int) -> None:
    async with backends(serving(path)) as (fake,), patient_client(trust_env=False) as client:
        assert await answers(client, live(tmp_path, fake), "served")
        assert [call.path for call in fake.calls] == [CHAT, COMPLETIONS, EMBEDDINGS][:asked]
        assert {call.json["model"] for call in fake.calls} == {"served"}


async def test_an_engine_that_knows_none_does_not_answer(tmp_path: Path) -> None:
    async with backends(serving()) as (fake,), patient_client(trust_env=False) as client:
        assert not await answers(client, live(tmp_path, fake), "m")
        assert len(fake.calls) == 3


async def test_it_carries_the_backends_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret")
    async with backends(serving(CHAT)) as (fake,), patient_client(trust_env=False) as client:
        await answers(client, live(tmp_path, fake, api_key_file="key"), "m")
        assert b"authorization: bearer s3cret" in fake.calls[0].head.lower()


async def test_an_engine_that_hangs_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "SECONDS", 0.05)

    async def hangs(call: Call) -> None:
        await call.until_gone()

    async with backends(hangs) as (fake,), patient_client(trust_env=False) as client:
        assert not await answers(client, live(tmp_path, fake), "m")


async def test_an_engine_that_is_gone_is_an_error(tmp_path: Path) -> None:
    async with backends(serving(CHAT)) as (fake,), patient_client(trust_env=False) as client:
        await fake.stop()
        with pytest.raises(httpx.HTTPError):
            await answers(client, live(tmp_path, fake), "m")


async def test_what_still_asks_in_the_end_is_cancelled() -> None:
    async with asking(tasks := {"a": asyncio.create_task(asyncio.sleep(3600))}):
        (task,) = tasks.values()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert not tasks
