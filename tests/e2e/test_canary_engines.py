"""Rollouts between simulated engines, behind a gateway process: what people do to the route file and to the process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import ask, chat
from tests.e2e.processes import Process, engine, serving
from tests.e2e.test_canary import requests, routes, status_of, until
from tests.waiting import patient_client

pytestmark = pytest.mark.anyio
OBJECTIVE = {"availability": {"target": 99.9}, "ttft": {"target": 95, "under": "5s"}}
SESSIONS = 300


@asynccontextmanager
async def engines() -> AsyncIterator[tuple[str, str]]:
    fast = ("--time-scale", "0")
    async with engine(*fast) as old, engine(*fast) as new:
        yield old.urls[0], new.urls[0]


async def act(process: Process, action: str, path: str = "/admin/models/m/canary/") -> dict[str, Any]:
    async with patient_client(base_url=process.urls[-1]) as client:
        answer = await client.post(f"{path}{action}", json={"reason": "lunch"})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


async def test_a_paused_rollout_gains_no_request_by_an_edit_of_its_steps(tmp_path: Path) -> None:
    """16 of 300 requests became 75, without a record, and history said that it had always been so."""
    async with engines() as (old, new):
        text = routes(old, new, objective=OBJECTIVE, steps=[5, 50], hold="60s")
        async with serving(tmp_path, [], text=text) as process:
            await until(process, lambda seen: seen["phase"] == "step")
            await act(process, "pause")
            before = await requests(process, SESSIONS)
            history = (await status_of(process))["history"]
            edited = routes(old, new, objective=OBJECTIVE, steps=[25, 50], hold="60s")
            await asyncio.to_thread((tmp_path / "served.yaml").write_text, edited)
            await until(process, lambda seen: seen["steps"] == [25, 50, 95])
            assert await requests(process, SESSIONS) == before
            after = await status_of(process)
            assert (after["phase"], after["weight"], after["history"]) == ("paused", 5.0, history)
            async with patient_client(base_url=process.urls[-1]) as client:
                record = (await client.get("/admin/audit")).json()[0]
            assert (record["actor"], record["action"]) == ("reload", "change")


async def test_without_lasting_state_it_is_said_that_a_promotion_will_not_survive(tmp_path: Path) -> None:
    async with engines() as (old, new):
        text = routes(old, new, objective=OBJECTIVE, hold="60s")
        async with serving(tmp_path, [], "--state", "memory://", text=text) as process:
            await process.said("a promotion or rollback will not survive: name a file with --state")
            await until(process, lambda seen: seen["phase"] == "step")
            promoted = await act(process, "promote")
            assert set(await requests(process, 20)) == {"v2"}
            (note,) = promoted["notes"]
            assert "start `tidegate serve` with --state, or name the version in the routes" in note
        async with serving(tmp_path, [], "--state", "memory://", text=text) as process:
            await process.said("a promotion or rollback will not survive: name a file with --state")
            again = await until(process, lambda seen: seen["phase"] == "step")
            assert again["weight"] == 10.0


async def fail(share: float, *urls: str) -> None:
    """Let engines answer so large a share of their calls with 500."""
    async with patient_client() as client:
        for url in urls:
            answer = await client.post(f"{url}/sim/faults", json={"error_rate": share, "error_code": 500})
            assert answer.status_code == 200, answer.text


async def fresh(process: Process, count: int, name: str) -> int:
    """Send requests of sessions that were never seen, ten at a time; return how many failed."""
    port = int(process.urls[0].rsplit(":", 1)[1])
    gate = asyncio.Semaphore(10)

    async def one(number: int) -> bool:
        async with gate:
            answer = await ask(port, chat(max_tokens=2), headers=f"x-session-id: {name}{number}\r\n")
            return answer.status != 200

    return sum(await asyncio.gather(*(one(number) for number in range(count))))


async def test_a_newcomers_candidate_is_not_paused_for_the_failures_of_its_first_minute(tmp_path: Path) -> None:
    """A good canary was paused after 8 s for the budget of a process that was a minute old."""
    async with engines() as (old, new):
        text = routes(old, new, objective=OBJECTIVE, start="manual", hold="300ms", last_hold="300ms")
        async with serving(tmp_path, [], text=text) as process:
            await fail(0.3, old)
            assert await fresh(process, 40, "early")
            await fail(0.0, old)
            await act(process, "start")
            await until(process, lambda seen: seen["phase"] == "step")
            for turn in range(200):
                await fresh(process, 50, f"later{turn}-")
                status = await status_of(process)
                assert status["phase"] in {"step", "promoted"}, status["decision"]
                if status["phase"] == "promoted":
                    break
            assert status["phase"] == "promoted"
            assert "paused" not in {each["phase"] for each in status["history"]}


async def test_an_incident_of_both_versions_rolls_no_equal_candidate_back(tmp_path: Path) -> None:
    """The guard rolled equals back, in the last step above all."""
    async with engines() as (old, new):
        text = routes(old, new, objective=OBJECTIVE, steps=[50, 95], hold="60s")
        async with serving(tmp_path, [], text=text) as process:
            await until(process, lambda seen: seen["phase"] == "step")
            await fresh(process, 100, "before")
            await fail(0.3, old, new)
            assert await fresh(process, 300, "meanwhile") > 20
            await fail(0.0, old, new)
            await fresh(process, 100, "after")
            status = await status_of(process)
            assert (status["phase"], status["weight"]) == ("step", 50.0), status["decision"]
