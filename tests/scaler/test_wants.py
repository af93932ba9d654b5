"""What a gateway's admin listener tells of wants is followed; what it does not tell is unknown."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest

from gateway.scaler.wants import UnknownPool, UnknownWant, Wants
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


class Gateway:
    """Answers as a test says."""

    def __init__(self) -> None:
        self.status, self.body = 200, [want(0)]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/admin/capacity"
        return httpx.Response(self.status, json=self.body)


def want(target: int | None, value: Any = None, problem: str = "") -> dict[str, Any]:
    return {"pool": "gpu", "target": target, "value": target if value is None else value, "problem": problem}


@asynccontextmanager
async def following(gateway: Gateway) -> AsyncIterator[Wants]:
    transport = httpx.MockTransport(gateway)
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
        wants = Wants(client, interval=0.001)
        task = asyncio.create_task(wants.run())
        try:
            yield wants
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def told(wants: Wants, pool: str = "gpu") -> float | str:
    try:
        return wants.value(pool)
    except (UnknownWant, UnknownPool) as error:
        return str(error)


async def test_it_tells_the_value_and_not_the_target() -> None:
    gateway = Gateway()
    gateway.body = [want(9, 8.998)]
    async with following(gateway) as wants:
        assert told(wants) == "the gateway has not been asked yet"
        await eventually(lambda: told(wants) == 8.998)
        assert told(wants, "cpu") == "the gateway has no pool `cpu` with a `capacity`; there are: gpu"


async def test_what_is_unknown_is_no_number() -> None:
    gateway = Gateway()
    gateway.body = [want(None, problem="no gateway leads")]
    async with following(gateway) as wants:
        await eventually(lambda: told(wants) == "what pool `gpu` wants is not known: no gateway leads")
        gateway.body = [want(3, -1.0)]
        await eventually(lambda: told(wants) == "what pool `gpu` wants is no number")


async def test_a_first_replica_is_pushed_and_nothing_while_it_is_unknown() -> None:
    gateway, seen = Gateway(), list[bool]()
    async with following(gateway) as wants:

        async def watch() -> None:
            async for each in wants.activity("gpu"):
                seen.append(each)

        task = asyncio.create_task(watch())
        await eventually(lambda: seen == [False])
        gateway.status = 503
        await asyncio.sleep(0.05)
        gateway.status, gateway.body = 200, [want(1)]
        await eventually(lambda: seen == [False, True])
        gateway.body = [want(None)]
        await asyncio.sleep(0.05)
        gateway.body = [want(5)]
        await asyncio.sleep(0.05)
        assert seen == [False, True], "only changes are told"
        gateway.body = [want(0)]
        await eventually(lambda: seen == [False, True, False])
        task.cancel()


async def test_an_answer_that_is_none_leaves_the_last_for_a_while() -> None:
    gateway = Gateway()
    gateway.body = [want(2)]
    async with following(gateway) as wants:
        await eventually(lambda: told(wants) == 2.0)
        gateway.body = {"odd": 1}  # type: ignore[assignment]
        await asyncio.sleep(0.05)
        assert told(wants) == 2.0
