"""What the admin listener of a machine lets through to the worker that leads."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from gateway.admin.protection import AdminToken
from gateway.workers.admin import MachineAdmin

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
async def test_the_leading_worker_answers_whatever_it_is_asked(method: str) -> None:
    asked: list[tuple[str, str]] = []

    async def ask(_worker: object, method: str, target: str, *_: object) -> httpx.Response:
        await asyncio.sleep(0)
        asked.append((method, target))
        return httpx.Response(200, json={})

    roster = SimpleNamespace(leader=object())
    view = cast(Any, SimpleNamespace(roster=roster, asking=SimpleNamespace(ask=ask)))
    app = MachineAdmin(view).app("127.0.0.1", AdminToken(None, None))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        answer = await client.request(method, "/admin/deployments/run-42")
    assert (answer.status_code, asked) == (200, [(method, "/admin/deployments/run-42")])
