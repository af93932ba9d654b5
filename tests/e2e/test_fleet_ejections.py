"""Gateways on one redis-server: bad answers move all of them, and what some cannot reach moves those alone."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import ask, chat
from tests.e2e.processes import Process, engine, serving
from tests.e2e.relays import Relay, relays
from tests.redis_server import RedisServer, redis_server
from tests.waiting import DEADLINE, eventually, patient_client

pytestmark = pytest.mark.anyio
# A backend that missed a probe on a busy machine and warms up again is not among them: nothing ejected it.
OUT = frozenset(("ejected", "half_open"))


@dataclass
class Fleet:
    """Gateways, and engines behind relays; `routes` is what every gateway serves."""

    server: RedisServer
    engines: list[Process]
    relays: list[Relay]
    gateways: list[Process]
    routes: str

    async def standings(self, gateway: Process) -> list[str]:
        """Return where the backends stand at a gateway."""
        found = await status(gateway)
        by_id = {each["id"]: each["ejection"] for each in found["backends"]}
        return [by_id["p/" + each.url.removeprefix("http://")] for each in self.relays]

    async def all_have_saved(self, times: int = 3) -> None:
        """Wait until each gateway has written what it knows, and read what the others do, so often."""
        with self.server.client() as client:

            async def batches() -> dict[str, int]:
                found = await asyncio.to_thread(client.hgetall, "{tidegate}:incarnations")
                return {each: int(row.split()[0]) for each, row in found.items()}

            before = await batches()
            assert len(before) == 3

            async def have() -> bool:
                after = await batches()
                return all(after[each] >= before[each] + times for each in before)

            await comes(have)

    async def fault(self, which: int, **faults: Any) -> None:
        """Set the faults of an engine; none for one that is well again."""
        async with patient_client() as web:
            answer = await web.post(f"{self.engines[which].urls[0]}/sim/faults", json=faults)
            assert answer.status_code == 200


async def status(gateway: Process) -> dict[str, Any]:
    async with patient_client() as web:
        found: dict[str, Any] = (await web.get(f"{gateway.urls[1]}/admin/status")).json()
        return found


async def ejections(gateway: Process) -> dict[str, float]:
    """Return how many ejections a gateway counts for each reason."""
    found: dict[str, float] = {}
    async with patient_client() as web:
        for line in (await web.get(f"{gateway.urls[1]}/metrics")).text.splitlines():
            if line.startswith("tidegate_ejections_total{"):
                reason = line.partition('reason="')[2].partition('"')[0]
                found[reason] = found.get(reason, 0.0) + float(line.rsplit(" ", 1)[1])
    return found


async def comes(condition: Any, seconds: float = DEADLINE) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def fleet(folder: Path, *, seconds: int = 30) -> AsyncIterator[Fleet]:
    """Run them until the block ends; ejections last for so many seconds."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(redis_server(folder / "redis"))
        fast = ("--time-scale", "0", "--output-tokens", "4")
        running = [await stack.enter_async_context(engine(*fast)) for _ in range(3)]
        fronts = await stack.enter_async_context(relays([each.urls[0] for each in running]))
        outliers = {
            "consecutive_failures": 3,
            "base_ejection_time": f"{seconds}s",
            "max_ejection_time": f"{2 * seconds}s",
        }
        pool = {"backends": [each.url for each in fronts], "outlier_detection": outliers}
        routes = json.dumps({"pools": {"p": pool}, "models": {"m": {"versions": {"one": {"pools": ["p"]}}}}})
        made = Fleet(server, running, fronts, [], routes)
        for number in range(3):
            made.gateways.append(await stack.enter_async_context(gateway(folder / f"gateway-{number}", made)))
        yield made


@asynccontextmanager
async def gateway(folder: Path, of: Fleet) -> AsyncIterator[Process]:
    folder.mkdir()
    async with serving(folder, [], "--state", of.server.url, text=of.routes) as process:

        async def is_ready() -> bool:
            return all(each["state"] == "ready" for each in (await status(process))["backends"])

        await comes(is_ready)
        yield process


