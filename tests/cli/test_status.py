"""`tidegate status` and `tidegate slo` of a gateway whose engine fails, on a clock that is set forward."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.cli.test_asking import tidegate
from tests.e2e.harness import Running, ask, chat, gateway
from tests.e2e.processes import engine
from tests.e2e.test_slo import Ahead

pytestmark = pytest.mark.anyio
OBJECTIVES = {"o": {"availability": {"target": 99.9}, "ttft": {"target": 99, "under": "500ms"}}}


@asynccontextmanager
async def simulated(folder: Path) -> AsyncIterator[tuple[Running, str, Ahead]]:
    """Run a gateway before one simulated engine; yield it, the engine's URL and the clock of SLIs and alerts."""
    async with engine() as process:
        url = process.urls[0]
        text = json.dumps({"objectives": OBJECTIVES, "models": {"m": {"backends": [url], "objective": "o"}}})
        async with gateway(folder, text) as running:
            clock = Ahead(running.app.book)
            running.app.alerter._clock = clock
            yield running, url, clock


async def requests(running: Running, clock: Ahead, count: int, seconds: float) -> None:
    """Send requests one after another, `seconds` apart on the clock of SLIs."""
    for _ in range(count):
        await ask(running.port, chat(stream=False, max_tokens=1))
        await running.quiet()
        clock.jump(seconds)
        running.app.judge.judge()
        running.app.alerter.evaluate()


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


async def test_with_a_page_firing_status_exits_1_names_it_and_says_what_to_do(tmp_path: Path) -> None:
    async with simulated(tmp_path) as (running, url, clock), httpx.AsyncClient(trust_env=False) as web:
        await requests(running, clock, 5, 10.0)
        assert "no problem found" in (await tidegate(running, "status")).stdout

        await web.post(f"{url}/sim/faults", json={"error_rate": 1.0, "error_code": 500})
        await requests(running, clock, 30, 30.0)
        wrong = lines((await tidegate(running, "status", status=1)).stdout)
        (page,) = [line for line in wrong if line.startswith("! page since ")]
        assert "availability of m: at this rate" in page
        assert "30 of 35 requests failed in the last hour" in page
        assert wrong[wrong.index(page) + 1] == "tidegate slo m"
        (availability,) = [line for line in wrong if line.startswith("m o availability 99.9 %")]
        assert " page " in availability
        assert "30 of 35 missed so far" in availability

        told = json.loads((await tidegate(running, "status", "--json", status=1)).stdout)
        assert told["problems"][0]["command"] == "tidegate slo m"
        assert [each["severity"] for each in told["alerts"]] == ["page"]


async def test_before_the_first_request_nothing_is_claimed(tmp_path: Path) -> None:
    async with simulated(tmp_path) as (running, _, _):
        found = lines((await tidegate(running, "status")).stdout)
        (availability,) = [line for line in found if line.startswith("m o availability")]
        assert availability == "m o availability 99.9 % - - - - - no events yet"
        assert not any("100 %" in line for line in found if line.startswith("m o "))
