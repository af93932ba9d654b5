"""The gateway's own pauses: what a stopped or starved process, or machine, may not blame its engines for.

Most tests let the gateway's clock jump, which is all that it sees of a pause of the whole machine; the last ones stop
real processes.
"""

import asyncio
import json
import re
import signal
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from gateway.exchange import AttemptEnd, Outcome
from gateway.policy.slo.series import Kind
from tests.e2e.fakes import DONE, LAST_CHUNK, ROLE, STREAM_HEAD, Call, backends, chunked, event, good
from tests.e2e.harness import Running, ask, chat, gateway, post, routes
from tests.e2e.processes import Process, engine, serving
from tests.e2e.raw_client import Answer, RawClient, connect
from tests.waiting import eventually, patient_client

pytestmark = pytest.mark.anyio
PAUSE = 25.0
SHORTER = {"stall": "20s", "first_token": "20s", "first_byte": "20s"}


class Passing:
    """The gateway's clock."""

    def __init__(self) -> None:
        self.missed = 0.0

    def now(self) -> float:
        return monotonic() + self.missed

    def jump(self, seconds: float) -> None:
        """Let so many seconds pass in which the gateway does nothing."""
        self.missed += seconds

    async def judged(self, running: Running) -> None:
        """Wait until every deadline was held against the time that it is now, at least once."""
        lateness, now = running.app.data.registry.lateness, self.now()
        await eventually(lambda: 0.5 < lateness._beat - now < inf)


@pytest.fixture
def time() -> Passing:
    return Passing()


class Held:
    """An engine that goes on only when it is told to."""

    def __init__(self, *, begins: bool) -> None:
        self.begins = begins
        self.go_on = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        if not self.begins:
            await self.go_on.wait()
            await good(call)
            return
        await call.send(STREAM_HEAD, chunked(ROLE), chunked(event("x")))
        await self.go_on.wait()
        await call.send(chunked(event("y", "stop"), DONE) + LAST_CHUNK)


WAITS: dict[str, tuple[dict[str, Any], bool]] = {
    "between two tokens": (chat(), True),
    "before the first token": (chat(), False),
    "before an answer in one piece": (chat(stream=False), False),
}


async def begun(time: Passing, running: Running, held: Held, body: dict[str, Any]) -> "asyncio.Task[Answer]":
    """Ask, and wait until the engine is at it."""
    asking = asyncio.create_task(ask(running.port, body))
    await eventually(lambda: running.backend().in_flight > 0)
    if held.begins:
        await eventually(lambda: running.backend().health.latency.unbegun == 0)
    await time.judged(running)
    return asking


@pytest.mark.parametrize("what", WAITS)
async def test_what_an_engine_did_not_do_in_a_pause_is_no_failure(tmp_path: Path, time: Passing, what: str) -> None:
    body, begins = WAITS[what]
    held = Held(begins=begins)
    async with backends(held) as (fake,), gateway(tmp_path, routes(fake.url, **SHORTER), now=time.now) as running:
        asking = await begun(time, running, held, body)
        time.jump(PAUSE)
        await time.judged(running)
        held.go_on.set()
        answer = await asking
        assert (answer.status, answer.complete) == (200, True)
        last = await running.settled()
        assert (last.outcome, last.excused) == (Outcome.OK, True)
        assert [end for _, end in running.records.attempts] == [AttemptEnd.OK]
        assert running.backend().health.symptoms.failures == 0


@pytest.mark.parametrize("what", WAITS)
async def test_a_dead_engine_is_judged_by_a_gateway_that_hardly_runs(tmp_path: Path, time: Passing, what: str) -> None:
    body, begins = WAITS[what]
    held = Held(begins=begins)
    async with (
        backends(held) as (fake,),
        gateway(tmp_path, routes(fake.url, **SHORTER, total="1h"), now=time.now) as running,
    ):
        asking = await begun(time, running, held, body)
        for _ in range(5):
            time.jump(PAUSE)
            await time.judged(running)
        assert [end for _, end in running.records.attempts] == [
            AttemptEnd.STALLED if begins else AttemptEnd.FIRST_TOKEN_TIMEOUT
        ]
        held.go_on.set()
        await asking
        await running.quiet()


async def test_an_engine_that_does_nothing_after_the_pause_either_is_judged(tmp_path: Path, time: Passing) -> None:
    held = Held(begins=True)
    async with backends(held) as (fake,), gateway(tmp_path, routes(fake.url, stall="1s"), now=time.now) as running:
        asking = await begun(time, running, held, chat())
        time.jump(PAUSE)
        assert not (await asking).complete
        assert [end for _, end in running.records.attempts] == [AttemptEnd.STALLED]
        held.go_on.set()
        await running.quiet()


async def test_the_time_of_a_request_goes_on_and_the_backend_is_not_blamed(tmp_path: Path, time: Passing) -> None:
    held = Held(begins=False)
    async with backends(held) as (fake,), gateway(tmp_path, routes(fake.url, total="40s"), now=time.now) as running:
        asking = await begun(time, running, held, chat())
        time.jump(60.0)
        answer = await asking
        assert (answer.status, answer.json["error"]["code"]) == (504, "deadline_exceeded")
        last = await running.settled()
        assert last.outcome is Outcome.TIMEOUT
        assert [end for _, end in running.records.attempts] == [AttemptEnd.GATEWAY_LATE]
        assert running.backend().health.symptoms.failures == 0
        held.go_on.set()


