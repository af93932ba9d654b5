"""Clients that give a request less time than its route: what that says of engines, and what it does not."""

import asyncio
import json
from pathlib import Path

import pytest

from gateway.exchange import AttemptEnd, Exchange, Outcome
from gateway.policy.admission.kinds import FEWEST_ANSWERS
from gateway.policy.routing.ejection import USUAL, State
from gateway.policy.slo.series import Kind
from gateway.proxy.deadlines import ENOUGH
from tests.e2e.fakes import DONE, ROLE, STREAM_HEAD, Call, backends, chunked, event, good, whole
from tests.e2e.harness import Running, ask, chat, gateway, routes
from tests.e2e.test_admission import one_slot, words
from tests.e2e.test_silence import pass_slowly
from tests.waiting import HandClock, eventually

pytestmark = pytest.mark.anyio
HURRIED = "x-request-timeout: 0.2\r\n"
FIVE_SECONDS = "x-request-timeout: 5\r\n"


async def slow(call: Call) -> None:
    """Take longer than a client in a hurry waits."""
    await call.until_gone()


def counted(running: Running, kind: Kind, name: str) -> dict[str, tuple[int, int]]:
    """Return good and bad events of a subject, by SLI, of those that have any."""
    running.app.control.outlier_detector.detect()
    found = {each.sli: each.windows.count(300.0) for each in running.app.data.ledger.get(kind, name)}
    return {sli: (count.good, count.bad) for sli, count in found.items() if count.total}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_deadline_of_the_clients_own_is_not_held_against_a_backend(tmp_path: Path, stream: bool) -> None:
    async with backends(slow, slow) as fakes, gateway(tmp_path, routes(*(each.url for each in fakes))) as running:
        for _ in range(12):
            cut = await ask(running.port, chat(stream=stream), headers=HURRIED)
            assert (cut.status, cut.json["error"]["code"]) == (504, "deadline_exceeded")
            assert "`x-request-timeout`" in cut.json["error"]["message"]
        assert (await running.settled(12)).outcome is Outcome.CLIENT_TIMEOUT
        assert {end for _, end in running.records.attempts} == {AttemptEnd.CLIENT_TIMEOUT}
        for backend in running.app.data.registry:
            assert (backend.health.symptoms.failures, backend.health.outlier.ejection.state) == (0, "in_service")
            assert counted(running, Kind.BACKEND, backend.id) == {}
        assert counted(running, Kind.MODEL, "m") == {}


async def test_the_time_of_the_route_is_held_against_a_backend_whatever_a_client_names(tmp_path: Path) -> None:
    async with backends(slow) as (fake,), gateway(tmp_path, routes(fake.url, total="200ms")) as running:
        for header in ("", "x-request-timeout: 5\r\n"):
            late = await ask(running.port, chat(stream=False), headers=header)
            assert (late.status, late.json["error"]["code"]) == (504, "deadline_exceeded")
        assert (await running.settled(2)).outcome is Outcome.TIMEOUT
        assert {end for _, end in running.records.attempts} == {AttemptEnd.DEADLINE_EXCEEDED}
        assert running.backend().health.symptoms.failures == 2


async def test_a_stream_that_its_client_gave_too_little_time_ends_with_an_error(tmp_path: Path) -> None:
    async def long(call: Call) -> None:
        await call.send(STREAM_HEAD, chunked(ROLE), chunked(event("x")))
        await call.until_gone()

    clock = HandClock()
    async with backends(long) as (fake,), gateway(tmp_path, routes(fake.url), now=clock) as running:
        asking = asyncio.create_task(ask(running.port, chat(), headers=FIVE_SECONDS))
        await eventually(lambda: bool(fake.calls) and running.backend().health.latency.unbegun == 0)
        await pass_slowly(clock, running, 5.6)
        cut = await asking
        assert (cut.status, cut.complete) == (200, False)
        assert b'"deadline_exceeded"' in cut.body
        assert DONE.strip() not in cut.body
        assert (await running.settled()).outcome is Outcome.CLIENT_TIMEOUT
        assert running.backend().health.symptoms.failures == 0


async def test_who_lived_through_a_failure_before_counts(tmp_path: Path) -> None:
    """A backend fails, and the time is over while another has the request: that is the first one's doing."""
    asked: list[Call] = []
    clock = HandClock()

    async def first_fails(call: Call) -> None:
        asked.append(call)
        await (call.send(whole(b"500 Oops", b"{}")) if len(asked) == 1 else slow(call))

    async with (
        backends(first_fails, first_fails) as fakes,
        gateway(tmp_path, routes(*(each.url for each in fakes)), now=clock) as running,
    ):
        asking = asyncio.create_task(ask(running.port, chat(stream=False), headers=FIVE_SECONDS))
        await eventually(lambda: len(asked) == 2)
        await pass_slowly(clock, running, 5.6)
        failed = await asking
        assert failed.status == 500
        assert (await running.settled()).outcome is Outcome.BACKEND_ERROR
        assert [end for _, end in running.records.attempts] == [AttemptEnd.SERVER_ERROR, AttemptEnd.CLIENT_TIMEOUT]
        assert sorted(backend.health.symptoms.failures for backend in running.app.data.registry) == [0, 1]


