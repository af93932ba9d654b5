"""A response that goes on from one that an engine keeps is asked for at that engine."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fakes import Call, FakeBackend, backends
from tests.e2e.harness import ask, gateway, routes
from tests.e2e.test_stored import Engine, key, made, make, with_tenants
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


def continued(fake: FakeBackend) -> list[str]:
    return [call.json["previous_response_id"] for call in fake.calls if b"previous_response_id" in call.body]


async def test_a_response_is_gone_on_from_where_it_is_kept(tmp_path: Path) -> None:
    engines = [Engine(), Engine(), Engine()]
    async with backends(*engines) as fakes, gateway(tmp_path, routes(*[fake.url for fake in fakes])) as running:
        last = [await made(running) for _ in range(4)]
        for _ in range(3):
            last = [await made(running, previous_response_id=each) for each in last]
        for engine, fake in zip(engines, fakes, strict=True):
            assert set(continued(fake)) <= set(engine.kept)
        assert sum(len(continued(fake)) for fake in fakes) == 12
        await running.settled(16)


async def test_what_an_unknown_response_is_gone_on_from_is_found_first(tmp_path: Path) -> None:
    engines = [Engine(), Engine(), Engine()]
    engines[1].kept["resp_1"] = {"id": "resp_1", "model": "m"}
    async with backends(*engines) as fakes, gateway(tmp_path, routes(*[fake.url for fake in fakes])) as running:
        long = "x" * 100_000
        assert await made(running, previous_response_id="resp_1", input=long)
        assert [continued(fake) for fake in fakes] == [[], ["resp_1"], []]
        answer = await ask(running.port, make(previous_response_id="resp_2"), path="/v1/responses")
        assert answer.status == 404
        assert [continued(fake) for fake in fakes] == [[], ["resp_1"], []]
        odd = await ask(running.port, make(previous_response_id=7), path="/v1/responses")
        assert odd.status == 200, "of nonsense the engine says what it thinks"
        await running.settled(3)


async def test_a_tenant_goes_on_from_its_own_responses_only(tmp_path: Path) -> None:
    async with backends(Engine()) as (fake,):
        async with gateway(tmp_path, with_tenants({"m": {"backends": [fake.url]}}, {"a": {}, "b": {}})) as running:
            response = await made(running, key("a"))
            for previous in (response, "resp_0"):
                body = make(previous_response_id=previous)
                answer = await ask(running.port, body, path="/v1/responses", headers=key("b"))
                assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")
            assert len(fake.calls) == 1
            assert await made(running, key("a"), previous_response_id=response)


async def test_those_who_wait_for_the_keeper_hold_up_nobody_else(tmp_path: Path) -> None:
    engines, go_on = [Engine(), Engine()], asyncio.Event()

    def slow(engine: Engine) -> Any:
        async def answer(call: Call) -> None:
            if b"wait" in call.body:
                await go_on.wait()
            await engine(call)

        return answer

    async with backends(*map(slow, engines)) as fakes:
        pool = {"backends": [{"url": fake.url, "max_concurrency": 1} for fake in fakes]}
        spec = {"pools": {"p": pool}, "models": {"m": {"versions": {"v": {"pools": ["p"]}}}}}
        spec["classes"] = {"standard": {"priority": 10, "max_queue_wait": "2m"}}
        async with gateway(tmp_path, json.dumps(spec)) as running:
            response = await made(running)
            keeping = next(fake for engine, fake in zip(engines, fakes, strict=True) if engine.kept)
            body = make(previous_response_id=response, input="wait")
            waiting = [asyncio.create_task(ask(running.port, body, path="/v1/responses")) for _ in range(12)]
            await eventually(lambda: running.waiting == 11)
            others = [await made(running) for _ in range(5)]
            assert all(each not in engines[fakes.index(keeping)].kept for each in others)
            assert running.waiting == 11
            (tmp_path / "routes.yaml").write_text(json.dumps({**spec, "objectives": {}}))
            await eventually(lambda: running.app.control.reloader.loads == 1)
            go_on.set()
            assert {(await each).status for each in waiting} == {200}
            assert continued(keeping) == [response] * 12
            await running.settled(18)


async def test_a_version_that_gets_no_requests_is_not_gone_on_with(tmp_path: Path) -> None:
    async with backends(Engine(), Engine()) as (old, new):
        pools = {"a": {"backends": [old.url]}, "b": {"backends": [new.url]}}
        versions = {"v1": {"pools": ["a"]}, "v2": {"pools": ["b"]}}

        def split(v1: int, v2: int) -> str:
            model = {"versions": versions, "split": {"v1": v1, "v2": v2}, "sticky_by": []}
            return json.dumps({"pools": pools, "models": {"m": model}})

        async with gateway(tmp_path, split(0, 1)) as running:
            response = await made(running)
            (tmp_path / "routes.yaml").write_text(split(1, 1))
            await eventually(lambda: running.app.control.reloader.loads == 1)
            for _ in range(6):
                await made(running, previous_response_id=response)
            assert len(continued(new)) == 6
            (tmp_path / "routes.yaml").write_text(split(1, 0))
            await eventually(lambda: running.app.control.reloader.loads == 2)
            await made(running, previous_response_id=response)
            assert len(continued(old)) == 1
