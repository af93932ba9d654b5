"""What leads a request to its next attempt, or to its end."""

from random import Random

from gateway.backends.backend import Backend
from gateway.errors import GatewayError
from gateway.exchange import AttemptEnd, Exchange, Outcome
from gateway.observers import Observers
from gateway.policy.admission.decide import Shed, TurnedAway
from gateway.proxy.finding import FULL, STARTED, Tried
from gateway.proxy.lifecycle import Event
from gateway.proxy.next_attempt import NextAttempt
from gateway.proxy.routed_request import ProxyContext
from tests.control.tables import models
from tests.proxy.clients import Page
from tests.proxy.front import ANSWER, Opened, whole
from tests.proxy.routed import routed_to

CHAT = "/v1/chat/completions"
REFUSAL = 500, b"HTTP/1.1 500 Internal Server Error\r\n", b"out of memory"


class Asking:
    """A request that writes down what becomes of it; `begins` is what becomes of an attempt to begin an attempt."""

    def __init__(self, begins: Tried = STARTED) -> None:
        self.routed, self.backend = routed_to(CHAT)
        self.committed = False
        self.begins = begins
        self.events: list[Event] = []
        self.ended: tuple[Outcome, str] | None = None
        self.queued: list[float] = []
        self.page, self.exchange = Page(), Exchange("r1", CHAT, 0.0)
        context = ProxyContext(lambda: 5.0, Random(1), Observers())
        self.next = NextAttempt(self, self.exchange, self.page, context, deadline=600.0)

    def step(self, event: Event) -> None:
        self.events.append(event)

    def begin(self, queued: float = 0.0) -> Tried:
        self.queued.append(queued)
        return self.begins

    def end_attempt(self, result: AttemptEnd) -> Backend | None:
        return self.backend

    def end(self, event: Event, outcome: Outcome, reason: str) -> None:
        self.events.append(event)
        self.ended = outcome, reason

    def give_up(self, error: GatewayError) -> None:
        raise AssertionError("nothing breaks here")


def test_where_no_backend_is_left_it_is_told_so() -> None:
    asking = Asking()
    asking.next.failures.tried.append(asking.backend)
    asking.next.wait(Tried.NONE)
    assert asking.ended == (Outcome.NO_BACKEND, "no ready backend")
    assert b" 503 " in asking.page.out


def test_where_every_slot_is_taken_it_waits_and_leaves_its_place_at_the_end() -> None:
    asking = Asking(FULL)
    asking.backend.health.slots.limit_to(0)
    line = asking.routed.route.line
    asking.next.wait(FULL)
    assert (asking.events, line.queue.size) == ([Event.NO_SLOT], 1)
    assert repr(asking.next) == "<NextAttempt in the queue, 0 backends tried>"
    asking.next.end(9.0)
    assert (line.queue.size, asking.exchange.queued) == (0, 4.0)


def test_a_slot_that_comes_free_is_taken_after_the_time_that_was_waited() -> None:
    asking = Asking()
    asking.backend.health.slots.limit_to(0)
    asking.next.wait(FULL)
    asking.backend.health.slots.limit_to(1)
    asking.routed.route.line.freed(8.0)
    assert asking.queued == [3.0]


def test_the_last_failure_is_told_in_the_engines_words() -> None:
    asking = Asking()
    asking.next.failed(AttemptEnd.SERVER_ERROR, "status 500", REFUSAL)
    assert asking.ended == (Outcome.BACKEND_ERROR, "status 500")
    assert asking.page.out.endswith(b"content-length: 13\r\n\r\nout of memory")


def test_one_that_is_turned_away_after_a_failure_is_told_of_that() -> None:
    asking = Asking()
    asking.next.failures.note((AttemptEnd.SERVER_ERROR, "status 500", asking.backend), None, committed=False)
    asking.next.turned_away(TurnedAway(Shed.WAITED, 3, 10.0, 0.0, 2))
    assert asking.ended == (Outcome.BACKEND_ERROR, "status 500")


def test_that_an_engine_was_busy_is_no_such_failure() -> None:
    asking = Asking()
    asking.next.failures.note((AttemptEnd.SATURATED, "status 503", asking.backend), None, committed=False)
    asking.next.turned_away(TurnedAway(Shed.WAITED, 3, 10.0, 0.0, 2))
    assert asking.ended == (Outcome.SHED, Shed.WAITED)


def test_a_pause_before_another_attempt_counts_as_time_of_the_backend(opened: Opened) -> None:
    front = opened(models("http://127.0.0.1:8001", "http://127.0.0.1:8002"))
    front.asks()
    front.answers(whole(500, {"error": "broken"}))
    front.passes(1.0)
    front.answers(ANSWER)
    (exchange,) = front.notes.settled
    first, second = exchange.attempts
    assert second.sent_at > first.ended_at
    assert exchange.backend_seconds >= second.ended_at - first.sent_at > 0.0
