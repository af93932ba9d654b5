"""A connection for the gateway's own questions: each is answered or fails once, and tells why."""

import asyncio
import gc

import pytest

from gateway.wire.control_answer import ControlAnswer
from gateway.wire.control_connection import ControlConnection, ControlError, SilentError, StaleError
from tests.waiting import HandClock, eventually
from tests.wire.playbook import Wire

pytestmark = pytest.mark.anyio
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
MOST = 64


class Asked:
    """A connection that has just been asked something."""

    def __init__(self, clock: HandClock | None = None) -> None:
        self.wire, self._clock = Wire(), clock or HandClock()
        self.connection = ControlConnection("127.0.0.1", self._clock)
        self.connection.connection_made(self.wire)
        self.answered = self.ask()

    def ask(self) -> "asyncio.Future[ControlAnswer]":
        return self.connection.ask(b"GET / HTTP/1.1\r\n\r\n", MOST, 0.05, self._clock() + 0.2)

    @property
    def failure(self) -> BaseException | None:
        return self.answered.exception()


async def test_one_question_after_the_other_goes_out_and_is_answered() -> None:
    asked = Asked()
    for _ in range(3):
        assert asked.wire.took() == b"GET / HTTP/1.1\r\n\r\n"
        asked.connection.data_received(ANSWER[:20])
        assert not asked.answered.done()
        asked.connection.data_received(ANSWER[20:])
        assert (await asked.answered).body == b"hi"
        assert not asked.wire.is_closing()
        asked.answered = asked.ask()


async def test_a_connection_that_will_be_closed_is_closed_after_its_answer() -> None:
    asked = Asked()
    asked.connection.data_received(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi")
    assert (await asked.answered).body == b"hi"
    assert asked.wire.closed


async def test_bytes_that_were_not_asked_for_end_an_idle_connection() -> None:
    asked = Asked()
    asked.connection.data_received(ANSWER)
    asked.connection.data_received(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert asked.wire.aborted


async def test_what_is_no_http_fails_the_question() -> None:
    asked = Asked()
    asked.connection.data_received(b"SSH-2.0-OpenSSH_9.6\r\n")
    assert str(asked.failure).startswith("the answer is not proper HTTP: Expected HTTP/")
    assert asked.wire.aborted


@pytest.mark.parametrize("error", [None, ConnectionResetError("reset")])
async def test_one_that_is_lost_before_it_was_of_any_use_fails_the_question(error: Exception | None) -> None:
    asked = Asked()
    asked.connection.connection_lost(error)
    assert type(asked.failure) is ControlError
    assert str(asked.failure) == "the connection was closed" + (" (reset)" if error else "")


async def test_a_used_one_that_is_lost_before_its_answer_began_was_stale() -> None:
    asked = Asked()
    asked.connection.data_received(ANSWER)
    asked.answered = asked.ask()
    asked.connection.connection_lost(None)
    assert type(asked.failure) is StaleError


async def test_one_that_is_lost_within_its_answer_was_not_stale() -> None:
    asked = Asked()
    asked.connection.data_received(ANSWER)
    asked.answered = asked.ask()
    asked.connection.data_received(ANSWER[:10])
    asked.connection.connection_lost(None)
    assert type(asked.failure) is ControlError


@pytest.mark.parametrize("error", [None, ConnectionResetError("reset")])
async def test_only_a_proper_close_completes_an_answer(error: Exception | None) -> None:
    asked = Asked()
    asked.connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nhi")
    asked.connection.connection_lost(error)
    assert (type(asked.failure) is ControlError) is bool(error)
    if not error:
        assert (await asked.answered).body == b"hi"


async def test_silence_is_measured_from_the_latest_byte() -> None:
    clock = HandClock()
    asked = Asked(clock)
    for part in (ANSWER[:10], ANSWER[10:20]):
        clock.advance(0.04)
        asked.connection.data_received(part)
    await asyncio.sleep(0.06)
    assert not asked.answered.done()
    clock.advance(0.05)
    await eventually(asked.answered.done)
    assert type(asked.failure) is SilentError
    assert asked.wire.aborted


async def test_an_answer_that_drips_has_so_much_time_and_no_more() -> None:
    clock = HandClock()
    asked = Asked(clock)
    for at in range(6):
        asked.connection.data_received(ANSWER[at : at + 1])
        clock.advance(0.04)
    await eventually(asked.answered.done)
    assert type(asked.failure) is SilentError


async def test_nothing_comes_of_a_question_that_was_given_up() -> None:
    asked = Asked()
    asked.answered.cancel()
    asked.connection.data_received(ANSWER)
    asked.answered = asked.ask()
    asked.connection.abort()
    asked.connection.connection_lost(None)
    assert not asked.answered.done()


async def test_no_answer_waits_for_the_garbage_collector() -> None:
    def answers() -> int:
        return sum(type(each) is ControlAnswer for each in gc.get_objects())

    before = answers()
    gc.disable()
    try:
        asked = Asked()
        asked.connection.data_received(ANSWER)
        await asked.answered
        asked.answered = asked.ask()
        asked.connection.connection_lost(None)
        assert type(asked.failure) is StaleError
        del asked
        assert answers() == before
    finally:
        gc.enable()


async def test_it_says_what_it_is_at() -> None:
    asked = Asked()
    assert repr(asked.connection) == "<ControlConnection 127.0.0.1 <ControlAnswer 0 0 bytes so far>>"
    asked.connection.data_received(ANSWER)
    assert repr(asked.connection) == "<ControlConnection 127.0.0.1 idle>"
