"""Two gateways on one redis-server: they count together, one leads, and neither needs the server to serve."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.control.persistence import LEASE_SECONDS
from tests.e2e.harness import ask, chat
from tests.e2e.processes import Process, engine, running, serving
from tests.redis_server import RedisServer, redis_server
from tests.waiting import DEADLINE, patient_client

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def gateway_on(server: RedisServer, folder: Path, backend: str) -> AsyncIterator[Process]:
    folder.mkdir(exist_ok=True)
    async with serving(folder, [backend], "--state", server.url) as process:
        yield process


async def asks(gateway: Process, times: int) -> None:
    port = int(gateway.urls[0].rsplit(":", 1)[1])
    for _ in range(times):
        assert (await ask(port, chat(stream=False))).status == 200


async def status(gateway: Process, path: str = "status") -> dict[str, Any]:
    async with patient_client() as web:
        found: dict[str, Any] = (await web.get(f"{gateway.urls[1]}/admin/{path}")).json()
        return found


async def answered(gateway: Process) -> int:
    """Return how many requests of the last hour the gateway knows of."""
    found = await status(gateway, "models/m/slo")
    (model,) = (each for each in found["subjects"] if each["subject"] == "model")
    (sli,) = (each for each in model["slis"] if each["sli"] == "availability" and not each["prompt_tokens"])
    (window,) = (each for each in sli["windows"] if each["window"] == "1h")
    return int(window["good"]) + int(window["bad"])


async def knows(gateway: Process, requests: int) -> None:
    """Wait until the gateway has counted so many requests of the last hour."""

    async def is_counted() -> bool:
        return await answered(gateway) == requests

    await comes(is_counted)


async def comes(condition: Any) -> None:
    async with asyncio.timeout(DEADLINE):
        while not await condition():
            await asyncio.sleep(0.05)


async def test_they_count_together_and_one_that_is_killed_is_replaced_as_the_leader(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        async with engine() as backend, gateway_on(server, tmp_path / "b", backend.urls[0]) as second:
            async with gateway_on(server, tmp_path / "a", backend.urls[0]) as first:
                await asks(first, 5)
                await asks(second, 3)

                async def all_are_known() -> bool:
                    return [await answered(each) for each in (first, second)] == [8, 8]

                await comes(all_are_known)
                assert [(await status(each))["state"]["leads"] for each in (first, second)] == [False, True]
                drained = "m/" + backend.urls[0].removeprefix("http://")
                async with running("gateway.cli", "drain", drained, "--admin", second.urls[1]) as asked:
                    assert await asked.ended() == 0

                async def first_drains_it_too() -> bool:
                    return bool((await status(first))["backends"][0]["drained"])

                await comes(first_drains_it_too)
                second.process.kill()
                await second.ended()

                async def first_leads() -> bool:
                    return bool((await status(first))["state"]["leads"])

                with server.client() as client:
                    assert client.pttl("{tidegate}:lease") <= 1000 * LEASE_SECONDS, "so soon another may lead"
                await comes(first_leads)
                await knows(first, 8)
            async with gateway_on(server, tmp_path / "c", backend.urls[0]) as third:
                await knows(third, 8)


async def test_a_server_that_is_paused_killed_and_started_empty_holds_nothing_up_and_gets_all_back(
    tmp_path: Path,
) -> None:
    with redis_server(tmp_path / "redis") as server:
        async with engine() as backend:
            async with (
                gateway_on(server, tmp_path / "a", backend.urls[0]) as first,
                gateway_on(server, tmp_path / "b", backend.urls[0]) as second,
            ):
                await asks(first, 4)

                await knows(second, 4)

                async def says_so() -> bool:
                    return bool((await status(second))["state"]["not_saved"])

                server.pause()
                await asks(second, 2)
                await comes(says_so)
                state = (await status(second))["state"]
                assert state["where"] == server.url
                assert state["not_saved_since"]
                await knows(second, 6)
                server.stop()
                await asks(first, 1)
                server.start()

                async def all_are_back() -> bool:
                    found = [await answered(each) for each in (first, second)]
                    return found == [7, 7] and not await says_so()

                await comes(all_are_back)
            async with gateway_on(server, tmp_path / "c", backend.urls[0]) as third:
                await knows(third, 7)


async def test_one_that_starts_while_the_server_is_away_reads_what_is_there_later(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        async with engine() as backend, gateway_on(server, tmp_path / "a", backend.urls[0]) as first:
            await asks(first, 2)

            async def is_saved() -> bool:
                return bool(server.client().exists("{tidegate}:changes"))

            await comes(is_saved)
            server.pause()
            async with gateway_on(server, tmp_path / "b", backend.urls[0]) as second:
                await asks(second, 1)
                await knows(second, 1)
                server.go_on()

                async def all_are_known() -> bool:
                    return [await answered(each) for each in (first, second)] == [3, 3]

                await comes(all_are_known)
