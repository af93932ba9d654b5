"""Three gateways on one redis-server: a tenant's limits hold over all of them, and none waits for the server."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import pytest

from tests.e2e.fakes import backends, good
from tests.e2e.harness import ask, chat
from tests.e2e.processes import Process, serving
from tests.e2e.test_admission import bearer, key, routes
from tests.redis_server import RedisServer, redis_server
from tests.waiting import eventually, patient_client

pytestmark = pytest.mark.anyio

SKEW = (0.9, 0.05, 0.05)


class Fleet:
    """Gateways on one server, and when which request of the tenant was admitted by one of them."""

    def __init__(self, server: RedisServer, gateways: list[Process]) -> None:
        self.server = server
        self.gateways = gateways
        self.ports = [int(each.urls[0].rsplit(":", 1)[1]) for each in gateways]
        self.admitted: list[float] = []
        self.seconds: list[float] = []
        self.answered = 0.0

    async def ask(self, index: int) -> int:
        begun = time.monotonic()
        answer = await ask(self.ports[index], chat(stream=False), headers=bearer("sk-acme"))
        self.answered = time.monotonic()
        self.seconds.append(self.answered - begun)
        if answer.status == 200:
            self.admitted.append(begun)
        return answer.status

    async def burst(self, index: int, requests: int) -> list[int]:
        """Send requests to one of them, ten at a time."""

        async def some() -> list[int]:
            return [await self.ask(index) for _ in range(requests // 10)]

        return [status for each in await asyncio.gather(*(some() for _ in range(10))) for status in each]

    async def drain(self, index: int) -> None:
        """Use up what is left, by one of them."""
        while 429 not in await self.burst(index, 50):
            pass

    async def load(self, seconds: float, per_second: float, skew: tuple[float, ...] = SKEW) -> None:
        """Send requests at a steady rate, divided among them."""
        chance, begun, tasks = Random(1), time.monotonic(), []
        for count in range(int(seconds * per_second)):
            await asyncio.sleep(begun + count / per_second - time.monotonic())
            (index,) = chance.choices(range(len(skew)), skew)
            tasks.append(asyncio.create_task(self.ask(index)))
        assert set(await asyncio.gather(*tasks)) <= {200, 429}

    async def shown_limit(self, index: int) -> dict[str, Any]:
        """Return what one of them shows of the tenant's limit."""
        async with patient_client() as web:
            found = (await web.get(f"{self.gateways[index].urls[1]}/admin/status?tenant=acme")).json()
        quotas = found["state"]["quotas"]
        assert (quotas["machines"], quotas["alone"], quotas["problem"]) == (3, False, "")
        limit: dict[str, Any]
        (limit,) = quotas["limits"]
        assert (limit["tenant"], limit["limit"]) == ("acme", "requests_per_minute")
        assert [each["requests_left"] for each in found["tenants"]] == [limit["left"]]
        return limit

    async def is_shared(self) -> None:
        """Wait until all are there, and have heard of what was charged so far."""
        client = self.server.client()
        last = time.time()

        def is_told() -> bool:
            members = client.zrange("{tidegate}:quotas:members", 0, -1, withscores=True)
            return len(members) == len(self.ports) and all(at > 1000 * (last + 1.0) for _, at in members)

        await eventually(is_told)
        client.close()


@asynccontextmanager
async def fleet(folder: Path, limits: dict[str, Any], workers: str = "") -> AsyncIterator[Fleet]:
    """Run them until the block ends; those that `workers` names have two workers each."""
    tenants = {"acme": {"key_sha256": key("sk-acme"), "limits": limits}}
    with redis_server(folder / "redis") as server:
        async with backends(good) as (engine,), AsyncExitStack() as stack:
            text = routes(engine.url, slots=1000, tenants=tenants)
            running = []
            for name in "abc":
                (folder / name).mkdir()
                options = ("--state", server.url, *(("--workers", "2") if name in workers else ()))
                running.append(await stack.enter_async_context(serving(folder / name, [], *options, text=text)))
            yield Fleet(server, running)


async def test_a_full_burst_through_one_is_admitted_and_little_more_through_the_others(tmp_path: Path) -> None:
    async with fleet(tmp_path, {"requests_per_minute": 60}) as gateways:
        begun = time.monotonic()
        assert set(await gateways.burst(0, 60)) == {200}
        await gateways.is_shared()
        rest = await gateways.burst(1, 60) + await gateways.burst(2, 60)
        assert rest.count(200) <= time.monotonic() - begun + 3, "what is refilled, and a request for each process"
        assert set(rest) == {200, 429}
        limit = await gateways.shown_limit(1)
        assert limit["allowed"] == 60
        assert limit["used_here"] < 10 < limit["used_elsewhere"], "most was used through the first"


async def test_a_limit_holds_over_all_under_skewed_load(tmp_path: Path) -> None:
    async with fleet(tmp_path, {"requests_per_minute": 600}, workers="ab") as gateways:
        await gateways.drain(0)
        await gateways.load(10.0, 20.0)
        times = sorted(gateways.admitted)
        assert (600 + 10 * (times[-1] - times[0])) * 0.95 <= len(times)
        assert len(times) <= (600 + 10 * (gateways.answered - times[0])) * 1.05
        limit = await gateways.shown_limit(0)
        assert limit["used_here"] > limit["used_elsewhere"] > 0, "of both workers, and of the two other machines"


async def test_while_the_server_is_paused_requests_are_served_and_refused_without_it(tmp_path: Path) -> None:
    async with fleet(tmp_path, {"requests_per_minute": 300}) as gateways:
        await gateways.drain(0)
        await gateways.is_shared()
        gateways.server.pause()
        usual = median(gateways.seconds)
        gateways.seconds.clear()
        begun = time.monotonic()
        await gateways.load(10.0, 10.0)
        during = sum(at > begun for at in gateways.admitted)
        assert 25 <= during <= 80, "as before, to nearly twice the limit"
        assert median(gateways.seconds) < 0.5 + usual, "an exchange waits for a second"
        gateways.server.go_on()
        begun = time.monotonic()
        await gateways.load(10.0, 10.0)
        assert 30 <= sum(at > begun for at in gateways.admitted) <= 70