@pytest.mark.parametrize("named", ["", "x-request-timeout: 5\r\n"], ids=["its class's", "its own"])
async def test_who_waits_for_a_slot_is_not_refused_for_the_gateways_pause(
    tmp_path: Path, time: Passing, named: str
) -> None:
    """The patience of its class goes on after the pause; the time that a client named is over."""
    held = Held(begins=False)
    spec = json.loads(routes("http://engine"))
    async with backends(held) as (fake,):
        spec["models"]["m"]["backends"] = [{"url": fake.url, "max_concurrency": 1}]
        async with gateway(tmp_path, json.dumps(spec), now=time.now) as running:
            asking = await begun(time, running, held, chat(stream=False))
            waits = asyncio.create_task(ask(running.port, chat(stream=False), headers=named))
            await eventually(lambda: running.waiting == 1)
            time.jump(PAUSE)
            await time.judged(running)
            held.go_on.set()
            assert ((await waits).status == 200) is (not named)
            assert (await asking).status == 200
            await running.quiet()


def counted(running: Running, kind: Kind, name: str) -> dict[str, tuple[int, int]]:
    """What was good and bad by SLI."""
    found = ((each.sli, each.windows.count(60.0)) for each in running.app.data.ledger.get(kind, name))
    return {str(sli): (count.good, count.bad) for sli, count in found}


async def test_what_users_waited_counts_for_the_model_and_not_for_the_backend(tmp_path: Path, time: Passing) -> None:
    held = Held(begins=False)
    async with backends(held) as (fake,):
        spec = json.loads(routes(fake.url))
        spec["models"]["m"]["objective"] = "quick"
        spec["objectives"] = {"quick": {"availability": {"target": 99}, "ttft": {"target": 99, "under": "2s"}}}
        async with gateway(tmp_path, json.dumps(spec), now=time.now) as running:
            asking = await begun(time, running, held, chat())
            time.jump(PAUSE)
            await time.judged(running)
            held.go_on.set()
            assert (await asking).status == 200
            await running.settled()
            await eventually(lambda: counted(running, Kind.MODEL, "m") == {"availability": (1, 0), "ttft": (0, 1)})
            backend = running.backend().id
            await eventually(lambda: counted(running, Kind.BACKEND, backend)["availability"] == (1, 0))
            assert counted(running, Kind.BACKEND, backend)["ttft"] == (0, 0)


async def pause(seconds: float, stopped: Process) -> None:
    """Stop a process for so long."""
    stopped.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)  # the pause itself
    stopped.process.send_signal(signal.SIGCONT)


def port(served: Process) -> int:
    return int(served.urls[0].rsplit(":", 1)[1])


async def streaming(served: Process, **more: Any) -> RawClient:
    """A client that has the first token of a stream."""
    client = await connect(port(served))
    await client.send(post(chat(**more)))
    client.unread(await client.reader.readuntil(b'"content":"'))
    return client


async def attempts(served: Process) -> dict[str, int]:
    """How many attempts ended how."""
    async with patient_client(trust_env=False) as web:
        text = (await web.get(f"{served.urls[1]}/metrics")).text
    found = re.findall(r'^tidegate_attempts_total{.*outcome="(\w+)".*} (\d+)', text, re.MULTILINE)
    return {outcome: int(count) for outcome, count in found if int(count)}


def briefly(sim: Process) -> str:
    """Routes with a timeout shorter than the pauses."""
    return routes(sim.urls[0], stall="4s")


SLOW_TOKENS = ("--engine", "step_base=0.3", "--output-tokens", "1000")


async def test_a_pause_of_the_whole_machine_cuts_no_stream(tmp_path: Path) -> None:
    async with engine(*SLOW_TOKENS) as sim, serving(tmp_path, [], text=briefly(sim)) as served:
        clients = [await streaming(served, max_tokens=8) for _ in range(12)]
        sim.process.send_signal(signal.SIGSTOP)
        await pause(6.0, served)
        await asyncio.sleep(1.0)  # the engine gets its turn later
        sim.process.send_signal(signal.SIGCONT)
        for client in clients:
            answer = await client.answer()
            assert answer.body.endswith(DONE), answer.body[-300:]
            client.close()
        assert await attempts(served) == {"ok": 12}


async def test_an_engine_that_is_stopped_is_judged_although_the_gateway_pauses_too(tmp_path: Path) -> None:
    async with engine(*SLOW_TOKENS) as sim, serving(tmp_path, [], text=briefly(sim)) as served:
        client = await streaming(served, max_tokens=100)
        sim.process.send_signal(signal.SIGSTOP)
        await pause(3.0, served)
        assert not (await client.answer()).complete
        assert await attempts(served) == {"stalled": 1}
        client.close()


async def test_a_gateway_that_is_late_all_the_time_judges_a_stopped_engine(tmp_path: Path) -> None:
    async with engine(*SLOW_TOKENS) as sim, serving(tmp_path, [], text=briefly(sim)) as served:
        client = await streaming(served, max_tokens=100)
        sim.process.send_signal(signal.SIGSTOP)
        ending = asyncio.create_task(client.answer())
        while not ending.done():
            await pause(1.4, served)
            await asyncio.sleep(0.3)  # it runs for so long
        assert not ending.result().complete
        assert await attempts(served) == {"stalled": 1}
        client.close()
