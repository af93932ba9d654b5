"""Requests that meet a pool without an engine wait until one is woken."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.control.drain import DrainTimes
from gateway.exchange import Outcome
from gateway.policy.routing.readiness import Readiness, State
from gateway.policy.routing.waking import Waking
from gateway.sim.profiles import GPU
from gateway.sim.server import SimServer
from gateway.sim.server import running as simulated
from gateway.sim.settings import Settings
from tests.background import in_background
from tests.control.test_webhook import Receiver, receiving
from tests.e2e.fakes import KEPT_PORTS, FakeBackend, backends
from tests.e2e.harness import Running, ask, chat, gateway, post
from tests.e2e.machine import Machine
from tests.e2e.processes import serving
from tests.e2e.raw_client import Answer, connect
from tests.e2e.test_admission import Gate, words
from tests.e2e.test_reload_waiting import reload, told
from tests.waiting import HandClock, eventually, patient_client

pytestmark = pytest.mark.anyio
READY = Readiness(State.READY, "probes pass")
ENGINE = Settings(models=("m",), time_scale=0.05, output_tokens=3, profile=replace(GPU, max_num_seqs=64))


def routes(*urls: str, pool: str = "gpu", wake: str = "capacity", **more: Any) -> str:
    """Return routes with one model in a pool that scales from zero."""
    settings = {"wake": wake, "hold": "2m", **more}
    pools = {pool: {"backends": list(urls), "scale_from_zero": settings}}
    limits = {"connect": "20s", "first_token": "60s", "stall": "60s", "total": "10m"}
    return json.dumps({"pools": pools, "models": {"m": {"versions": {"v1": {"pools": [pool]}}, "timeouts": limits}}})


def waking(running: Running, pool: str = "gpu") -> Waking:
    found = running.app.data.registry.pools[pool].waking
    assert found is not None
    return found


async def holds(running: Running, count: int) -> None:
    """Wait until so many requests are held."""
    await eventually(lambda: waking(running).held == count)


async def asked_for(gate: Gate, count: int) -> None:
    """Wait until an engine has been sent so many requests."""
    await eventually(lambda: len(gate.prompts) == count)


async def stopped_engine() -> FakeBackend:
    """Return an engine that listened once and does not now: its port is this test's."""
    async with backends(Gate()) as (fake,):
        pass
    return fake


@asynccontextmanager
async def engine_at(port: int, settings: Settings = ENGINE) -> AsyncIterator[SimServer]:
    KEPT_PORTS.give_back(port)
    async with simulated(replace(settings, port=port)) as server:
        yield server
    KEPT_PORTS.keep(port)


@asynccontextmanager
async def from_zero(folder: Path, receiver: Receiver, **more: Any) -> AsyncIterator[tuple[Running, FakeBackend]]:
    """Run a gateway before one engine that does not run, which a webhook is to start."""
    engine = await stopped_engine()
    text = routes(engine.url, wake=receiver.url, **more)
    async with gateway(folder, text, wait_ready=False) as running:
        await eventually(lambda: running.backend().readiness.state == "not_ready")
        yield running, engine


def asked(running: Running, count: int, **more: Any) -> list["asyncio.Task[Answer]"]:
    return [asyncio.create_task(ask(running.port, chat(stream=bool(each % 2), **more))) for each in range(count)]


async def test_two_hundred_requests_have_one_engine_woken_which_serves_them_all(tmp_path: Path) -> None:
    async with receiving(204) as receiver, from_zero(tmp_path, receiver) as (running, engine):
        waiting = asked(running, 200, max_tokens=3)
        await eventually(lambda: waking(running).held == 200)
        await eventually(lambda: len(receiver.messages) == 1)
        assert {name: receiver.messages[0][name] for name in ("event", "pool", "want")} == {
            "event": "wake",
            "pool": "gpu",
            "want": 1,
        }
        assert running.app.control.waker.wants("gpu") == 1
        async with engine_at(engine.port):
            answers = await asyncio.gather(*waiting)
            assert {answer.status for answer in answers} == {200}
            assert all(answer.complete for answer in answers)
            await running.quiet()
        assert len(receiver.messages) == 1
        assert (waking(running).held, waking(running).served, waking(running).failed) == (0, 1, 0)
        assert all(each.held > 0 and each.outcome is Outcome.OK for each in running.records.exchanges)
        await eventually(lambda: running.app.control.waker.wants("gpu") == 0)


