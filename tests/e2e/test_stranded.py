"""Requests that wait for a first token at a backend that has gone go elsewhere at once."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.exchange import AttemptEnd, Outcome
from gateway.policy.admission.classes import CLASSES
from gateway.policy.admission.kinds import FEWEST_ANSWERS
from gateway.policy.routing.readiness import LOST_FOR_LONG
from gateway.proxy.deadlines import SHORTEST
from tests.e2e.fakes import DONE, ROLE, STREAM_HEAD, Call, FakeBackend, backends, chunked, event, good
from tests.e2e.harness import Running, ask, chat, gateway, routes
from tests.e2e.processes import engine
from tests.e2e.raw_client import Answer
from tests.e2e.test_admission import Gate, words
from tests.e2e.test_admission import routes as slots_of
from tests.e2e.test_silence import pass_slowly
from tests.waiting import DEADLINE, HandClock, eventually, patient_client

pytestmark = pytest.mark.anyio
PATIENT = {"first_token": "10m", "stall": "10m", "total": "20m"}
"""Timeouts that no test lives to see: whatever moves, moves for another reason."""


async def silent(call: Call) -> None:
    """The head and the role are there, as of vLLM, and no token comes."""
    await call.send(STREAM_HEAD, chunked(ROLE))
    await call.until_gone()


async def waiting_at(running: Running, fake: FakeBackend, body: Any) -> "asyncio.Task[Answer]":
    """Ask until a request waits at this backend, and return that one."""
    asking = asyncio.create_task(ask(running.port, body))
    while not await _arrived(asking, fake):
        asking = asyncio.create_task(ask(running.port, body))
    return asking


async def _arrived(asking: "asyncio.Task[Answer]", fake: FakeBackend) -> bool:
    """Whether a request came to this backend, and not to the other, which has answered it."""
    await eventually(lambda: asking.done() or bool(fake.calls))
    return not asking.done()


def lost(running: Running, index: int = 0) -> bool:
    return running.backend(index).readiness.is_lost()


async def test_a_backend_that_says_it_is_not_ready_loses_what_it_has_not_begun(tmp_path: Path) -> None:
    async with backends(silent, good) as (sick, well):
        async with gateway(tmp_path, routes(sick.url, well.url, **PATIENT)) as running:
            asking = await waiting_at(running, sick, chat())
            sick.health = b"503 Service Unavailable"
            answer = await asking
            assert (answer.status, answer.body.endswith(DONE)) == (200, True)
            await running.quiet()
            last = running.records.exchanges[-1]
            assert (last.outcome, len(last.attempts)) == (Outcome.OK, 2)
            assert running.records.retries == [AttemptEnd.NOT_READY]


async def test_a_simulated_engine_that_closes_its_port_loses_what_it_has_not_begun(tmp_path: Path) -> None:
    """As vLLM does on SIGTERM: the port refuses, open streams stay open, and no token comes."""
    async with engine("--control-port", "0") as sick, engine() as well:
        control = next(url for url in sick.urls if url != sick.urls[0])
        async with (
            patient_client(trust_env=False) as client,
            gateway(tmp_path, routes(sick.urls[0], well.urls[0], **PATIENT)) as running,
        ):
            await client.post(f"{control}/sim/faults", json={"ttft_delay": 3000})
            backend = running.backend()
            asked: list[asyncio.Task[Answer]] = []
            while not backend.in_flight:
                asked.append(asyncio.create_task(ask(running.port, chat(max_tokens=2))))
                await eventually(lambda: bool(backend.in_flight) or asked[-1].done())
            await client.post(f"{control}/sim/faults", json={"refuse": True, "ttft_delay": 3000})
            answers = await asyncio.gather(*asked)
            assert {answer.status for answer in answers} == {200}
            await running.quiet()


async def test_one_that_left_the_routes_is_watched_until_its_requests_have_ended(tmp_path: Path) -> None:
    async with backends(silent, good) as (sick, well):
        async with gateway(tmp_path, routes(sick.url, well.url, **PATIENT)) as running:
            asking = await waiting_at(running, sick, chat())
            (tmp_path / "routes.yaml").write_text(routes(well.url, **PATIENT))
            async with patient_client(trust_env=False) as client:
                assert (await client.post(f"{running.admin}/admin/reload")).status_code == 200
            assert len(list(running.app.data.registry)) == 1
            assert len(running.app.data.registry.watched()) == 2
            sick.health = b"503 Service Unavailable"
            assert (await asking).status == 200
            await running.quiet()
            assert len(running.app.data.registry.watched()) == 1


async def test_alone_it_is_waited_for(tmp_path: Path) -> None:
    async with backends(silent) as (sick,), gateway(tmp_path, routes(sick.url, **PATIENT)) as running:
        asking = await waiting_at(running, sick, chat())
        sick.health = b"503 Service Unavailable"
        await eventually(lambda: lost(running))
        sick.health = b"200 OK"
        await running.ready()
        assert not asking.done()
        assert len(sick.calls) == 1
        asking.cancel()


STAYS: dict[str, tuple[Any, str]] = {
    "a stream that has begun": (chat(), "begun"),
    "an answer in one piece": (chat(stream=False), "silent"),
}


@pytest.mark.parametrize("what", STAYS)
async def test_what_may_still_be_finished_there_stays(tmp_path: Path, what: str) -> None:
    body, how = STAYS[what]

    async def script(call: Call) -> None:
        if how == "begun":
            await call.send(STREAM_HEAD, chunked(event("x")))
        await call.until_gone()

    async with backends(script, good) as (sick, well):
        async with gateway(tmp_path, routes(sick.url, well.url, **PATIENT)) as running:
            asking = await waiting_at(running, sick, body)
            sick.health = b"503 Service Unavailable"
            await eventually(lambda: lost(running))
            assert not asking.done()
            assert running.backend().in_flight == 1
            asking.cancel()


async def test_what_an_engine_goes_on_with_is_not_sent_twice(tmp_path: Path) -> None:
    async with backends(silent, silent) as fakes:
        async with gateway(tmp_path, routes(*(f.url for f in fakes), **PATIENT)) as running:
            body = {"model": "m", "input": "hi", "background": True, "stream": True}
            asking = asyncio.create_task(ask(running.port, body, path="/v1/responses"))
            await eventually(lambda: any(fake.calls for fake in fakes))
            sick = next(fake for fake in fakes if fake.calls)
            sick.health = b"503 Service Unavailable"
            await eventually(lambda: lost(running, fakes.index(sick)))
            assert sum(len(fake.calls) for fake in fakes) == 1
            asking.cancel()


async def test_where_probes_are_only_slow_everywhere_requests_are_sent_all_the_same(tmp_path: Path) -> None:
    """An engine that was paused, or a machine that is busy: to refuse everyone would be the outage."""
    async with backends(good, good) as fakes, gateway(tmp_path, routes(*(f.url for f in fakes))) as running:
        for fake in fakes:
            fake.silent = True
        await eventually(lambda: all(each.readiness.state == "not_ready" for each in running.app.data.registry))
        assert (await ask(running.port, chat())).status == 200
        fakes[0].silent, fakes[0].health = False, b"503 Service Unavailable"
        await eventually(lambda: not running.backend().readiness.silent)
        served = len(fakes[1].calls)
        assert (await ask(running.port, chat())).status == 200
        assert len(fakes[1].calls) == served + 1, "one that says that it is not ready is left out"
        await running.quiet()


async def test_a_document_that_does_not_begin_in_time_is_fetched_elsewhere(tmp_path: Path) -> None:
    async with backends(hung, good) as (sick, healthy):
        clock = HandClock()
        async with gateway(tmp_path, routes(sick.url, healthy.url, first_byte="5s"), now=clock) as running:
            asking = await waiting_at(running, sick, chat(stream=False))
            asked = len(healthy.calls) + 1
            await pass_slowly(clock, running, 6.0)
            assert (await asking).status == 200
            last = await running.settled(asked)
            assert (last.outcome, len(last.attempts)) == (Outcome.OK, 2)
            assert AttemptEnd.FIRST_TOKEN_TIMEOUT in [end for _, end in running.records.attempts]


async def hung(call: Call) -> None:
    await call.until_gone()


async def test_an_answer_in_one_piece_leaves_a_backend_that_was_not_ready_for_long(tmp_path: Path) -> None:
    async with backends(hung, good) as (sick, well):
        async with gateway(tmp_path, routes(sick.url, well.url, **PATIENT)) as running:
            asking = await waiting_at(running, sick, chat(stream=False))
            seen: list[int] = []

            def moved() -> bool:
                seen.append(running.backend().readiness.failed_probes)
                return bool(well.calls) and asking.done()

            well.calls.clear()
            sick.health = b"503 Service Unavailable"
            await eventually(moved)
            assert (await asking).status == 200
            assert max(seen) >= LOST_FOR_LONG
            await running.quiet()
            last = running.records.exchanges[-1]
            assert (last.outcome, len(last.attempts)) == (Outcome.OK, 2)
            assert running.records.retries == [AttemptEnd.NOT_READY]


async def test_an_engine_that_hangs_is_ejected_without_streams_though_it_says_that_it_is_well(tmp_path: Path) -> None:
    """No timeout in the routes says how long an answer may take: the answers before do."""
    hangs, clock = asyncio.Event(), HandClock()

    async def sick(call: Call) -> None:
        await (hung if hangs.is_set() else good)(call)

    patient = {**PATIENT, "total": "10h"}
    async with backends(sick, good) as fakes:
        async with gateway(tmp_path, routes(*(f.url for f in fakes), **patient), now=clock) as running:
            for _ in range(FEWEST_ANSWERS):
                assert (await ask(running.port, chat(stream=False))).status == 200
            hangs.set()
            async with asyncio.timeout(DEADLINE):
                while not running.backend().health.outlier.ejection.out:
                    asking = asyncio.create_task(ask(running.port, chat(stream=False)))
                    await clock.passes(SHORTEST + 1.0, asking.done)
                    assert (await asking).status == 200
                    clock.advance(0.5)  # what is held against a backend fades
            assert running.backend().readiness.state == "ready"
            bad = [end for backend, end in running.records.attempts if backend == running.backend().id]
            assert bad[-1] is AttemptEnd.FIRST_TOKEN_TIMEOUT
            fakes[0].calls.clear()
            for _ in range(8):
                assert (await ask(running.port, chat(stream=False))).status == 200
            assert not fakes[0].calls
            await running.quiet()


async def test_an_engine_that_answers_others_is_waited_for_however_long_one_answer_takes(tmp_path: Path) -> None:
    clock = HandClock()
    go_on = asyncio.Event()

    async def one_at_length(call: Call) -> None:
        if b"long" in call.body:
            await go_on.wait()
        await good(call)

    patient = {**PATIENT, "total": "10h"}
    async with backends(one_at_length) as (fake,), gateway(tmp_path, routes(fake.url, **patient), now=clock) as running:
        for _ in range(FEWEST_ANSWERS):
            await ask(running.port, chat(stream=False))
        asking = asyncio.create_task(ask(running.port, chat(stream=False, user="long")))
        await eventually(lambda: running.in_flight == 1)
        lateness = running.app.data.registry.lateness
        for _ in range(8):
            clock.advance(SHORTEST - 1.0)
            await eventually(lambda: clock() - lateness._beat < 1.0)
            assert (await ask(running.port, chat(stream=False))).status == 200
        assert not asking.done()
        go_on.set()
        assert (await asking).status == 200
        await running.quiet()
        assert {end for _, end in running.records.attempts} == {AttemptEnd.OK}


INTERACTIVE = "x-gateway-class: interactive\r\n"


@dataclass
class HalfHung:
    """Two engines with as many slots each, all taken: one has hung, the other ends an answer when `gate` is opened."""

    running: Running
    gate: Gate
    asked: "list[asyncio.Task[Answer]]"
    at_sick: list[Call]
    clock: HandClock

    def stay(self) -> int:
        return self.running.backend().in_flight

    async def open(self, served: int) -> None:
        """Let one answer end, until so many requests came to the engine that works."""
        self.gate.open.release()
        await eventually(lambda: len(self.gate.prompts) == served)

    async def looks(self) -> None:
        """Wait until the gateway has looked at every deadline a few times."""
        await pass_slowly(self.clock, self.running, 1.0)


@asynccontextmanager
async def half_hung(folder: Path, slots: int) -> AsyncIterator[HalfHung]:
    """Every request that is in progress when this ends must have been answered."""
    gate, at_sick, clock = Gate(), [], HandClock()

    async def hangs(call: Call) -> None:
        at_sick.append(call)
        await call.until_gone()

    async with backends(hangs, gate) as (sick, well):
        spec = json.loads(slots_of(sick.url, well.url, slots=slots))
        spec["models"]["m"]["timeouts"] |= PATIENT
        async with gateway(folder, json.dumps(spec), now=clock) as running:
            asked = [
                asyncio.create_task(ask(running.port, words(str(number)), headers=INTERACTIVE))
                for number in range(2 * slots)
            ]
            await eventually(lambda: (len(at_sick), len(gate.prompts)) == (slots, slots))
            sick.silent = True
            await eventually(lambda: running.backend().is_gone and lost(running))
            yield HalfHung(running, gate, asked, at_sick, clock)
            for _ in range(100):
                gate.open.release()
            assert [each.status for each in await asyncio.gather(*asked)] == [200] * len(asked)
            await running.quiet()


async def test_one_slot_that_comes_free_is_left_for_by_one_stream(tmp_path: Path) -> None:
    """Those that left for nothing ended with 502 once the time of their class in the queue was over."""
    async with half_hung(tmp_path, slots=3) as half:
        for moved in (1, 2):
            await half.open(served=3 + moved)
            await pass_slowly(half.clock, half.running, 2 * CLASSES["interactive"].max_queue_wait)
            assert half.stay() == 3 - moved
            assert half.running.records.retries == [AttemptEnd.NOT_READY] * moved
        assert half.running.waiting == 0


async def test_requests_that_wait_get_a_slot_before_streams_that_hang(tmp_path: Path) -> None:
    async with half_hung(tmp_path, slots=1) as half:
        fresh = asyncio.create_task(ask(half.running.port, words("fresh"), headers=INTERACTIVE))
        half.asked.append(fresh)
        await eventually(lambda: half.running.waiting == 1)
        await half.open(served=2)
        assert half.gate.prompts[-1] == "fresh"
        await half.looks()
        assert half.stay() == 1
        await half.open(served=3)
        assert half.stay() == 0


async def test_a_stream_stays_while_the_budget_of_retries_is_spent(tmp_path: Path) -> None:
    async with half_hung(tmp_path, slots=1) as half:
        (model,) = half.running.app.data.current.table
        retries = model.memory.retries
        while retries.take(half.clock()):
            pass
        half.gate.open.release()
        await eventually(lambda: half.running.in_flight == 1)
        await half.looks()
        assert (half.stay(), half.running.waiting) == (1, 0)
        await pass_slowly(half.clock, half.running, 11.0)
        await eventually(lambda: half.stay() == 0)
