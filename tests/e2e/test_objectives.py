"""One model, several objectives: each class of requests is held to its own, in every count and every series."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.policy.slo.series import Kind
from tests.e2e.fakes import DONE, LAST_CHUNK, ROLE, STREAM_HEAD, USAGE, Call, backends, chunked, event, good
from tests.e2e.harness import Running, ask, chat, gateway
from tests.e2e.test_silence import pass_slowly
from tests.waiting import HandClock, eventually, patient_client

pytestmark = pytest.mark.anyio
BATCH = "x-gateway-class: batch\r\n"
TOKENS = 3
"""Of each answer that a scripted engine gives."""


class Engine:
    """An engine that answers while it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.may.set()

    async def __call__(self, call: Call) -> None:
        await self.may.wait()
        await good(call)


OBJECTIVES = {
    "interactive": {"ttft": {"target": 99, "under": "2s", "by_prompt_tokens": {"100": "5s"}}},
    "offline": {"e2e": {"target": 95, "under": "1m"}},
}


def routes(*urls: str, **limits: int) -> str:
    pool = {"backends": [{"url": url, **limits} for url in urls]}
    model = {"objective": {"default": "interactive", "batch": "offline"}, "versions": {"v1": {"pools": ["gpu"]}}}
    return json.dumps({"pools": {"gpu": pool}, "objectives": OBJECTIVES, "models": {"m": model}})


def counts(running: Running, kind: Kind, name: str) -> dict[tuple[str, str], tuple[int, int]]:
    """Good and bad of the last five minutes by objective and SLI, as far as there are any."""
    found = {(each.objective, each.sli): each.windows.count(300.0) for each in running.app.data.ledger.get(kind, name)}
    return {key: (seen.good, seen.bad) for key, seen in found.items() if seen.total}


