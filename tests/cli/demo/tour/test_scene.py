"""What the tour does to engines, to the gateway and to the load."""

import asyncio
import json
from random import Random

import httpx
import pytest

from gateway.cli.demo.load import Load
from gateway.cli.demo.tour.scene import Scene
from gateway.cli.demo.tour.setting import batch
from gateway.processes.child import ProcessDied
from tests.waiting import DEADLINE

pytestmark = pytest.mark.anyio


class World:
    """Engines and a gateway that answer everything with one status, and what they were asked."""

    def __init__(self, status: int = 200) -> None:
        self.asked: list[tuple[str, object]] = []
        self.headers: list[httpx.Headers] = []
        self.came = asyncio.Event()
        self._status = status
        self.client = httpx.AsyncClient(transport=httpx.MockTransport(self._answer), base_url="http://gateway")
        self.scene = Scene(
            self.client, "http://admin", Load(self.client, 1e6, Random(0), of=batch, service_class="batch")
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((str(request.url), json.loads(request.content)))
        self.headers.append(request.headers)
        self.came.set()
        return httpx.Response(self._status, stream=httpx.ByteStream(b""))


async def test_faults_are_set_and_cleared() -> None:
    world = World()

    await world.scene.set_faults("http://engine:1", slow=2, error_rate=0.5)
    await world.scene.set_faults("http://engine:1")

    assert world.asked == [
        ("http://engine:1/sim/faults", {"slow": 2, "error_rate": 0.5}),
        ("http://engine:1/sim/faults", {}),
    ]


@pytest.mark.parametrize("status", [200, 409])
async def test_a_change_of_the_rollout_is_asked_for_and_may_be_refused(status: int) -> None:
    world = World(status)

    await world.scene.steer("start", "a good version")

    assert world.asked == [("http://admin/admin/models/demo-chat/canary/start", {"reason": "a good version"})]


async def test_an_engine_that_knows_no_faults_ends_the_demo() -> None:
    with pytest.raises(ProcessDied, match="http://engine:1/sim/faults cannot be used"):
        await World(404).scene.set_faults("http://engine:1", slow=2)


async def test_the_flood_is_of_the_class_batch_and_ends_when_told() -> None:
    world = World()

    await world.scene.flood()
    async with asyncio.timeout(DEADLINE):
        await world.came.wait()
    await world.scene.calm()
    await world.scene.calm()  # twice is no harm

    assert {headers["x-gateway-class"] for headers in world.headers} == {"batch"}
    count = len(world.asked)
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(world.asked) == count
