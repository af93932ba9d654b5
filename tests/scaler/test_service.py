"""How streams of the service end, and how many there may be; its way over the network is in e2e/test_scaler.py."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NoReturn

import pytest

from gateway.scaler.wants import Wants
from tests.scaler.published import scaled_object
from tests.scaler.test_wants import Gateway, following
from tests.waiting import DEADLINE, eventually

grpc = pytest.importorskip("grpc")
pytestmark = pytest.mark.anyio


class Ended(Exception):
    """A call was ended, with a status and why."""


class Call:
    """What gRPC gives to a call, as far as the service uses it."""

    async def abort(self, code: Any, details: str) -> NoReturn:
        raise Ended(code, details)


@asynccontextmanager
async def serving(gateway: Gateway, most_streams: int = 10) -> AsyncIterator[Any]:
    from gateway.scaler.service import ExternalScaler

    async with following(gateway) as wants, asyncio.timeout(DEADLINE):
        await eventually(lambda: known(wants))
        yield ExternalScaler(wants, most_streams)


def known(wants: Wants) -> bool:
    with suppress(Exception):
        return wants.is_active("gpu") is False
    return False


def stream(service: Any, pool: str = "gpu") -> AsyncGenerator[bytes, None]:
    return service.stream_is_active(scaled_object(pool).SerializeToString(), Call())  # type: ignore[no-any-return]


async def ending(service: Any, pool: str = "gpu") -> tuple[Any, ...]:
    """Return with which status a stream ends at once, and why."""
    with pytest.raises(Ended) as ended:
        await anext(stream(service, pool))
    return ended.value.args


async def test_the_stream_of_an_unknown_pool_ends_with_the_pools_that_there_are() -> None:
    async with serving(Gateway()) as service:
        why = "the gateway has no pool `cpu` with a `capacity`; there are: gpu"
        assert await ending(service, "cpu") == (grpc.StatusCode.NOT_FOUND, why)
        assert (await ending(service, ""))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stream_ends_when_its_pool_leaves_the_routes() -> None:
    gateway = Gateway()
    async with serving(gateway) as service:
        follower = stream(service)
        await anext(follower)
        gateway.body = []
        with pytest.raises(Ended) as ended:
            await anext(follower)
        assert ended.value.args[0] is grpc.StatusCode.NOT_FOUND


async def test_streams_are_bounded_and_give_their_places_back_however_they_end() -> None:
    async with serving(Gateway(), most_streams=2) as service:
        for _ in range(3):
            one, other = stream(service), stream(service)
            await anext(one)
            await anext(other)
            full = (grpc.StatusCode.RESOURCE_EXHAUSTED, "2 streams are open, and there may be no more")
            assert await ending(service) == full
            assert await service.is_active(scaled_object("gpu").SerializeToString(), Call()) == b""
            await one.aclose()  # the client has left, which is told while nothing is written
            waiting = asyncio.ensure_future(anext(other))
            await asyncio.sleep(0)
            waiting.cancel()  # or while the stream waits for a change
            with pytest.raises(asyncio.CancelledError):
                await waiting
            for _ in range(3):
                assert (await ending(service, "cpu"))[0] is grpc.StatusCode.NOT_FOUND
                assert (await ending(service, ""))[0] is grpc.StatusCode.INVALID_ARGUMENT
