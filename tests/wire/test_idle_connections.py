"""Connections that are idle are used again, the freshest first, while their engine keeps them open."""

import socket
from collections.abc import Iterator

import pytest

from gateway.wire import idle_connections
from gateway.wire.idle_connections import IdleConnections
from gateway.wire.idle_limit import IDLE_SECONDS
from gateway.wire.names import Name
from gateway.wire.outbox import Outbox
from gateway.wire.upstream import Upstream
from tests.waiting import HandClock
from tests.wire.playbook import Wire


class Idle:
    """What keeps connections, its clock, and the engine's ends of them."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.name = Name("127.0.0.1", 1, self.clock)
        self.connections = IdleConnections(self.name, self.clock)
        self.engines: list[socket.socket] = []
        self._sockets: list[socket.socket] = []

    def connected(self, address: str = "127.0.0.1") -> Upstream:
        """Return a new connection."""
        ours, theirs = socket.socketpair()
        self._sockets.append(ours)
        self.engines.append(theirs)
        wire, upstream = Wire(), Upstream(self.connections, Outbox())
        wire.socket, upstream.address = ours, address
        upstream.connection_made(wire)
        return upstream

    def put(self, count: int) -> list[Upstream]:
        """Keep new connections, one a second."""
        made = [self.connected() for _ in range(count)]
        for each in made:
            self.clock.advance(1.0)
            self.connections.put(each)
        return made

    def take(self) -> Upstream | None:
        return self.connections.take(self.clock())

    def close(self) -> None:
        for each in (*self._sockets, *self.engines):
            each.close()


@pytest.fixture
def idle() -> Iterator[Idle]:
    made = Idle()
    yield made
    made.close()


def closing(*upstreams: Upstream) -> list[bool]:
    return [each.transport.is_closing() for each in upstreams]


def test_the_last_one_used_is_taken_first(idle: Idle) -> None:
    first, second = idle.put(2)
    assert len(idle.connections) == 2
    assert [idle.take(), idle.take(), idle.take()] == [second, first, None]
    assert (first.reuse.reused, first.reuse.idle_for) == (True, 1.0)


def test_one_that_was_idle_for_too_long_is_closed(idle: Idle) -> None:
    first, second = idle.put(2)
    idle.clock.advance(IDLE_SECONDS)
    assert idle.take() is second
    assert idle.take() is None
    assert closing(first, second) == [True, False]


def test_one_that_says_something_unasked_or_ends_is_closed(idle: Idle) -> None:
    made = idle.put(3)
    idle.engines[2].send(b"HTTP/1.1 408 Request Timeout\r\n")
    idle.engines[1].shutdown(socket.SHUT_WR)
    assert idle.take() is made[0]
    assert closing(*made) == [False, True, True]


def test_what_expires_is_closed_without_a_request(idle: Idle) -> None:
    first, second = idle.put(2)
    idle.connections.expire(idle.clock() + IDLE_SECONDS)
    assert closing(first, second) == [True, False]
    assert repr(idle.connections) == "<IdleConnections 1, each for 4 s>"


def test_one_to_an_address_that_the_name_has_no_more_is_closed(idle: Idle) -> None:
    stays, goes, at_work = idle.connected(), idle.connected("127.0.0.2"), idle.connected("127.0.0.2")
    idle.connections.put(stays)
    idle.connections.put(goes)
    idle.name.left = frozenset(("127.0.0.2",))
    idle.connections.expire(idle.clock())
    assert closing(stays, goes, at_work) == [False, True, False]
    idle.connections.put(at_work)
    assert closing(at_work) == [True]
    assert len(idle.connections) == 1


def test_an_engine_that_closes_one_shortens_the_time_for_all(idle: Idle) -> None:
    first, _ = idle.put(2)
    idle.clock.advance(1.0)
    idle.connections.forget(first)
    idle.connections.forget(first)
    assert repr(idle.connections) == "<IdleConnections 1, each for 1 s>"
    idle.connections.keeps_idle(1.0)
    assert repr(idle.connections) == "<IdleConnections 1, each for 0.5 s>"


def test_there_is_a_most(idle: Idle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_connections, "MAX_IDLE", 1)
    assert closing(*idle.put(2)) == [False, True]


def test_after_the_end_none_is_kept(idle: Idle) -> None:
    first, at_work = idle.put(1)[0], idle.connected()
    idle.connections.close()
    idle.connections.put(at_work)
    assert closing(first, at_work) == [True, True]
    assert idle.take() is None
