"""The service as a gRPC client meets it: how streams end, and how many there may be."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from gateway.scaler.wants import Wants
from tests.e2e.grpc_client import call
from tests.scaler.published import scaled_object
from tests.scaler.test_wants import Gateway, following
from tests.waiting import DEADLINE

grpc = pytest.importorskip("grpc")
pytestmark = pytest.mark.anyio


@asynccontextmanager
async def channel_to(wants: Wants, **bounds: int) -> AsyncIterator[Any]:
    """Serve these wants, and connect to that."""
    from gateway.scaler.service import serve

    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(wants, "127.0.0.1:0", None, port.set_result, **bounds))
    try:
        async with asyncio.timeout(DEADLINE), grpc.aio.insecure_channel(f"127.0.0.1:{await port}") as channel:
            yield channel
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


def stream(channel: Any, pool: str = "gpu") -> Any:
    return call(channel, "StreamIsActive", "IsActiveResponse", stream=True)(scaled_object(pool))


async def refusal(channel: Any, pool: str = "gpu") -> tuple[Any, str]:
    """Return with which status a stream ends at once, and why."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stream(channel, pool).read()
    return refused.value.code(), refused.value.details()


async def test_the_stream_of_an_unknown_pool_ends_with_the_pools_that_there_are() -> None:
    async with following(Gateway()) as wants, channel_to(wants) as channel:
        why = "the gateway has no pool `cpu` with a `capacity`; there are: gpu"
        assert await refusal(channel, "cpu") == (grpc.StatusCode.NOT_FOUND, why)
        code, _ = await refusal(channel, "")
        assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stream_ends_when_its_pool_leaves_the_routes() -> None:
    gateway = Gateway()
    async with following(gateway) as wants, channel_to(wants) as channel:
        open_one = stream(channel)
        assert (await open_one.read()).result is False
        gateway.body = []
        with pytest.raises(grpc.aio.AioRpcError):
            await open_one.read()
        assert await open_one.code() is grpc.StatusCode.NOT_FOUND


async def test_streams_are_bounded_and_give_their_places_back() -> None:
    async with following(Gateway()) as wants, channel_to(wants, most_streams=2) as channel:
        for _ in range(3):
            streams = await opened(channel, 2)
            assert await refusal(channel) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "2 streams are open, and there may be no more",
            )
            assert (await call(channel, "IsActive", "IsActiveResponse")(scaled_object("gpu"))).result is False
            for each in streams:
                each.cancel()
            (kept,) = await opened(channel, 1)
            for _ in range(3):
                code, _ = await refusal_when_free(channel, "cpu")
                assert code is grpc.StatusCode.NOT_FOUND
            kept.cancel()


async def opened(channel: Any, count: int) -> list[Any]:
    """Return so many streams that have told something, as soon as there is a place for each.

    The server hears a moment later that a client has left.
    """
    streams: list[Any] = []
    while len(streams) < count:
        streams.append(stream(channel))
        try:
            await streams[-1].read()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            streams.pop()
            await asyncio.sleep(0.005)
    return streams


async def refusal_when_free(channel: Any, pool: str) -> tuple[Any, str]:
    """Return how a stream ends once there was a place for it."""
    while True:
        code, why = await refusal(channel, pool)
        if code is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            return code, why
        await asyncio.sleep(0.005)
