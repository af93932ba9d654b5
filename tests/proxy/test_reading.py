"""A request that is not sent yet has a responder already: its client may go, wait, or be given up."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.errors import Draining, GatewayError, InvalidRequest
from gateway.exchange import Exchange, Outcome
from gateway.proxy.reading import PATIENCE, Reading
from gateway.wire.guard import Head
from gateway.wire.heads import CONTINUE
from gateway.wire.service import Request, Writer
from tests.proxy.clients import Page


class Sent:
    """A request that departs: it keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: self.told.append(name)

    def probe(self) -> bytes:
        return b": here"


class World:
    """Work that was begun for a request, and what became of that."""

    def __init__(self, *, http10: bool = False, breaks: bool = False) -> None:
        self.sent, self.cancelled = Sent(), 0
        self.outcomes: list[object] = []
        self.done: Callable[[Any], None]
        self.failed: Callable[[Exception], None]
        self._breaks = breaks
        request = Request(Head(None, b"/", http10=http10), [], b"", keep_alive=True, received=1000.0)
        self.reading = Reading(
            self, request, self._begin, self._of, exchange=Exchange("r1", "/", 1000.0), client=Page()
        )

    def _begin(self, done: Callable[[Any], None], failed: Callable[[Exception], None]) -> "World":
        self.done, self.failed = done, failed
        return self

    def _of(self, result: object) -> Any:
        if self._breaks:
            raise InvalidRequest("no such thing")
        self.outcomes.append(result)
        return self.sent

    def cancel(self) -> None:
        self.cancelled += 1

    # What answers a request that is never sent

    def turn_down(self, exchange: Exchange, client: Writer, error: Exception) -> None:
        self.outcomes.append(error)

    def abandoned(self, exchange: Exchange, outcome: Outcome, reason: str) -> None:
        self.outcomes.append(outcome)


def test_it_is_sent_when_the_work_is_done() -> None:
    world = World()
    world.reading.start()
    assert world.outcomes == []
    world.done("body")
    assert world.outcomes == ["body"]
    assert world.sent.told == ["start"]
    assert world.cancelled == 1, "the work is let go of, with the body"


def test_from_then_on_everything_is_handed_on() -> None:
    world = World()
    world.reading.start()
    world.done("body")
    world.reading.pause()
    world.reading.resume()
    world.reading.check(1.0)
    world.reading.give_up(Draining("over"))
    world.reading.client_gone()
    assert world.sent.told == ["start", "pause", "resume", "check", "give_up", "client_gone"]
    assert world.reading.probe() == b": here"
    assert world.outcomes == ["body"]


def test_a_client_that_reads_slowly_is_known_to_when_it_is_sent() -> None:
    world = World()
    world.reading.start()
    world.reading.pause()
    world.done("body")
    assert world.sent.told == ["pause", "start"]


def test_work_that_fails_is_the_answer() -> None:
    world = World()
    world.reading.start()
    error = InvalidRequest("not JSON")
    world.failed(error)
    assert world.outcomes == [error]


def test_so_is_what_cannot_be_sent() -> None:
    world = World(breaks=True)
    world.reading.start()
    world.done("body")
    assert [str(each) for each in world.outcomes] == ["no such thing"]


def test_a_client_that_goes_ends_the_work_and_gets_no_answer() -> None:
    world = World()
    world.reading.start()
    world.reading.client_gone()
    world.done("too late")
    assert (world.outcomes, world.cancelled) == ([Outcome.CLIENT_GONE], 1)


@pytest.mark.parametrize("error", [Draining("over"), GatewayError("broken")])
def test_one_that_is_given_up_is_answered_once(error: GatewayError) -> None:
    world = World()
    world.reading.start()
    world.reading.give_up(error)
    world.reading.give_up(error)
    world.reading.client_gone()
    assert world.outcomes == [error]


def test_it_does_not_wait_for_ever() -> None:
    world = World()
    world.reading.start()
    world.reading.check(1000.0 + PATIENCE)
    assert world.outcomes == []
    world.reading.check(1000.1 + PATIENCE)
    assert [type(each).__name__ for each in world.outcomes] == ["Overloaded"]


def test_a_probe_is_a_head_that_promises_nothing_where_there_is_such_a_thing() -> None:
    assert World().reading.probe() == CONTINUE
    assert World(http10=True).reading.probe() is None


def test_it_tells_whose_it_is() -> None:
    assert repr(World().reading) == "<Reading r1>"
