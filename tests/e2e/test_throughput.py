"""Requests that wait through the real listener become slots of throughput, and only those."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.policy.slo.objective import THROUGHPUT
from gateway.policy.slo.series import Kind
from tests.cli.test_asking import tidegate
from tests.e2e.fakes import Call, backends, good
from tests.e2e.harness import ask, chat, gateway
from tests.waiting import HandClock, eventually

pytestmark = pytest.mark.anyio
OBJECTIVE = {"throughput": {"target": 95, "requests_per_second": 1}}


def routes(url: str) -> str:
    pool = {"backends": [{"url": url, "max_concurrency": 1}]}
    model: dict[str, Any] = {"objective": "o", "versions": {"v1": {"pools": ["gpu"]}}, "timeouts": {"total": "1h"}}
    return json.dumps({"pools": {"gpu": pool}, "objectives": {"o": OBJECTIVE}, "models": {"m": model}})


async def test_a_queue_that_is_served_too_slowly_burns_and_what_came_before_it_does_not(tmp_path: Path) -> None:
    release, clock = asyncio.Event(), HandClock()

    async def held(call: Call) -> None:
        await release.wait()
        await good(call)

    async with backends(held) as (fake,), gateway(tmp_path, routes(fake.url), now=clock) as running:
        controller = running.app.control.throughput
        (series,) = [each for each in running.app.data.ledger.get(Kind.MODEL, "m") if each.sli == THROUGHPUT]
        for _ in range(20):
            clock.advance(1.0)
            controller.look()
        headers = "x-request-timeout: 3000\r\n"
        clients = [asyncio.create_task(ask(running.port, chat(), headers=headers)) for _ in range(4)]
        await eventually(lambda: running.waiting == 3)
        for _ in range(40):
            clock.advance(1.0)
            controller.look()
        release.set()
        assert [answer.status for answer in await asyncio.gather(*clients)] == [200] * 4
        await running.quiet()
        running.app.data.observers.flush()
        clock.advance(1000.0)
        controller.look()
        running.app.data.ledger.advance(running.app.data.ledger._moment.now + 1)
        counts = series.windows.count(series.windows.slo)
        assert (counts.good, counts.bad) in {(0, 3), (0, 4)}
        shown = await tidegate(running, "slo", "m")
        assert THROUGHPUT in shown.stdout
