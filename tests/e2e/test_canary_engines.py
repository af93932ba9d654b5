"""Rollouts between simulated engines, behind a gateway process: what people do to the route file and to the process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.processes import Process, engine, serving
from tests.e2e.test_canary import requests, routes, status_of, until

pytestmark = pytest.mark.anyio
OBJECTIVE = {"availability": {"target": 99.9}, "ttft": {"target": 95, "under": "5s"}}
SESSIONS = 300


@asynccontextmanager
async def engines() -> AsyncIterator[tuple[str, str]]:
    fast = ("--time-scale", "0")
    async with engine(*fast) as old, engine(*fast) as new:
        yield old.urls[0], new.urls[0]


async def act(process: Process, action: str, path: str = "/admin/models/m/canary/") -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=process.urls[-1]) as client:
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
            async with httpx.AsyncClient(base_url=process.urls[-1]) as client:
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
