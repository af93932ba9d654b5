"""What a gateway's admin listener tells of wants is followed; what it does not tell is unknown."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest

from gateway.scaler.wants import UnknownPool, UnknownWant, Wants
from tests.waiting import DEADLINE, eventually

pytestmark = pytest.mark.anyio


class Gateway:
    """Answers as a test says."""

    def __init__(self) -> None:
        self.status, self.body = 200, [want(0)]
        self.error: Exception | None = None
        self.asked = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/admin/capacity"
        self.asked += 1
        if self.error is not None:
            raise self.error
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


@pytest.mark.parametrize("error", [AttributeError("no such thing"), RecursionError(), OSError("too many open files")])
async def test_it_goes_on_after_an_unforeseen_error(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    gateway = Gateway()
    gateway.error = error
    async with following(gateway) as wants:
        await eventually(lambda: gateway.asked > 3)
        assert "does not tell" in str(told(wants))
        (logged,) = caplog.records
        assert logged.message == "wants cannot be read"
        assert logged.exc_info, "a fault of the program: the log says where"
        gateway.error = None
        await eventually(lambda: told(wants) == 0.0)


async def test_an_outage_is_logged_once_by_the_kind_of_its_errors(caplog: pytest.LogCaptureFixture) -> None:
    gateway = Gateway()
    async with following(gateway) as wants:
        await eventually(lambda: told(wants) == 0.0)
        for gateway.error in (httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.ConnectError("again")):
            gateway.asked = 0
            await eventually(lambda: gateway.asked > 2)
        reasons = [each.reason for each in caplog.records if each.message == "wants cannot be read"]  # type: ignore[attr-defined]
        assert [each.rpartition(": ")[-1] for each in reasons] == ["refused", "slow"]


async def test_the_activity_of_a_pool_that_there_is_not_ends() -> None:
    async with following(Gateway()) as wants, asyncio.timeout(DEADLINE):
        with pytest.raises(UnknownPool, match="no pool `cpu`"):
            [each async for each in wants.activity("cpu")]
