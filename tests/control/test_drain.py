"""Stopping: streams get their time, and nothing that hangs keeps the process from ending."""

import asyncio
import logging

import pytest

from gateway.control import drain as draining
from gateway.control.drain import DrainTimes, closed, drain
from gateway.errors import GatewayError
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
AT_ONCE = DrainTimes(delay=0.0, timeout=0.0)
PATIENT = DrainTimes(delay=3600.0, timeout=3600.0)


class Listener:
    """A listener with connections, which is closed once they have ended."""

    def __init__(self, *, open_requests: int = 0) -> None:
        self.connections = [Connection(self) for _ in range(open_requests)]
        self.closing = False
        self.ended = asyncio.Event()
        if not open_requests:
            self.ended.set()

    async def close(self) -> None:
        self.closing = True
        await self.ended.wait()


class Connection:
    """A connection with a request in progress, which ends when a test, or `give_up`, says so."""

    busy = True

    def __init__(self, listener: Listener) -> None:
        self.told: list[str] = []
        self._listener = listener

    def give_up(self, error: GatewayError) -> None:
        self.told.append(error.code)
        self.end()

    def end(self) -> None:
        self._listener.connections.remove(self)
        if not self._listener.connections:
            self._listener.ended.set()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is not closed in time run out at once."""
    monkeypatch.setattr(draining, "_CLOSE_SECONDS", 0.05)
    monkeypatch.setattr(draining, "_HURRIED_SECONDS", 0.01)


async def test_without_requests_it_is_over_once_the_listener_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    listener = Listener()
    with caplog.at_level(logging.INFO):
        await drain(AT_ONCE, lambda: listener.connections, listener.close, asyncio.Event())
    assert listener.closing
    assert "draining, 0 requests open" in caplog.text


async def test_the_listener_stays_open_while_load_balancers_look_for_another() -> None:
    listener, hurry = Listener(), asyncio.Event()
    stopping = asyncio.create_task(drain(PATIENT, lambda: listener.connections, listener.close, hurry))
    await asyncio.sleep(0)
    assert not listener.closing
    hurry.set()
    await stopping
    assert listener.closing


async def test_streams_that_end_in_time_hear_of_nothing() -> None:
    listener = Listener(open_requests=2)
    first, second = listener.connections
    stopping = asyncio.create_task(
        drain(DrainTimes(timeout=3600.0), lambda: listener.connections, listener.close, asyncio.Event())
    )
    await eventually(lambda: listener.closing)
    first.end()
    assert not stopping.done()
    second.end()
    await stopping
    assert first.told == second.told == []


async def test_streams_that_last_longer_are_told_that_the_gateway_stops(caplog: pytest.LogCaptureFixture) -> None:
    listener = Listener(open_requests=2)
    connections = list(listener.connections)
    await drain(AT_ONCE, lambda: listener.connections, listener.close, asyncio.Event())
    assert [connection.told for connection in connections] == [["draining"], ["draining"]]
    assert "drain timeout reached" in caplog.text


async def test_a_second_signal_cuts_the_wait_for_streams_short() -> None:
    listener, hurry = Listener(open_requests=1), asyncio.Event()
    (connection,) = listener.connections
    stopping = asyncio.create_task(
        drain(DrainTimes(timeout=3600.0), lambda: listener.connections, listener.close, hurry)
    )
    await eventually(lambda: listener.closing)
    hurry.set()
    await stopping
    assert connection.told == ["draining"]


@pytest.mark.usefixtures("quick")
async def test_what_hangs_as_it_closes_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    hangs, hurry = asyncio.Event(), asyncio.Event()
    await closed(hangs.wait(), "the store", hurry)
    assert [vars(record)["what"] for record in caplog.records] == ["the store"]
    hurry.set()
    await closed(hangs.wait(), "the store", hurry)
    assert len(caplog.records) == 2


async def test_what_breaks_as_it_closes_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> None:
        raise OSError("no disk")

    await closed(broken(), "the store", asyncio.Event())
    assert "could not be closed" in caplog.text
    assert "no disk" in caplog.text