async def samples(running: Running) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return all metrics of the gateway by name."""
    async with patient_client() as web:
        text = (await web.get(f"{running.admin}/metrics")).text
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def total(found: dict[str, list[tuple[dict[str, str], float]]], name: str, /, **labels: str) -> float:
    return sum(value for each, value in found[f"tidegate_{name}"] if labels.items() <= each.items())


async def test_the_waits_of_a_patient_class_do_not_burn_the_budget_of_an_impatient_one(tmp_path: Path) -> None:
    engine, clock = Engine(), HandClock()
    async with backends(engine) as (fake,):
        async with gateway(tmp_path, routes(fake.url, max_concurrency=1), now=clock) as running:
            assert (await ask(running.port, chat())).status == 200
            engine.may.clear()
            patient = asyncio.gather(*(ask(running.port, chat(), headers=BATCH) for _ in range(2)))
            await eventually(lambda: running.waiting == 1)
            await pass_slowly(clock, running, 2.2)
            engine.may.set()
            assert {answer.status for answer in await patient} == {200}
            await running.quiet()
            assert max(exchange.queued for exchange in running.records.exchanges) > 2, "one waited for the other"
            expected = {
                ("interactive", "availability"): (1, 0),
                ("interactive", "ttft"): (1, 0),
                ("offline", "availability"): (2, 0),
                ("offline", "e2e"): (2, 0),
            }
            subjects = ((Kind.MODEL, "m"), (Kind.VERSION, "m/v1"), (Kind.POOL, "gpu"))
            for subject in (*subjects, (Kind.BACKEND, running.backend().id)):
                await eventually(lambda subject=subject: counts(running, *subject) == expected)  # type: ignore[misc]
            found = await samples(running)
            assert total(found, "burn_rate", objective="interactive") == 0
            assert total(found, "judged_requests_total", objective="interactive", verdict="good") == 1
            assert total(found, "judged_requests_total", objective="offline", verdict="good") == 2
            assert total(found, "judged_requests_total", verdict="bad") == 0
            assert total(found, "goodput_tokens_total", objective="offline") == 2 * TOKENS


async def test_a_request_that_misses_a_target_of_its_own_objective_is_no_goodput(tmp_path: Path) -> None:
    engine, clock = Engine(), HandClock()
    async with backends(engine) as (fake,), gateway(tmp_path, routes(fake.url), now=clock) as running:
        await ask(running.port, chat())
        engine.may.clear()
        both = asyncio.gather(ask(running.port, chat()), ask(running.port, chat(), headers=BATCH))
        await eventually(lambda: running.in_flight == 2)
        await pass_slowly(clock, running, 2.2)
        engine.may.set()
        await both
        await running.quiet()
        found = await samples(running)
        share = {"objective": "interactive"}
        assert total(found, "judged_requests_total", verdict="good", **share) == 1
        assert total(found, "judged_requests_total", verdict="bad", **share) == 1
        assert total(found, "goodput_tokens_total", **share) == TOKENS
        assert total(found, "judged_requests_total", verdict="good", objective="offline") == 1


async def test_a_class_of_prompt_lengths_has_series_of_its_own(tmp_path: Path) -> None:
    async def counts_words(call: Call) -> None:
        usage = USAGE.replace(b"7", b"%d" % len(call.json["messages"][0]["content"].split()))
        await call.send(STREAM_HEAD, chunked(ROLE, event("a", "stop"), usage, DONE) + LAST_CHUNK)

    async with backends(counts_words) as (fake,), gateway(tmp_path, routes(fake.url), now=HandClock()) as running:
        await ask(running.port, chat())
        long: dict[str, Any] = chat() | {"messages": [{"role": "user", "content": "word " * 500}]}
        for _ in range(2):
            await ask(running.port, long)
        await running.quiet()
        await eventually(lambda: counts(running, Kind.MODEL, "m").get(("interactive", "ttft")) == (3, 0))
        by_length = {
            (each.sli, each.prompt_tokens): each.windows.count(300.0).good
            for each in running.app.data.ledger.by_prompt_tokens(Kind.MODEL, "m")
        }
        assert by_length == {("ttft", "<100"): 1, ("ttft", "100+"): 2}
        found = await samples(running)
        assert total(found, "sli_events_total", sli="ttft") == 3, "each event is in one class"
        assert total(found, "sli_events_total", sli="ttft", prompt_tokens="100+") == 2


async def test_a_retry_makes_the_request_good_and_tells_the_backends_apart(tmp_path: Path) -> None:
    async def closes(call: Call) -> None:
        call.close()

    async with backends(closes, good) as (bad, well), gateway(tmp_path, routes(bad.url, well.url)) as running:
        while not bad.calls:
            assert (await ask(running.port, chat(), headers=BATCH)).status == 200
        await running.quiet()
        await eventually(lambda: ("offline", "availability") in counts(running, Kind.BACKEND, running.backend(0).id))
        served, failing, healthy = len(well.calls), running.backend(0).id, running.backend(1).id
        found = await samples(running)
        availability = {"sli": "availability", "objective": "offline"}
        requests = [total(found, "sli_events_total", verdict=each, **availability) for each in ("good", "bad")]
        assert requests == [served, 0], "what users experienced through"
        for backend, expected in ((failing, [0, 1]), (healthy, [served, 0])):
            attempts = [
                total(found, "backend_sli_events_total", backend=backend, verdict=each, **availability)
                for each in ("good", "bad")
            ]
            assert attempts == expected
            rate = total(found, "burn_rate", subject="backend", name=backend, window="5m", **availability)
            assert rate == pytest.approx(1000 if expected[1] else 0), "as its events"
        assert total(found, "burn_rate", subject="model", window="5m", **availability) == 0


async def test_every_series_that_rules_read_is_there_from_the_start(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        found = await samples(running)
        events = {
            (each["objective"], each["sli"], each["prompt_tokens"], each["verdict"]): value
            for each, value in found["tidegate_sli_events_total"]
        }
        slis = [("interactive", "availability", ""), ("interactive", "ttft", "<100"), ("interactive", "ttft", "100+")]
        slis += [("offline", "availability", ""), ("offline", "e2e", "")]
        assert events == {(*each, verdict): 0 for each in slis for verdict in ("good", "bad")}
        assert total(found, "backend_sli_events_total") == 0
        assert len(found["tidegate_backend_sli_events_total"]) == 8
