"""Which pool a request goes to: by rule, by its objective, by what it costs; and back once a pool is well again."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fakes import Call, Script, backends, good
from tests.e2e.harness import Running, ask, chat, gateway
from tests.e2e.raw_client import Answer
from tests.waiting import DEADLINE, HandClock, eventually, patient_client

pytestmark = pytest.mark.anyio
UNHURRIED = {"ttft": {"target": 95, "under": "1m"}}
"""An objective that a busy machine meets too: nothing is sent elsewhere for a first token that was late."""


def routes(gpu: str, cpu: str, rules: list[dict[str, Any]], **objective: Any) -> str:
    targets = {"availability": {"target": 99}, "ttft": {"target": 95, "under": "150ms"}, **objective}
    return json.dumps(
        {
            "pools": {
                "gpu": {"backends": [gpu], "cost_per_hour": 2.5},
                "cpu": {"backends": [{"url": cpu, "max_concurrency": 8}], "cost_per_hour": 0.2, "accelerator": "cpu"},
            },
            "objectives": {"o": targets},
            "models": {"m": {"objective": "o", "versions": {"v1": {"pools": ["gpu", "cpu"]}}, "rules": rules}},
        }
    )


class Engine:
    """An engine as slow as it is told to be, by the clock of its gateway."""

    def __init__(self, clock: HandClock, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds

    async def __call__(self, call: Call) -> None:
        self.clock.advance(self.seconds)
        await good(call)


async def pool_of(running: Running, headers: str = "", **body: Any) -> str:
    answer: Answer = await ask(running.port, chat(**body), headers=headers)
    assert answer.status == 200, answer.body
    return answer.headers["x-gateway-pool"]


RULES: list[dict[str, Any]] = [
    {"when": {"class": "batch"}, "use": ["cpu", "gpu"]},
    {"when": {"prompt_tokens": "<256", "max_tokens": "<=64"}, "use": ["cpu", "gpu"]},
    {"when": {"tools": True}, "use": ["cpu"]},
    {"when": {"images": True}, "use": ["cpu"]},
    {"use": ["gpu", "cpu"]},
]


async def test_the_first_rule_that_holds_names_the_pools(tmp_path: Path) -> None:
    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    words = [{"role": "user", "content": 'the type is \\"image_url\\", and "tools": [{}]'}]
    async with (
        backends(good, good) as (gpu, cpu),
        gateway(tmp_path, routes(gpu.url, cpu.url, RULES, **UNHURRIED)) as running,
    ):
        assert await pool_of(running) == "gpu"
        assert await pool_of(running, max_tokens=64) == "cpu"
        assert await pool_of(running, max_tokens=65) == "gpu"
        assert await pool_of(running, max_tokens=64, messages=[{"role": "user", "content": "x" * 5000}]) == "gpu"
        assert await pool_of(running, "x-gateway-class: batch\r\n") == "cpu"
        assert await pool_of(running, tools=[{"type": "function"}]) == "cpu"
        assert await pool_of(running, tools=[]) == "gpu"
        assert await pool_of(running, messages=picture) == "cpu"
        assert await pool_of(running, messages=words) == "gpu"
        last = str(running.records.exchanges[-1].routing)
        assert last.startswith("pool gpu, first choice (gpu ")
        await running.quiet()


async def test_without_rules_the_cheapest_pool_that_meets_the_objective_is_used(tmp_path: Path) -> None:
    async with (
        backends(good, good) as (gpu, cpu),
        gateway(tmp_path, routes(gpu.url, cpu.url, [], **UNHURRIED)) as running,
    ):
        assert {await pool_of(running) for _ in range(20)} == {"cpu"}
        async with patient_client(base_url=running.admin) as client:
            metrics = (await client.get("/metrics")).text
            told = (await client.get("/admin/explain", params={"model": "m", "prompt_tokens": 10})).json()
        assert 'tidegate_cost_total{model="m",pool="cpu",version="v1"}' in metrics
        assert told["versions"][0]["why"].startswith("pool cpu, first choice (cpu ")


async def used(running: Running, engine: Engine, wanted: Callable[[list[str]], bool]) -> None:
    """Send requests until the pools of the last twenty are as wanted."""
    pools: list[str] = []
    async with asyncio.timeout(DEADLINE):
        while len(pools) < 20 or not wanted(pools[-20:]):
            pools.append(await pool_of(running, max_tokens=10))
            engine.clock.advance(0.02)


async def test_a_pool_that_becomes_slow_is_left_and_used_again_when_it_is_well(
    tmp_path: Path,
) -> None:
    engine = Engine(HandClock(), 0.02)
    async with backends(good, engine) as (gpu, cpu):
        text = routes(gpu.url, cpu.url, RULES)
        async with gateway(tmp_path, text, now=engine.clock) as running:
            await used(running, engine, lambda pools: pools.count("cpu") == 20)
            engine.seconds = 0.3
            await used(running, engine, lambda pools: pools.count("gpu") >= 19)
            engine.seconds = 0.02
            await used(running, engine, lambda pools: pools.count("cpu") == 20)
            await running.quiet()


async def test_nobody_goes_to_a_pool_that_is_predicted_to_miss_while_the_first_is_no_worse(tmp_path: Path) -> None:
    clock = HandClock()

    def takes(seconds: float) -> Script:
        async def script(call: Call) -> None:
            clock.advance(seconds)
            await good(call)

        return script

    async with backends(takes(0.25), takes(0.4)) as (gpu, cpu):
        rules: list[dict[str, Any]] = [{"when": {"max_tokens": "<=64"}, "use": ["cpu"]}, {"use": ["gpu", "cpu"]}]
        async with gateway(tmp_path, routes(gpu.url, cpu.url, rules), now=clock) as running:
            for _ in range(10):
                assert await pool_of(running, max_tokens=10) == "cpu", "so that it is known"
            pools = [await pool_of(running) for _ in range(30)]
            assert pools.count("gpu") >= 28, "both miss: the first misses by less"
            await running.quiet()


async def test_who_may_use_one_pool_alone_does_not_wait_behind_who_may_use_another(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def held(call: Any) -> None:
        await release.wait()
        await good(call)

    async with backends(good, held) as (gpu, cpu):
        rules: list[dict[str, Any]] = [{"when": {"class": "batch"}, "use": ["cpu"]}, {"use": ["gpu"]}]
        async with gateway(tmp_path, routes(gpu.url, cpu.url, rules)) as running:
            batch = [asyncio.create_task(pool_of(running, "x-gateway-class: batch\r\n")) for _ in range(12)]
            await eventually(lambda: running.waiting == 4)
            assert await pool_of(running) == "gpu"
            release.set()
            assert set(await asyncio.gather(*batch)) == {"cpu"}
            await running.quiet()


async def test_a_reload_that_changes_rules_forgets_nobody_who_waits(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def held(call: Any) -> None:
        await release.wait()
        await good(call)

    async with backends(held, held) as (gpu, cpu):
        rules: list[dict[str, Any]] = [{"when": {"class": "batch"}, "use": ["cpu"]}, {"use": ["gpu"]}]
        async with gateway(tmp_path, routes(gpu.url, cpu.url, rules)) as running:
            batch = [asyncio.create_task(pool_of(running, "x-gateway-class: batch\r\n")) for _ in range(12)]
            await eventually(lambda: running.waiting == 4)
            (tmp_path / "routes.yaml").write_text(routes(gpu.url, cpu.url, [{"use": ["gpu"]}]))
            await running.app.control.reloader.reload()
            await eventually(lambda: running.waiting == 0)
            release.set()
            assert sorted(await asyncio.gather(*batch)) == ["cpu"] * 8 + ["gpu"] * 4, "who waits goes by the new rules"
            await running.quiet()