async def test_who_gets_no_slot_within_the_time_named_counts_as_shed(tmp_path: Path) -> None:
    async with one_slot(tmp_path) as (running, gate):
        refused = await ask(running.port, words("second"), headers=HURRIED)
        assert (refused.status, refused.json["error"]["code"]) == (503, "overloaded")
        last: Exchange = running.records.exchanges[-1]
        assert (last.outcome, len(last.attempts)) == (Outcome.SHED, 0)
        assert counted(running, Kind.MODEL, "m") == {"availability": (0, 1)}
        assert gate.prompts == ["first"]


class MayHang:
    """An engine whose `/health` is well, and that answers nothing any more once it hangs."""

    hangs = False

    async def __call__(self, call: Call) -> None:
        await (slow if self.hangs else good)(call)


@pytest.mark.parametrize("stream", [True, False], ids=["streams", "whole answers"])
async def test_an_engine_that_hangs_is_left_although_no_client_waits_for_long(tmp_path: Path, stream: bool) -> None:
    """No attempt lasts for as long as the routes would allow."""
    clock, engine = HandClock(), MayHang()
    async with backends(engine, good) as fakes:
        spec = json.dumps({"models": {"m": {"backends": [fake.url for fake in fakes]}}})
        async with gateway(tmp_path, spec, now=clock) as running:
            sick = running.backend(0)
            for _ in range(FEWEST_ANSWERS + 10):
                assert (await ask(running.port, chat(stream=stream), headers=FIVE_SECONDS)).status == 200
            assert sick.health.activity.has_worked
            engine.hangs, in_vain, in_a_row = True, 0, 0
            # Of answers in one piece the other engine has to give enough meanwhile; it gets about as many requests.
            most = 60 / 5 + 1 + USUAL.consecutive_failures + (0 if stream else 4 * ENOUGH)
            while (in_a_row < 20 or not in_vain) and in_vain < most:
                asking = asyncio.create_task(ask(running.port, chat(stream=stream), headers=FIVE_SECONDS))
                await eventually(lambda asking=asking: asking.done() or sick.in_flight > 0)  # type: ignore[misc]
                if not asking.done():
                    await pass_slowly(clock, running, 5.6)
                in_vain, in_a_row = (in_vain, in_a_row + 1) if (await asking).status == 200 else (in_vain + 1, 0)
            assert in_a_row >= 20 or sick.health.outlier.ejection.state is State.EJECTED


async def test_the_only_engine_hangs_and_its_users_count_although_none_waits_for_long(tmp_path: Path) -> None:
    clock, engine = HandClock(), MayHang()
    async with backends(engine) as (fake,):
        async with gateway(tmp_path, json.dumps({"models": {"m": {"backends": [fake.url]}}}), now=clock) as running:
            assert (await ask(running.port, chat(), headers=FIVE_SECONDS)).status == 200
            engine.hangs, ends = True, []
            for _ in range(9):
                asking = asyncio.create_task(ask(running.port, chat(), headers=FIVE_SECONDS))
                await eventually(lambda: running.in_flight > 0)
                await pass_slowly(clock, running, 5.6)
                assert (await asking).status == 504
                ends.append(running.records.attempts[-1][1])
            known = ends.index(AttemptEnd.DEADLINE_EXCEEDED)
            assert 30 / 5.6 - 1 <= known <= 6
            assert ends == [AttemptEnd.CLIENT_TIMEOUT] * known + [AttemptEnd.DEADLINE_EXCEEDED] * (9 - known)
            assert counted(running, Kind.MODEL, "m")["availability"][1] == 9 - known


async def test_answers_that_become_longer_than_clients_wait_are_held_against_no_engine(tmp_path: Path) -> None:
    """Both engines work, without metrics that show it, and each client leaves before its answer is there."""
    clock = HandClock()

    async def engine(call: Call) -> None:
        await (slow if b"long" in call.body else good)(call)

    async with backends(engine, engine) as fakes:
        spec = json.dumps({"models": {"m": {"backends": [fake.url for fake in fakes]}}})
        async with gateway(tmp_path, spec, now=clock) as running:
            for _ in range(FEWEST_ANSWERS):
                assert (await ask(running.port, chat(stream=False), headers=FIVE_SECONDS)).status == 200
            for _ in range(int(80 / 5.6)):
                long = [ask(running.port, chat(stream=False, user="long"), headers=FIVE_SECONDS) for _ in fakes]
                asking = asyncio.gather(*long)
                await eventually(lambda: all(backend.in_flight for backend in running.app.data.registry))
                await pass_slowly(clock, running, 5.6)
                assert {answer.status for answer in await asking} == {504}
            ends = [end for _, end in running.records.attempts]
            assert set(ends[FEWEST_ANSWERS:]) == {AttemptEnd.CLIENT_TIMEOUT}
            assert (await ask(running.port, chat(stream=False), headers=FIVE_SECONDS)).status == 200
            assert all(
                backend.health.outlier.ejection.state is State.IN_SERVICE for backend in running.app.data.registry
            )
            assert counted(running, Kind.MODEL, "m")["availability"][1] == 0