class Load:
    """Clients of one gateway until its block ends; `answers` are the statuses that they got."""

    def __init__(self, of: Process, clients: int, pause: float = 0.1) -> None:
        self.answers: list[int] = []
        self._port = int(of.urls[0].rsplit(":", 1)[1])
        self._clients = clients
        self._pause = pause
        self._ended = asyncio.Event()

    async def __aenter__(self) -> "Load":
        self._asking = [asyncio.create_task(self._asks()) for _ in range(self._clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended.set()
        await asyncio.gather(*self._asking)

    async def _asks(self) -> None:
        while not self._ended.is_set():
            self.answers.append((await ask(self._port, chat(stream=len(self.answers) % 2 == 0))).status)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause):
                    await self._ended.wait()


async def test_bad_answers_move_all_and_that_ends_though_the_finder_dies(tmp_path: Path) -> None:
    async with fleet(tmp_path, seconds=5) as all_of_it:
        busy, light, idle = all_of_it.gateways

        async def is_out(gateway: Process) -> bool:
            return (await all_of_it.standings(gateway))[0] in OUT

        async def is_back() -> bool:
            return not await is_out(light)

        async with Load(busy, 4) as much, Load(light, 1, pause=0.5) as little:
            await eventually(lambda: len(much.answers) > 20 and len(little.answers) > 2)
            assert await ejections(busy) == {}
            await all_of_it.fault(0, error_rate=1.0)
            await comes(lambda: is_out(busy))
            await all_of_it.all_have_saved(2)  # what it found is written
            await all_of_it.all_have_saved(2)  # and read
            assert all([await ejections(each) for each in all_of_it.gateways])
            assert {*await ejections(idle)} == {"peer"}
            for each in all_of_it.gateways:
                assert OUT.isdisjoint((await all_of_it.standings(each))[1:])
        assert {*much.answers, *little.answers} == {200}
        busy.process.kill()
        await busy.ended()
        await all_of_it.fault(0)
        async with Load(light, 1) as little:
            await comes(is_back)
        assert {*little.answers} == {200}


async def test_what_some_cannot_reach_stays_for_the_others_and_what_is_gone_leaves_all(tmp_path: Path) -> None:
    async with fleet(tmp_path) as all_of_it, AsyncExitStack() as stack:
        alone, *others = all_of_it.gateways
        await stack.enter_async_context(Load(alone, 4))
        loads = [await stack.enter_async_context(Load(each, 1)) for each in others]
        client = stack.enter_context(all_of_it.server.client())

        for lost in (1, 3):
            await eventually(lambda: all(len(each.answers) > 20 for each in loads))
            for relay in all_of_it.relays[:lost]:
                relay.lose(alone.process.pid)

            async def sees_it(lost: int = lost) -> bool:
                backends = (await status(alone))["backends"]
                return len([each for each in backends if each["state"] != "ready" or each["ejection"] in OUT]) >= lost

            await comes(sees_it)
            await all_of_it.all_have_saved()
            for each in loads:
                each.answers.clear()
            await eventually(lambda: all(len(each.answers) > 20 for each in loads))
            for other in others:
                assert OUT.isdisjoint(await all_of_it.standings(other))
                assert await ejections(other) == {}
            assert {answer for each in loads for answer in each.answers} == {200}
        second, third = others
        all_of_it.relays[0].lose(second.process.pid)

        async def is_lost(gateway: Process, which: int) -> bool:
            url = all_of_it.relays[which].url.removeprefix("http://")
            (state,) = [each["state"] for each in (await status(gateway))["backends"] if each["id"].endswith(url)]
            return bool(state == "not_ready")

        await comes(lambda: is_lost(second, 0))
        await all_of_it.all_have_saved()
        assert OUT.isdisjoint(await all_of_it.standings(third)), "though two of three cannot reach it"
        assert not await is_lost(third, 0)
        assert await asyncio.to_thread(client.zcard, "{tidegate}:ejections") == 0
        async with gateway(tmp_path / "started later", all_of_it) as idle:
            assert OUT.isdisjoint(await all_of_it.standings(idle))
            await all_of_it.relays[1].stop()
            for process in (second, third, idle):
                await comes(partial(is_lost, process, 1))
        assert {answer for each in loads for answer in each.answers} == {200}
