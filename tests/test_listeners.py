"""What the system lets a process hold."""

import asyncio
from itertools import pairwise

import pytest

from gateway.listeners import Listener, bounded, listener, no_asgi
from gateway.wire.guard import Limits
from tests.waiting import eventually


@pytest.mark.parametrize(
    ("descriptors", "backends", "connections"),
    [
        (1024, 0, 384),
        (1024, 1, 382),
        (1024, 150, 84),
        (1024, 1000, 16),
        (1 << 20, 1000, 100_000),
    ],
)
def test_connections_leave_descriptors_for_backends(descriptors: int, backends: int, connections: int) -> None:
    assert bounded(Limits(), descriptors, range(backends)).connections == connections


def test_fewer_connections_may_be_asked_for() -> None:
    assert bounded(Limits(connections=7), 1 << 20, ()).connections == 7


@pytest.mark.anyio
async def test_a_listener_wakes_once_a_second_and_as_soon_as_it_is_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: list[float] = []

    async def on_tick(of: Listener, _: int) -> bool:
        ticks.append(asyncio.get_running_loop().time())
        return of.should_exit

    monkeypatch.setattr(Listener, "on_tick", on_tick)
    monkeypatch.setattr("gateway.listeners._DATE", 0.3)
    made = listener(no_asgi, asyncio.Protocol, None, lambda _: True)
    serving = asyncio.create_task(made.main_loop())
    await eventually(lambda: len(ticks) == 2)
    monkeypatch.setattr("gateway.listeners._DATE", 1e6)
    await eventually(lambda: len(ticks) == 3)
    assert all(later - earlier > 0.25 for earlier, later in pairwise(ticks))
    made.should_exit = True
    await serving
    assert len(ticks) == 4
