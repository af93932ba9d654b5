"""Connections to an API server, which are closed however asking there ends."""

import asyncio

import pytest

from gateway.discovery.kubernetes.api import connected
from gateway.discovery.kubernetes.cluster import Cluster
from gateway.discovery.kubernetes.problems import ApiError
from gateway.discovery.kubernetes.resources import slices_of
from loadtest.bench.listening import Listener
from tests.waiting import eventually

pytestmark = pytest.mark.anyio

SLICES = slices_of("vllm", "serving")


class Mute:
    """A server that is stopped: its machine accepts connections, and it says nothing."""

    def __init__(self) -> None:
        self.asked = self.left = 0

    async def serve(self, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(1)
        self.asked += 1
        while await reader.read(2**16):
            pass
        self.left += 1


@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize("cancelled", [False, True], ids=["too late", "cancelled"])
async def test_a_connection_to_a_server_that_says_nothing_is_closed(scheme: str, *, cancelled: bool) -> None:
    mute = Mute()
    listener = Listener(mute.serve)
    cluster = Cluster(f"{scheme}://127.0.0.1:{await listener.start()}")

    async def ask() -> None:
        async with connected(cluster, answer=60.0 if cancelled else 0.2) as api:
            await api.list(SLICES)

    try:
        asking = asyncio.create_task(ask())
        await eventually(lambda: mute.asked == 1)
        if cancelled:
            asking.cancel()
        # What has failed is held, so that no connection is closed since it is collected.
        with pytest.raises(asyncio.CancelledError if cancelled else ApiError) as _failed:
            await asking
        await eventually(lambda: mute.left == 1, 10.0)
    finally:
        await listener.stop()
