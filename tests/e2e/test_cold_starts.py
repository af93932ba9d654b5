"""Cold starts have an SLI of their own and burn no budget of warm engines; those that fail burn as any failure does."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.e2e.harness import Running, ask, chat, gateway
from tests.e2e.test_from_zero import asked, engine_at, routes, stopped_engine, waking
from tests.waiting import HandClock, eventually, patient_client

pytestmark = pytest.mark.anyio


def with_objective(url: str, **settings: Any) -> str:
    """Return routes whose model promises a first token within a second, and a cold start within a minute."""
    text = json.loads(routes(url, **settings))
    text["objectives"] = {
        "fast": {
            "availability": {"target": 99},
            "ttft": {"target": 99, "under": "1s"},
            "e2e": {"target": 99, "under": "1s"},
            "cold_start": {"target": 95, "under": "60s"},
        }
    }
    text["models"]["m"]["objective"] = "fast"
    return json.dumps(text)


async def samples(running: Running, name: str) -> list[Sample]:
    """Return the samples of one name."""
    async with patient_client() as web:
        text = (await web.get(f"{running.admin}/metrics")).text
    families = text_string_to_metric_families(text)
    return [sample for family in families for sample in family.samples if sample.name == name]


async def events(running: Running) -> dict[tuple[str, str], float]:
    """Return the events of the model, by SLI and verdict; those that are none left out."""
    found = await samples(running, "tidegate_sli_events_total")
    return {(each.labels["sli"], each.labels["verdict"]): each.value for each in found if each.value}


async def test_a_cold_start_is_an_event_of_its_own_and_burns_nothing_else(tmp_path: Path) -> None:
    clock = HandClock()
    engine = await stopped_engine()
    async with gateway(tmp_path, with_objective(engine.url), wait_ready=False, now=clock) as running:
        await eventually(lambda: running.backend().readiness.state == "not_ready")
        held = asked(running, 4, max_tokens=3)
        await eventually(lambda: waking(running).held == 4)
        clock.advance(30)
        async with engine_at(engine.port):
            assert {each.status for each in await asyncio.gather(*held)} == {200}
            await running.quiet()
            cold = await events(running)
            assert cold == {("availability", "good"): 4.0, ("cold_start", "good"): 4.0}
            (counted,) = await samples(running, "tidegate_cold_start_seconds_count")
            assert counted.value == 4.0
            assert (await ask(running.port, chat(max_tokens=3))).status == 200
            await running.quiet()
            warm = await events(running)
            assert warm["ttft", "good"] == warm["e2e", "good"] == 1.0
            assert warm["cold_start", "good"] == 4.0


async def test_a_cold_start_that_takes_too_long_is_bad_as_a_cold_start(tmp_path: Path) -> None:
    clock = HandClock()
    engine = await stopped_engine()
    async with gateway(tmp_path, with_objective(engine.url), wait_ready=False, now=clock) as running:
        await eventually(lambda: running.backend().readiness.state == "not_ready")
        held = asked(running, 2, max_tokens=3)
        await eventually(lambda: waking(running).held == 2)
        clock.advance(90)
        async with engine_at(engine.port):
            assert {each.status for each in await asyncio.gather(*held)} == {200}
            await running.quiet()
            assert await events(running) == {("availability", "good"): 2.0, ("cold_start", "bad"): 2.0}


async def test_a_wake_in_vain_burns_the_budget_of_availability(tmp_path: Path) -> None:
    clock = HandClock()
    engine = await stopped_engine()
    text = with_objective(engine.url, hold="20s", max_held=1)
    async with gateway(tmp_path, text, wait_ready=False, now=clock) as running:
        await eventually(lambda: running.backend().readiness.state == "not_ready")
        held = asked(running, 1)[0]
        await eventually(lambda: waking(running).held == 1)
        assert (await ask(running.port, chat())).status == 503, "one too many"
        await clock.passes(21, held.done)
        assert (await held).status == 503
        assert await events(running) == {("availability", "bad"): 2.0}


async def test_a_pool_that_is_merely_down_burns_as_ever(tmp_path: Path) -> None:
    engine = await stopped_engine()
    text = json.loads(with_objective(engine.url))
    del text["pools"]["gpu"]["scale_from_zero"]
    async with gateway(tmp_path, json.dumps(text), wait_ready=False) as running:
        await eventually(lambda: running.backend().readiness.state == "not_ready")
        assert (await ask(running.port, chat())).status == 503
        assert await events(running) == {("availability", "bad"): 1.0}
