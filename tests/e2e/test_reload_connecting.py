"""Who is connecting to an engine while the routes change gets an answer as if they had not."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.exchange import AttemptEnd, Outcome
from gateway.wire.dialer import Dialer
from gateway.wire.upstream import Upstream
from tests.e2e.fakes import JSON_ANSWER, Call, FakeBackend, backends, good, whole
from tests.e2e.harness import Running, ask, chat, gateway
from tests.e2e.raw_client import Answer
from tests.e2e.test_reload_waiting import reload
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


def routes(*fakes: FakeBackend, connect: str = "20s", **more: Any) -> str:
    entries = [{"url": fake.url, **more} for fake in fakes]
    return json.dumps({"models": {"m": {"backends": entries, "timeouts": {"connect": connect, "total": "2m"}}}})


class SlowNetwork:
    """Connections to some ports come about when `open` is set."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ports: set[int] = set()
        self.open = asyncio.Event()
        self.waiting = 0
        dial = Dialer.dial

        async def slow(dialer: Dialer, address: str) -> Upstream:
            if dialer.port in self.ports:
                self.waiting += 1
                await self.open.wait()
            return await dial(dialer, address)

        patch.setattr(Dialer, "dial", slow)


@pytest.mark.parametrize("stream", [True, False])
async def test_who_connects_to_a_backend_that_is_taken_away_is_served_there(
    tmp_path: Path, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = SlowNetwork(monkeypatch)
    async with backends(good, good) as (old, new), gateway(tmp_path, routes(old)) as running:
        network.ports.add(old.port)
        asked = asyncio.create_task(ask(running.port, chat(stream=stream)))
        await eventually(lambda: network.waiting == 1)
        await reload(running, tmp_path, routes(new))
        network.open.set()
        assert (await asked).status == 200
        assert len((await running.settled()).attempts) == 1
        await old.calls[0].until_gone()  # it has left the routes: no connection to it is kept
        assert new.calls == []


@pytest.mark.parametrize("stream", [True, False])
async def test_who_connects_in_vain_to_a_backend_that_was_taken_away_goes_elsewhere(
    tmp_path: Path, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = SlowNetwork(monkeypatch)
    async with backends(good, good) as (dead, well), gateway(tmp_path, routes(dead, well, connect="1s")) as running:
        network.ports.add(dead.port)
        asked: list[asyncio.Task[Answer]] = []
        while not network.waiting:
            asked.append(asyncio.create_task(ask(running.port, chat(stream=stream))))
            await eventually(lambda: bool(network.waiting) or asked[-1].done())
        await reload(running, tmp_path, routes(well, connect="1s"))
        assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
        assert (await running.settled(len(asked))).outcome is Outcome.OK
        assert running.records.retries == [AttemptEnd.CONNECT_FAILED]


@pytest.mark.parametrize("change", [{"max_concurrency": 3}, {"api_key_file": "key"}])
async def test_a_backend_that_is_described_anew_keeps_its_connections_and_who_is_connecting(
    tmp_path: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, gate = SlowNetwork(monkeypatch), asyncio.Event()

    async def gated(call: Call) -> None:
        await gate.wait()
        await call.send(whole(b"200 OK", JSON_ANSWER))

    async with backends(gated) as (fake,), gateway(tmp_path, routes(fake)) as running:
        first = asyncio.create_task(ask(running.port, chat(stream=False)))
        await eventually(lambda: len(fake.calls) == 1)
        network.ports.add(fake.port)
        second = asyncio.create_task(ask(running.port, chat(stream=False)))
        await eventually(lambda: network.waiting == 1)
        (tmp_path / "key").write_text("another")
        await reload(running, tmp_path, routes(fake, **change))
        gate.set()
        network.open.set()
        assert [(await each).status for each in (first, second)] == [200, 200]
        await eventually(lambda: running.backend().pool.idle == 2)
        assert (await ask(running.port, chat(stream=False))).status == 200
        assert (fake.connections, running.in_flight) == (2, 0)
        assert (b"authorization: Bearer another" in fake.calls[-1].head) is ("api_key_file" in change)


async def test_hundreds_of_edits_beside_traffic_strand_nobody(tmp_path: Path) -> None:
    async def leave(call: Call) -> None:
        await good(call)
        call.close()  # so that every request makes a connection

    async def edited(running: Running, fake: FakeBackend) -> None:
        for edit in range(200):
            await reload(running, tmp_path, routes(fake, max_concurrency=32 + edit % 7))

    async with backends(leave) as (fake,), gateway(tmp_path, routes(fake)) as running:
        editing = asyncio.create_task(edited(running, fake))
        count = 0
        while not editing.done():
            assert (await ask(running.port, chat(stream=False))).status == 200
            count += 1
        await editing
        await running.settled(count)