async def test_above_the_most_that_are_held_a_request_is_told_when_to_retry(tmp_path: Path) -> None:
    async with receiving(204) as receiver, from_zero(tmp_path, receiver, max_held=3) as (running, engine):
        waiting = asked(running, 3, max_tokens=1)
        await eventually(lambda: waking(running).held == 3)
        answer = await ask(running.port, chat())
        assert (answer.status, answer.json["error"]["code"]) == (503, "no_ready_backend")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert "3 requests wait for one already" in answer.json["error"]["message"]
        async with engine_at(engine.port):
            assert {each.status for each in await asyncio.gather(*waiting)} == {200}
            await running.quiet()
        assert waking(running).refused == 1


async def test_requests_are_served_by_class_and_in_order(tmp_path: Path) -> None:
    gate = Gate()
    async with backends(gate) as (engine,):
        await engine.stop()
        text = json.loads(routes(engine.url, max_held=3))
        text["pools"]["gpu"]["backends"] = [{"url": engine.url, "max_concurrency": 1}]
        async with gateway(tmp_path, json.dumps(text), wait_ready=False) as running:
            await eventually(lambda: running.backend().readiness.state == "not_ready")
            tasks = {}
            for number, (prompt, class_) in enumerate([("b1", "batch"), ("b2", "batch"), ("s1", "standard")]):
                field = f"x-gateway-class: {class_}\r\n"
                tasks[prompt] = asyncio.create_task(ask(running.port, words(prompt), headers=field))
                await holds(running, number + 1)
            field = "x-gateway-class: standard\r\n"
            tasks["s2"] = asyncio.create_task(ask(running.port, words("s2"), headers=field))
            assert (await tasks["b2"]).status == 429, "the newest of a lower class makes room"
            await engine.start()
            for count, prompt in enumerate(("s1", "s2", "b1")):
                await asked_for(gate, count + 1)
                gate.open.release()
                assert (await tasks[prompt]).status == 200
            assert gate.prompts == ["s1", "s2", "b1"]
            await running.quiet()


async def test_a_client_that_leaves_makes_room_and_costs_the_engine_nothing(tmp_path: Path) -> None:
    async with receiving(204) as receiver, from_zero(tmp_path, receiver, max_held=2) as (running, engine):
        leaver = await connect(running.port)
        await leaver.send(post(chat()))
        stayer = asked(running, 1, max_tokens=1)
        await eventually(lambda: waking(running).held == 2)
        leaver.close()
        await eventually(lambda: waking(running).held == 1)
        newcomer = asked(running, 1, max_tokens=1)
        await eventually(lambda: waking(running).held == 2)
        async with engine_at(engine.port) as server:
            assert {each.status for each in await asyncio.gather(*stayer, *newcomer)} == {200}
            await running.quiet()
            assert server.simulation.engine.tally.finished == 2
        assert len(receiver.messages) == 1
        gone = running.records.exchanges[0]
        assert (gone.outcome, gone.held > 0) == (Outcome.CLIENT_GONE, True)


async def test_a_wake_in_vain_is_told_and_requests_are_refused_at_once_for_a_while(tmp_path: Path) -> None:
    clock = HandClock()
    engine = await stopped_engine()
    async with receiving(204) as receiver:
        text = routes(engine.url, wake=receiver.url, hold="20s")
        async with gateway(tmp_path, text, wait_ready=False, now=clock) as running:
            await eventually(lambda: running.backend().readiness.state == "not_ready")
            held = asked(running, 1)[0]
            await eventually(lambda: waking(running).since is not None)
            await clock.passes(21, held.done)
            answer = await held
            assert (answer.status, answer.json["error"]["code"]) == (503, "no_ready_backend")
            assert "became ready within" in answer.json["error"]["message"]
            await eventually(lambda: waking(running).failed >= 1)
            refused = await ask(running.port, chat())
            assert refused.status == 503
            assert "when one was last woken" in refused.json["error"]["message"]
            assert all(each.outcome is Outcome.NO_BACKEND for each in running.records.exchanges)
            clock.advance(31)
            again = asked(running, 1, max_tokens=1)[0]
            await eventually(lambda: waking(running).held == 1)
            await eventually(lambda: len(receiver.messages) == 2)
            async with engine_at(engine.port):
                assert (await again).status == 200
                await running.quiet()


