"""Two gateways lead one rollout on one redis-server: through a pause of the leader, and while the server is away."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import Process, serving
from tests.e2e.test_canary import requests, routes, status_of, until
from tests.e2e.test_canary_engines import OBJECTIVE, act, engines
from tests.e2e.test_fleet import comes, status
from tests.redis_server import RedisServer, redis_server
from tests.waiting import patient_client

pytestmark = pytest.mark.anyio
STEPS = [5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 80, 85, 90]


async def leads(process: Process) -> bool:
    return bool((await status(process))["state"]["leads"])


@asynccontextmanager
async def two(server: RedisServer, folder: Path, **canary: Any) -> AsyncIterator[tuple[Process, Process]]:
    """Run two gateways whose rollout has begun, and give the one that leads first."""
    async with engines() as (old, new):
        text = routes(old, new, objective=OBJECTIVE, **canary)
        for name in "ab":
            (folder / name).mkdir()
        async with (
            serving(folder / "a", [], "--state", server.url, text=text) as first,
            serving(folder / "b", [], "--state", server.url, text=text) as second,
        ):
            for each in (first, second):
                await until(each, lambda seen: seen["phase"] == "step")
            yield (second, first) if await leads(second) else (first, second)


def way(seen: dict[str, Any]) -> list[tuple[str, float]]:
    return [(each["phase"], each["weight"]) for each in seen["history"]]


async def test_a_leader_that_is_paused_at_a_step_leaves_one_history_to_both(tmp_path: Path) -> None:
    steps = {"steps": STEPS, "hold": "2s", "max_hold": "2s", "on_stall": "promote"}
    with redis_server(tmp_path / "redis") as server:
        async with two(server, tmp_path, **steps) as (first, second):
            await until(first, lambda seen: seen["weight"] >= 10.0)
            first.process.send_signal(signal.SIGSTOP)
            try:
                paused = await status_of(second)
                await until(second, lambda seen: seen["weight"] >= paused["weight"] + 10.0)
            finally:
                first.process.send_signal(signal.SIGCONT)

            async def second_alone_leads() -> bool:
                return [await leads(each) for each in (first, second)] == [False, True]

            await comes(second_alone_leads)
            await act(second, "pause")
            stands = await until(second, lambda seen: seen["phase"] == "paused")
            follows = await until(first, lambda seen: seen["phase"] == "paused")
            assert way(follows) == way(stands)
            assert [each["at"] for each in follows["history"]] == [each["at"] for each in stands["history"]]
            weights = [weight for phase, weight in way(stands) if phase == "step"]
            assert weights == STEPS[: len(weights)], "each step once, one after the other"
            splits = [await requests(each, 100) for each in (first, second)]
            assert splits[0] == splits[1]
            assert 0 < splits[0].count("v2") < 100


async def test_a_rollback_while_the_server_is_away_is_at_once_and_holds_for_both_after(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        async with two(server, tmp_path, steps=[50], hold="60s") as (first, second):
            server.pause()

            async def none_leads() -> bool:
                return not await leads(first)

            async def takes_a_rollback() -> bool:
                async with patient_client(base_url=second.urls[-1]) as client:
                    answer = await client.post("/admin/models/m/canary/rollback", json={"reason": "lunch"})
                return answer.status_code == 200

            await comes(none_leads)
            await comes(takes_a_rollback)  # once the lease has ended for this one too
            assert (await status_of(second))["phase"] == "rolled_back"
            assert set(await requests(second, 50)) == {"v1"}
            assert (await status_of(first))["weight"] == 50.0
            server.go_on()
            seen = [await until(each, lambda seen: seen["phase"] == "rolled_back") for each in (first, second)]
            assert way(seen[0])[-1] == way(seen[1])[-1] == ("rolled_back", 0.0)
            assert set(await requests(first, 50)) == {"v1"}
