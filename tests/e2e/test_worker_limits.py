"""Limits, classes and quotas hold over the workers of one gateway."""

import asyncio
import json
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fakes import DONE, LAST_CHUNK, ROLE, STREAM_HEAD, Call, backends, chunked, event
from tests.e2e.harness import ask, chat
from tests.e2e.machine import Machine, machine
from tests.e2e.test_admission import bearer, key, routes
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
PRIORITIES = {"interactive": 0, "standard": 10, "batch": 20}


def patient(url: str, **more: Any) -> str:
    """Return routes where every request waits as long as a busy machine takes to send all of them."""
    classes = {name: {"priority": priority, "max_queue_wait": "10m"} for name, priority in PRIORITIES.items()}
    text = routes(url, classes=classes, **more)
    return text.replace('"connect": "20s"', '"connect": "20s", "first_token": "5m", "stall": "5m", "total": "10m"')


class Engine:
    """Answers when it is told to, and notes who was there: what each asked, in order, and the most at once."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.inside = self.most = 0
        self.opened = asyncio.Event()

    async def answer(self, call: Call) -> None:
        self.order.append(json.loads(call.body)["messages"][0]["content"])
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.opened.wait()
            await asyncio.sleep(0)
            await call.send(STREAM_HEAD, chunked(ROLE), chunked(event("x", "stop"), DONE) + LAST_CHUNK)
        finally:
            self.inside -= 1


def said(text: str) -> dict[str, Any]:
    return chat() | {"messages": [{"role": "user", "content": text}]}


async def asking(served: Machine, text: str, headers: str = "") -> int:
    return (await ask(served.port, said(text), headers=headers)).status


async def waits(served: Machine, count: int) -> None:
    def waiting(status: dict[str, Any]) -> bool:
        queues = [version["waiting"] for model in status["models"] for version in model["versions"]]
        return sum(sum(each.values()) for each in queues) == count

    await served.until(waiting)


def replaced(pid: int, status: dict[str, Any]) -> bool:
    serving = [each["pid"] for each in status["workers"] if each["stage"] == "serving"]
    return pid not in serving and len(serving) == 2


@pytest.mark.parametrize("slots", [1, 3])
async def test_workers_never_exceed_a_limit_together_and_serve_whatever_waits(tmp_path: Path, slots: int) -> None:
    engine = Engine()
    async with backends(engine.answer) as (fake,), machine(tmp_path, [], text=patient(fake.url, slots=slots)) as served:
        asked = [asyncio.create_task(asking(served, "hi")) for _ in range(16)]
        await waits(served, 16 - slots)
        assert engine.inside == slots
        engine.opened.set()
        assert await asyncio.gather(*asked) == [200] * 16
        assert engine.most == slots


async def test_no_lower_class_gets_a_slot_before_a_higher_one_that_waits_at_another_worker(tmp_path: Path) -> None:
    engine = Engine()
    async with backends(engine.answer) as (fake,), machine(tmp_path, [], text=patient(fake.url, slots=1)) as served:
        asked = [asyncio.create_task(asking(served, "holds"))]
        await eventually(lambda: engine.inside == 1)
        for count, name in enumerate(["batch"] * 8 + ["interactive"] * 8, 1):
            asked.append(asyncio.create_task(asking(served, name, f"x-gateway-class: {name}\r\n")))
            await waits(served, count)
        workers = (await served.status())["workers"]
        assert len(workers) == 2
        engine.opened.set()
        assert await asyncio.gather(*asked) == [200] * 17
        assert engine.order == ["holds"] + ["interactive"] * 8 + ["batch"] * 8
        assert engine.most == 1


async def test_the_slots_of_a_killed_worker_come_back(tmp_path: Path) -> None:
    engine = Engine()
    async with backends(engine.answer) as (fake,), machine(tmp_path, [], text=patient(fake.url, slots=2)) as served:
        asked = [asyncio.create_task(asking(served, "hi")) for _ in range(12)]
        await waits(served, 10)
        for pid in [each["pid"] for each in await served.serving_workers()]:
            os.kill(pid, signal.SIGKILL)
            await served.until(partial(replaced, pid))
        engine.opened.set()
        await asyncio.gather(*asked, return_exceptions=True)
        assert await asyncio.gather(*(asking(served, "again") for _ in range(4))) == [200] * 4


async def test_a_burst_of_a_tenant_is_admitted_once_over_workers(tmp_path: Path) -> None:
    engine = Engine()
    engine.opened.set()
    tenants = {"acme": {"key_sha256": key("sk-acme"), "limits": {"requests_per_minute": 20}}}
    text = routes("URL", slots=50, tenants=tenants)
    async with backends(engine.answer) as (fake,), machine(tmp_path, [], text=text.replace("URL", fake.url)) as served:
        began = time.monotonic()
        statuses = await asyncio.gather(*(asking(served, "hi", bearer("sk-acme")) for _ in range(40)))
        refilled = (time.monotonic() - began) * 20 / 60
        assert 20 <= statuses.count(200) <= 21 + refilled
        assert set(statuses) == {200, 429}
        requests = [each["requests"] for each in (await served.status())["workers"]]
        assert all(requests), "the system divides connections among them"