async def test_a_stream_is_kept_alive_while_it_is_held(tmp_path: Path) -> None:
    clock = HandClock()
    engine = await stopped_engine()
    async with gateway(tmp_path, routes(engine.url), wait_ready=False, now=clock) as running:
        await eventually(lambda: running.backend().readiness.state == "not_ready")
        client = await connect(running.port)
        await client.send(post(chat(max_tokens=3)))
        await eventually(lambda: waking(running).held == 1)
        clock.advance(16)
        begun = await client.reader.readuntil(b": waiting for an engine to start\n\n")
        assert begun.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"content-type: text/event-stream" in begun
        clock.advance(16)
        more = await client.reader.readuntil(b": waiting for an engine to start\n\n")
        client.unread(begun + more)
        async with engine_at(engine.port):
            answer = await client.answer()
            assert answer.complete
            assert answer.body.count(b": waiting for an engine to start") == 2
            assert answer.body.endswith(b"data: [DONE]\n\n")
            await running.quiet()
        client.close()


async def test_the_deadline_of_a_client_is_kept_while_it_is_held(tmp_path: Path) -> None:
    async with receiving(204) as receiver, from_zero(tmp_path, receiver) as (running, _):
        answer = await ask(running.port, chat(), headers="x-request-timeout: 0.3\r\n")
        assert (answer.status, answer.json["error"]["code"]) == (504, "deadline_exceeded")
        assert "it has waited for a backend, and the time that `x-request-timeout`" in answer.json["error"]["message"]
        settled = await running.settled()
        assert (settled.outcome, waking(running).held) == (Outcome.CLIENT_TIMEOUT, 0)


async def test_a_reload_moves_those_who_are_held(tmp_path: Path) -> None:
    async with (
        backends(Gate()) as (idle,),
        receiving(204) as receiver,
        from_zero(tmp_path, receiver) as (running, engine),
    ):
        first = asked(running, 2, max_tokens=1)
        await eventually(lambda: waking(running).held == 2)
        await eventually(lambda: len(receiver.messages) == 1)
        await reload(running, tmp_path, routes(engine.url, pool="other", wake=receiver.url))
        await eventually(lambda: waking(running, "other").held == 2)
        await eventually(lambda: {each["pool"] for each in receiver.messages} == {"gpu", "other"})
        await reload(running, tmp_path, routes(idle.url, pool="third"))
        await eventually(lambda: len(told(idle)) == 2)
        gate = idle.script
        assert isinstance(gate, Gate)
        for _ in first:
            gate.open.release()
        assert {each.status for each in await asyncio.gather(*first)} == {200}


async def test_a_reload_refuses_those_who_are_held_where_none_is_woken_any_more(tmp_path: Path) -> None:
    engine = await stopped_engine()
    async with gateway(tmp_path, routes(engine.url), wait_ready=False) as running:
        await eventually(lambda: running.backend().readiness.state == "not_ready")
        held = asked(running, 2)
        await holds(running, 2)
        without = json.loads(routes(engine.url))
        del without["pools"]["gpu"]["scale_from_zero"]
        await reload(running, tmp_path, json.dumps(without))
        answers = await asyncio.gather(*held)
        assert {(each.status, each.json["error"]["code"]) for each in answers} == {(503, "no_ready_backend")}
        await running.quiet()


async def test_an_engine_that_takes_no_connections_is_asked_at_ever_longer_intervals(tmp_path: Path) -> None:
    async with receiving(204) as receiver, backends(Gate()) as (engine,):
        async with gateway(tmp_path, routes(engine.url, wake=receiver.url, hold="2s")) as running:
            await engine.stop()

            async def pass_probes() -> None:
                while True:
                    running.backend().learn(READY)
                    await asyncio.sleep(0.01)

            async with in_background(pass_probes()):
                answer = await ask(running.port, chat())
            assert (answer.status, answer.json["error"]["code"]) == (503, "no_ready_backend")
            assert 2 <= len(running.records.attempts) < 40
            assert len(receiver.messages) <= 1, "of three refusals in a row it looks gone for a moment"
            assert waking(running).held == 0
            await running.quiet()


async def test_a_gateway_that_stops_serves_those_who_are_held_or_tells_them(tmp_path: Path) -> None:
    engine = await stopped_engine()
    async with gateway(tmp_path, routes(engine.url), wait_ready=False, drain=DrainTimes(0.0, 60.0)) as running:
        await eventually(lambda: running.backend().readiness.state == "not_ready")
        held = asked(running, 4, max_tokens=1)
        await eventually(lambda: waking(running).held == 4)
        running.app.stop()
        async with engine_at(engine.port):
            assert {each.status for each in await asyncio.gather(*held)} == {200}
            await running.task


