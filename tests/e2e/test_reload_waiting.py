"""Who waits while the routes change goes where a request goes that comes after the change."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fakes import FakeBackend, backends
from tests.e2e.harness import Running, ask, gateway
from tests.e2e.raw_client import Answer
from tests.e2e.test_admission import Gate, begin, words
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


def written(pools: dict[str, list[str]], *, model: str = "m", **more: Any) -> str:
    """Return routes in which each backend has one slot."""
    entries = {name: {"backends": [{"url": url, "max_concurrency": 1} for url in urls]} for name, urls in pools.items()}
    spec = {"versions": {"v1": {"pools": list(pools)}}} | more
    return json.dumps({"pools": entries, "models": {model: spec}})


async def reload(running: Running, folder: Path, text: str) -> None:
    (folder / "routes.yaml").write_text(text)
    await running.app.control.reloader.reload()


@asynccontextmanager
async def waiter(running: Running, gate: Gate) -> AsyncIterator[asyncio.Task[Answer]]:
    """Take the only slot, and let a second request wait for it."""
    first = await begin(running, "first")
    await eventually(lambda: gate.prompts == ["first"])
    waiting = asyncio.create_task(ask(running.port, words("second")))
    await eventually(lambda: running.waiting == 1)
    yield waiting
    gate.open.release()
    assert (await first.answer()).complete
    first.close()
    await running.quiet()


def told(fake: FakeBackend) -> list[str]:
    return [call.json["messages"][0]["content"] for call in fake.calls]


async def test_an_idle_backend_that_is_added_gets_who_waits_and_newcomers(tmp_path: Path) -> None:
    gate, other = Gate(), Gate()
    async with backends(gate, other) as (busy, idle), gateway(tmp_path, written({"gpu": [busy.url]})) as running:
        async with waiter(running, gate) as waiting:
            await reload(running, tmp_path, written({"gpu": [busy.url, idle.url]}))
            await eventually(lambda: other.prompts == ["second"])
            other.open.release()
            assert (await waiting).status == 200
            newcomer = asyncio.create_task(ask(running.port, words("third")))
            await eventually(lambda: other.prompts == ["second", "third"])
            assert told(busy) == ["first"]
            other.open.release()
            assert (await newcomer).status == 200


async def test_a_pool_that_is_added_gets_who_waits(tmp_path: Path) -> None:
    gate, other = Gate(), Gate()
    async with backends(gate, other) as (busy, idle), gateway(tmp_path, written({"gpu": [busy.url]})) as running:
        async with waiter(running, gate) as waiting:
            await reload(running, tmp_path, written({"gpu": [busy.url], "cpu": [idle.url]}))
            await eventually(lambda: other.prompts == ["second"])
            other.open.release()
            assert (await waiting).status == 200


async def test_whose_pool_is_taken_away_goes_to_the_one_that_replaces_it(tmp_path: Path) -> None:
    gate, other = Gate(), Gate()
    async with backends(gate, other) as (busy, idle), gateway(tmp_path, written({"gpu": [busy.url]})) as running:
        async with waiter(running, gate) as waiting:
            await reload(running, tmp_path, written({"new": [idle.url]}))
            await eventually(lambda: other.prompts == ["second"])
            other.open.release()
            assert (await waiting).status == 200
            assert told(busy) == ["first"]


async def test_a_rule_that_is_added_moves_who_waits(tmp_path: Path) -> None:
    gate, other = Gate(), Gate()
    rules = [{"when": {"max_tokens": "<10"}, "use": ["gpu"]}, {"use": ["cpu"]}]
    async with backends(gate, other) as (busy, idle):
        pools = {"gpu": [busy.url], "cpu": [idle.url]}
        text = written(pools, rules=[{"use": ["gpu"]}])
        async with gateway(tmp_path, text) as running:
            async with waiter(running, gate) as waiting:
                await reload(running, tmp_path, written(pools, rules=rules))
                await eventually(lambda: other.prompts == ["second"])
                other.open.release()
                assert (await waiting).status == 200


async def test_a_version_under_another_name_for_the_engine_gets_who_waits(tmp_path: Path) -> None:
    gate, other = Gate(), Gate()
    async with backends(gate, other) as (busy, idle), gateway(tmp_path, written({"gpu": [busy.url]})) as running:
        idle.models = ("m-next",)
        async with waiter(running, gate) as waiting:
            versions = {"v2": {"pools": ["next"], "served_model": "m-next"}}
            await reload(running, tmp_path, written({"next": [idle.url]}, versions=versions))
            await eventually(lambda: other.prompts == ["second"])
            assert idle.calls[0].json["model"] == "m-next"
            other.open.release()
            assert (await waiting).headers["x-gateway-version"] == "v2"


async def test_whose_model_is_no_more_is_told_so(tmp_path: Path) -> None:
    gate = Gate()
    async with backends(gate) as (busy,), gateway(tmp_path, written({"gpu": [busy.url]})) as running:
        async with waiter(running, gate) as waiting:
            await reload(running, tmp_path, written({"gpu": [busy.url]}, model="another"))
            answer = await waiting
            error = answer.json["error"]
            assert (answer.status, error["code"]) == (404, "model_not_found")
            assert error["message"] == "the model `m` does not exist"
