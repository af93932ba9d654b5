"""What workers have counted is known when they are killed, though nobody has asked for it."""

import asyncio
import socket
import subprocess
from collections.abc import Callable, Collection, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.config.table import RouteTable
from gateway.control.reload import Reloader
from gateway.listeners import Addresses, Sockets, bind
from gateway.workers.admin import MachineAdmin, MachineView
from gateway.workers.inherited import Inherited
from gateway.workers.process import Stage, WorkerProcess
from gateway.workers.roster import Roster
from gateway.workers.worker import Worker
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
COUNTS = b"# TYPE tidegate_requests_total counter\ntidegate_requests_total 7\n"


class Counting:
    """A gateway that has counted something."""

    def __init__(self) -> None:
        self.stopped = asyncio.Event()
        self.asked = 0
        self.held: list[socket.socket] = []

    def hold(self, _: RouteTable, sockets: Sockets) -> "Counting":
        self.held.append(sockets.admin)
        return self

    async def run(self, started: Callable[[Addresses], None], drained: Callable[[], Coroutine[Any, Any, None]]) -> None:
        del drained
        started(Addresses("", ""))
        await self.stopped.wait()
        for each in self.held:
            each.close()

    def stop(self) -> None:
        self.stopped.set()

    def retire(self) -> None:
        raise AssertionError

    async def accept_from(self, sockets: Collection[socket.socket]) -> None:
        self.held += sockets

    async def exposition(self) -> bytes:
        self.asked += 1
        return COUNTS

    async def take_routes(self, data: bytes) -> None:
        raise AssertionError(data)

    def set_drained(self, backend: str, *, drained: bool) -> None:
        raise AssertionError(backend, drained)

    def wanting(self) -> frozenset[str]:
        return frozenset()

    def wake(self, pools: Collection[str]) -> None:
        raise AssertionError(pools)

    async def reread(self) -> None:
        raise AssertionError

    def leads(self) -> bool:
        return True


@pytest.fixture
def pid() -> Iterator[int]:
    """A process that may be killed."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process.pid
        process.kill()


async def test_a_worker_tells_them_now_and_then_and_they_are_read_when_it_has_ended(
    tmp_path: Path, pid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.workers.admin.FRESH", 0.01)
    ours, theirs = socket.socketpair()
    admin = str(tmp_path / "admin")
    serving = Counting()
    clients = bind("127.0.0.1", 0)
    own = Inherited(theirs.detach(), (clients.detach(),), admin, "memory://", lasting=True, table="")
    table = cast(RouteTable, SimpleNamespace())
    worker = Worker(own, serving.hold, lambda: table)
    over: list[bytes] = []
    roster = Roster(
        1,
        1,
        lambda generation, place: WorkerProcess(pid, generation, place, admin, 0.0, ours),
        lambda: ({"do": "routes", "number": 1}, b""),
        lambda ended: over.append(ended.last),
    )
    view = MachineView(roster, cast(Reloader, None), 0.0, lambda: False)
    running = asyncio.create_task(worker.run())
    roster.fill()
    (known,) = roster.workers
    await roster.until(lambda: known.stage is Stage.SERVING)
    keeping = asyncio.create_task(MachineAdmin(view).keep_counts())
    await eventually(lambda: known.last == COUNTS and serving.asked > 1)
    keeping.cancel()
    assert view.expositions.requests(pid) == 0, "nothing is made of them while it lives"
    roster.stop()
    await running
    worker._channel.close()  # noqa: SLF001 - as its process does by ending
    await roster.empty()
    assert over == [COUNTS]