async def test_a_gateway_that_has_to_stop_tells_those_who_are_held(tmp_path: Path) -> None:
    engine = await stopped_engine()
    async with gateway(tmp_path, routes(engine.url), wait_ready=False, drain=DrainTimes(0.0, 0.2)) as running:
        await eventually(lambda: running.backend().readiness.state == "not_ready")
        held = asked(running, 4)
        await eventually(lambda: waking(running).held == 4)
        running.app.stop()
        answers = await asyncio.gather(*held)
        assert {(each.status, each.json["error"]["code"]) for each in answers} == {(503, "draining")}
        assert all("retry-after" in each.headers for each in answers)


async def test_a_gateway_with_nothing_but_such_pools_is_ready(tmp_path: Path) -> None:
    engine = await stopped_engine()
    async with gateway(tmp_path, routes(engine.url), wait_ready=False) as running, patient_client() as web:
        await eventually(lambda: running.backend().readiness.state == "not_ready")
        assert (await web.get(f"{running.data}/ready")).status_code == 200


async def test_requests_that_come_before_the_first_probe_are_held_too(tmp_path: Path) -> None:
    engine = await stopped_engine()
    async with gateway(tmp_path, routes(engine.url), wait_ready=False) as running:
        held = asked(running, 20, max_tokens=1)
        await eventually(lambda: waking(running).held == 20)
        assert not running.records.attempts
        async with engine_at(engine.port):
            assert {each.status for each in await asyncio.gather(*held)} == {200}
            await running.quiet()


async def test_an_engine_that_has_just_gone_loses_no_request(tmp_path: Path) -> None:
    async with backends(Gate()) as (engine,):
        async with gateway(tmp_path, routes(engine.url)) as running:
            await engine.stop()
            held = asked(running, 6, max_tokens=1)
            await eventually(lambda: waking(running).held == 6)
            async with engine_at(engine.port):
                assert {each.status for each in await asyncio.gather(*held)} == {200}
                await running.quiet()


async def test_a_pool_without_the_setting_refuses_as_ever(tmp_path: Path) -> None:
    engine = await stopped_engine()
    text = json.loads(routes(engine.url))
    del text["pools"]["gpu"]["scale_from_zero"]
    async with gateway(tmp_path, json.dumps(text), wait_ready=False) as running, patient_client() as web:
        await eventually(lambda: running.backend().readiness.state == "not_ready")
        answer = await ask(running.port, chat())
        assert (answer.status, answer.json["error"]["code"]) == (503, "no_ready_backend")
        assert running.records.exchanges[0].held == 0.0
        assert (await web.get(f"{running.data}/ready")).status_code == 503


async def test_a_webhook_that_fails_is_told_again(tmp_path: Path) -> None:
    async with receiving(500, 503, 204) as receiver, from_zero(tmp_path, receiver) as (running, engine):
        held = asked(running, 1, max_tokens=1)[0]
        await eventually(lambda: len(receiver.messages) == 3)
        assert [each["answered"] for each in receiver.messages] == [500, 503, 204]
        async with engine_at(engine.port):
            assert (await held).status == 200
            await running.quiet()
        assert running.app.control.waker.results == {("gpu", "failed"): 2, ("gpu", "woken"): 1}


async def test_workers_have_one_engine_woken_between_them(tmp_path: Path) -> None:
    engine = await stopped_engine()
    async with receiving(204) as receiver:
        text = routes(engine.url, wake=receiver.url)
        async with serving(tmp_path, [engine.url], "--workers", "2", text=text) as process, patient_client() as web:
            machine = Machine(process, process.urls[1])
            await machine.until(lambda status: len([each for each in status["workers"] if each["routes"]]) == 2)
            await machine.until(lambda status: status["backends"][0]["state"] == "not_ready")
            waiting = [asyncio.create_task(ask(machine.port, chat(max_tokens=2))) for _ in range(60)]
            await machine.until(lambda status: sum(each["requests"] for each in status["workers"]) == 0)
            await machine.until(lambda status: status["in_flight"] == 60)
            await eventually(lambda: len(receiver.messages) >= 1)
            async with engine_at(engine.port):
                answers = await asyncio.gather(*waiting)
                assert {answer.status for answer in answers} == {200}
            assert len(receiver.messages) == 1
            found = await machine.scrape()
            assert sum(value for (name, _), value in found.items() if name == "tidegate_requests_total") == 60
            assert (await web.get(f"{machine.admin}/health")).status_code == 200
