"""Requests are answered one at a time and in order, on a connection that ends when its last answer has gone out."""

import asyncio

import pytest

from gateway.errors import BadHttp, GatewayError
from gateway.wire.backlog import Backlog
from gateway.wire.guard import Head, Limits, check
from gateway.wire.heads import Headers
from gateway.wire.outbox import Outbox
from gateway.wire.phase import (
    ANSWERING,
    CLOSING,
    EXPECTS_CONTINUE,
    HEAD,
    IDLE,
    LAST_CALL,
    LINGER,
    PART_OF_HEAD,
    REFUSED,
    PhaseTimer,
)
from gateway.wire.pipeline import MAX_PIPELINED, Pipeline
from gateway.wire.service import Refusal, Request, Writer
from gateway.wire.slices import Slices
from tests.waiting import HandClock
from tests.wire.playbook import Call, Wire

pytestmark = pytest.mark.anyio
CHECKED = check(b"GET", b"/health", "1.1", [(b"host", b"a")], Limits())
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Reading:
    """A connection of which nothing is left to be parsed."""

    is_taking = True

    def __init__(self, wire: Wire) -> None:
        self.transport: asyncio.Transport = wire

    def parse(self, data: bytes | memoryview) -> None: ...


class Service:
    """A connection's pipeline with the service behind it, which answers when the test says so."""

    def __init__(self) -> None:
        self.draining, self.last_call = False, LAST_CALL
        self.clock, self.wire = HandClock(), Wire()
        self.timer = PhaseTimer(Limits())
        backlog = Backlog(Reading(self.wire), Slices(self.clock))
        self.pipeline = Pipeline(self, self.timer, backlog, Outbox(), self.clock)
        self.pipeline.transport = self.wire
        self.calls: list[Call] = []

    def gets(self, *bodies: bytes, keep_alive: bool = True) -> list[Call]:
        """Hand over requests of one read; return the calls."""
        for place, body in enumerate(bodies):
            request = Request(CHECKED, [], body, keep_alive=keep_alive, received=self.clock())
            self.pipeline.take(request, place > 0)
        return self.called()

    async def turn(self) -> list[Call]:
        """Let one turn of the loop pass; return the calls."""
        await asyncio.sleep(0)
        return self.called()

    async def answers(self) -> list[Call]:
        """Answer the request in progress; return the calls of the next turn."""
        self.pipeline.finish()
        return await self.turn()

    def called(self) -> list[Call]:
        calls, self.calls = self.calls, []
        return calls

    def authorize(self, head: Head) -> object:
        return head.path

    def serve(self, request: Request, client: Writer) -> "Service":
        self.calls.append(("serve", request.body))
        return self

    def refuse(self, error: GatewayError, target: bytes, headers: Headers, received: float, client: Writer) -> None:
        self.calls.append(("refuse", error.code, target))

    def client_gone(self) -> None:
        self.calls.append(("gone",))

    def pause(self) -> None:
        self.calls.append(("pause",))

    def resume(self) -> None:
        self.calls.append(("resume",))

    def check(self, now: float) -> None: ...

    def probe(self) -> None: ...

    def give_up(self, error: GatewayError) -> None:
        self.calls.append(("give up",))


def refusal() -> Refusal:
    return Refusal(BadHttp("no HTTP"), b"/x", [])


async def test_requests_of_one_read_are_served_one_after_the_other() -> None:
    service = Service()
    assert service.gets(b"1", b"2", b"3") == [("serve", b"1")]
    assert repr(service.pipeline) == "<Pipeline busy queued 2>"
    assert not service.wire.reading
    assert await service.answers() == [("serve", b"2")]
    assert not service.wire.reading
    assert await service.answers() == [("serve", b"3")]
    assert service.wire.reading
    assert await service.answers() == []
    assert repr(service.pipeline) == "<Pipeline idle queued 0>"
    assert service.timer.phase is IDLE


async def test_of_requests_that_are_answered_at_once_one_is_served_a_turn() -> None:
    service = Service()
    service.gets(b"1")
    service.pipeline.finish()
    request = Request(CHECKED, [], b"2", keep_alive=True, received=0.0)
    service.pipeline.take(request, pipelined=True)
    assert service.called() == []
    assert service.pipeline.busy
    assert await service.turn() == [("serve", b"2")]


async def test_so_many_may_wait_and_no_more() -> None:
    service = Service()
    service.gets(*[b"x"] * (MAX_PIPELINED + 1))
    with pytest.raises(BadHttp, match="more than 64 requests"):
        service.gets(b"one more")


