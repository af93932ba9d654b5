"""Two machines with two workers each on one redis-server: what holds for a machine, and what for all processes."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.fakes import DONE, LAST_CHUNK, ROLE, STREAM_HEAD, Call, FakeBackend, backends, chunked, event, whole
from tests.e2e.harness import ask, chat
from tests.e2e.machine import Machine, machine
from tests.redis_server import redis_server
from tests.waiting import DEADLINE

pytestmark = pytest.mark.anyio


class Engines:
    """What the engines do. One may be broken; `most` are the most requests at once that a machine sent to each."""

    def __init__(self) -> None:
        self.most: Counter[tuple[str, int]] = Counter()
        self.broken = 0
        self._inside: Counter[tuple[str, int]] = Counter()

    async def answer(self, call: Call) -> None:
        port: int = call.writer.get_extra_info("sockname")[1]
        if port == self.broken:
            await call.send(whole(b"500 Internal Server Error", b"{}"))
            return
        of = call.json["user"], port
        self._inside[of] += 1
        self.most[of] = max(self.most[of], self._inside[of])
        try:
            await call.send(STREAM_HEAD, chunked(ROLE))
            await asyncio.sleep(0.01)
            await call.send(chunked(event("x", "stop"), DONE) + LAST_CHUNK)
        finally:
            self._inside[of] -= 1


@asynccontextmanager
async def machines(folder: Path, engines: list[FakeBackend]) -> AsyncIterator[list[Machine]]:
    """Run them until the block ends."""
    pool = {
        "backends": [{"url": each.url, "max_concurrency": 1} for each in engines],
        "outlier_detection": {"consecutive_failures": 3, "base_ejection_time": "60s"},
    }
    text = json.dumps({"pools": {"p": pool}, "models": {"m": {"versions": {"one": {"pools": ["p"]}}}}})
    with redis_server(folder / "redis") as server:
        async with AsyncExitStack() as stack:
            running = []
            for name in "ab":
                (folder / name).mkdir()
                served = machine(folder / name, [], "--state", server.url, text=text)
                running.append(await stack.enter_async_context(served))
            yield running


async def asking(served: Machine, name: str, requests: int) -> set[int]:
    return {(await ask(served.port, chat() | {"user": name})).status for _ in range(requests)}


async def ejections(served: Machine) -> Counter[str]:
    """Return how many ejections the workers of a machine count together, by reason."""
    found: Counter[str] = Counter()
    for (name, labels), value in (await served.scrape()).items():
        if name == "tidegate_ejections_total":
            found[json.loads(labels)["reason"]] += int(value)
    return found


async def test_a_limit_of_one_holds_on_each_machine_and_bad_answers_move_all_workers(tmp_path: Path) -> None:
    engines = Engines()
    async with backends(*[engines.answer] * 3) as found, machines(tmp_path, found) as running:
        clients = [asking(each, name, 5) for each, name in zip(running, "ab", strict=True) for _ in range(8)]
        assert set().union(*await asyncio.gather(*clients)) == {200}
        assert engines.most == {(name, each.port): 1 for name in "ab" for each in found}
        for machine_ in running:
            assert all(worker["requests"] for worker in (await machine_.status())["workers"])

        engines.broken = found[0].port
        moved: list[Counter[str]] = []
        async with asyncio.timeout(2 * DEADLINE):
            while [each.total() for each in moved] != [2, 2]:
                assert await asking(running[0], "a", 4) == {200}
                moved = [await ejections(each) for each in running]
        assert moved[0]["peer"] <= 1, "one of its workers has found it"
        assert moved[1] == {"peer": 2}, "both of its workers have heard of it"