async def test_a_client_that_asks_for_it_is_told_to_send_its_body_in_its_turn() -> None:
    expecting = [(b"host", b"a"), (b"expect", b"100-continue"), (b"content-length", b"2")]
    head = check(b"POST", b"/v1/completions", "1.1", expecting, Limits())
    service = Service()
    assert service.pipeline.authorize(head) == b"/v1/completions"
    await service.turn()
    assert service.wire.took() == CONTINUE
    service.gets(b"{}")
    service.pipeline.authorize(head)
    service.timer.came(EXPECTS_CONTINUE, service.clock())
    await service.turn()
    assert service.wire.took() == b""
    await service.answers()
    assert service.wire.took() == CONTINUE


async def test_the_next_request_has_all_of_its_time_once_it_is_read_again() -> None:
    service = Service()
    service.gets(b"1", b"2")
    service.timer.came(PART_OF_HEAD, service.clock())
    service.clock.advance(100.0)
    await service.answers()
    assert service.timer.phase is HEAD
    assert service.timer.next_deadline == service.clock() + Limits().head_seconds


async def test_what_is_broken_is_refused_at_once_or_in_its_turn() -> None:
    service = Service()
    service.pipeline.reject(refusal())
    assert service.called() == [("refuse", "bad_http", b"/x")]
    service = Service()
    service.gets(b"1", b"2")
    service.pipeline.reject(refusal())
    service.pipeline.reject(refusal())
    assert await service.answers() == [("serve", b"2")]
    assert await service.answers() == [("refuse", "bad_http", b"/x")]
    assert service.timer.phase is REFUSED
    assert await service.answers() == []
    assert service.timer.phase is LINGER
    assert service.wire.reading
    assert not service.wire.closed


@pytest.mark.parametrize("why", ["its client says so", "draining", "half closed"])
async def test_a_last_answer_closes_the_connection_and_says_so(why: str) -> None:
    service = Service()
    service.gets(b"1", keep_alive=why != "its client says so")
    service.draining = why == "draining"
    if why == "half closed":
        service.pipeline.half_closed()
    service.pipeline.reply_json(200, b"x: y\r\n", [1])
    await service.answers()
    head = b"HTTP/1.1 200 OK\r\nx: y\r\ncontent-type: application/json\r\nconnection: close\r\n"
    assert service.wire.took() == head + b"content-length: 3\r\n\r\n[1]"
    assert service.wire.closed
    assert service.timer.phase is CLOSING


async def test_a_refusal_is_still_written_to_a_client_that_has_closed_its_side() -> None:
    service = Service()
    service.gets(b"1")
    service.pipeline.reject(refusal())
    service.pipeline.half_closed()
    assert await service.answers() == [("refuse", "bad_http", b"/x")]
    await service.answers()
    assert service.wire.closed, "nothing is read away: no more can come"


async def test_requests_behind_the_last_answer_are_forgotten() -> None:
    service = Service()
    service.gets(b"1", b"2", keep_alive=False)
    assert await service.answers() == []
    assert service.wire.closed
    assert service.pipeline.queue == ()


async def test_what_is_broken_off_ends_without_an_end_and_nothing_follows() -> None:
    service = Service()
    service.gets(b"1", b"2")
    service.pipeline.write(b"half")
    service.pipeline.break_off()
    assert (service.wire.took(), service.wire.closed) == (b"half", True)
    assert (await service.turn(), service.pipeline.busy) == ([], False)


async def test_an_answer_pauses_while_its_client_does_not_read_and_so_do_those_that_follow() -> None:
    service = Service()
    service.gets(b"1", b"2")
    service.pipeline.pause()
    assert service.called() == [("pause",)]
    assert await service.answers() == [("serve", b"2"), ("pause",)]
    service.pipeline.resume()
    assert service.called() == [("resume",)]
    await service.answers()
    service.pipeline.pause()
    service.pipeline.resume()
    assert service.called() == []


async def test_a_lost_connection_tells_its_request_and_forgets_the_rest() -> None:
    service = Service()
    service.gets(b"1", b"2")
    service.pipeline.lost()
    assert service.called() == [("gone",)]
    assert repr(service.pipeline) == "<Pipeline idle queued 0>"


async def test_a_request_is_given_up_and_so_is_a_connection_without_one() -> None:
    service = Service()
    service.gets(b"1")
    service.pipeline.give_up(GatewayError("over"))
    assert service.called() == [("give up",)]
    assert not service.wire.closed, "the request breaks its answer off"
    service = Service()
    service.pipeline.give_up(GatewayError("over"))
    assert service.wire.closed
    service.pipeline.give_up(GatewayError("over"))
    assert service.timer.phase is CLOSING


async def test_a_request_is_in_progress_until_it_is_answered() -> None:
    service = Service()
    service.gets(b"1")
    assert service.pipeline.responder is service
    assert service.timer.phase is ANSWERING
    await service.answers()
    assert service.pipeline.responder is None
