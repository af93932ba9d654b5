"""First, do no harm: what one request may not do to the others, with simulated engines behind the real listener."""

import asyncio
import json
from base64 import b64encode
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.policy.slo.series import Kind
from tests.e2e.fakes import Call, backends, closed_at_once, good
from tests.e2e.harness import Running, ask, chat, gateway, routes
from tests.e2e.processes import engine
from tests.observing import Raising
from tests.waiting import HandClock, eventually, patient_client

pytestmark = pytest.mark.anyio

DIGITS = 10**400 - 1


async def test_a_number_of_400_digits_is_refused_and_the_model_goes_on_serving(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        for name in ("max_tokens", "max_completion_tokens", "n"):
            answer = await ask(running.port, chat() | {name: DIGITS})
            assert (answer.status, answer.json["error"]["param"]) == (400, name)
        assert not fake.calls
        for asked in (10**18, "9", 9.0, 9, -5, True):
            assert (await ask(running.port, chat(max_tokens=asked))).status == 200
        async with patient_client() as web:
            assert (await web.get(f"{running.admin}/metrics")).status_code == 200
        await running.quiet()


async def test_no_estimate_exceeds_what_the_model_takes(tmp_path: Path) -> None:
    async with engine("--engine", "max_model_len=2048") as sim, gateway(tmp_path, routes(*sim.urls)) as running:
        await eventually(lambda: running.backend().models == {"m": 2048})
        long = chat(messages=[{"role": "user", "content": "word " * 40_000}], max_tokens=10**12)
        assert (await ask(running.port, long)).status == 400
        assert running.records.exchanges[-1].prompt_estimate == 2048


async def test_an_image_of_9_mb_is_no_long_prompt_and_blocks_no_small_request(tmp_path: Path) -> None:
    image = "data:image/png;base64," + b64encode(bytes(range(256)) * (9_000_000 // 256)).decode()
    parts = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": "what is it?"}]
    with_image = chat(messages=[{"role": "user", "content": parts}], max_tokens=16)
    knobs = ("--engine", "num_blocks=1024", "--engine", "max_model_len=8192")
    async with engine(*knobs) as sim, gateway(tmp_path, routes(*sim.urls)) as running:
        await eventually(lambda: running.backend().health.slots.kv_capacity == 1024 * 16)
        long = asyncio.create_task(ask(running.port, chat(max_tokens=8000, ignore_eos=True)))
        await eventually(lambda: running.in_flight == 1)
        large, small = await asyncio.gather(ask(running.port, with_image), ask(running.port, chat(max_tokens=4)))
        assert not long.done()
        assert (large.status, small.status) == (200, 200)
        estimates = sorted(each.prompt_estimate for each in running.records.exchanges)
        assert estimates[-1] < 200
        long.cancel()
        await running.quiet()


async def load(running: Running, count: int, each: float, names: list[str], body: dict[str, Any]) -> Counter[Any]:
    """Send requests of these classes in turn, `each` seconds apart; return answers by class and status."""
    asking = []
    for number in range(count):
        name = names[number % len(names)]
        headers = f"x-gateway-class: {name}\r\n"
        asking.append((name, asyncio.create_task(ask(running.port, body, headers=headers))))
        await asyncio.sleep(each)
    return Counter([(name, (await task).status) for name, task in asking])


async def test_an_engine_that_is_slower_than_its_threshold_is_not_taken_for_an_overloaded_one(tmp_path: Path) -> None:
    """The page-rate burn of a model that is merely slow refuses and delays no one."""
    clock = HandClock()

    async def slow(call: Call) -> None:
        clock.advance(0.06)
        await good(call)

    async with backends(slow) as (fake,):
        spec = {
            "pools": {"gpu": {"backends": [fake.url]}},
            "objectives": {"fast": {"ttft": {"target": 99, "under": "50ms"}}},
            "models": {"m": {"versions": {"v1": {"pools": ["gpu"]}}, "objective": "fast"}},
        }
        async with gateway(tmp_path, json.dumps(spec), now=clock) as running:
            limit = running.backend().health.slots.limit
            for _ in range(30):
                for name in ("interactive", "standard", "batch"):
                    assert (await ask(running.port, chat(), headers=f"x-gateway-class: {name}\r\n")).status == 200
                running.app.control.outlier_detector.detect()
                running.app.control.limits.admit()
            assert running.backend().health.slots.limit >= limit
            ttft = next(each for each in running.app.data.ledger.get(Kind.MODEL, "m") if each.sli == "ttft")
            assert ttft.windows.recent[:2] == (0, 90)
            assert not any(each.queued for each in running.records.exchanges), "held back"
            await running.quiet()


def patient(url: str, seconds: str) -> str:
    """Return routes to one backend, with one class that waits so long for a slot."""
    return json.dumps(
        {
            "classes": {"standard": {"priority": 10, "max_queue_wait": seconds}},
            "models": {"m": {"backends": [url], "timeouts": {"connect": "20s", "first_token": "20m"}}},
        }
    )


async def test_an_idle_engine_that_is_slow_is_given_a_burst_though_no_first_token_has_come(tmp_path: Path) -> None:
    """A hundred requests at once, more than a new limit allows: the engine says that it runs them, and none waits."""
    async with engine() as sim, gateway(tmp_path, patient(sim.urls[0], "10m")) as running:
        asking = [asyncio.create_task(ask(running.port, chat(sim={"ttft_delay": 600}))) for _ in range(100)]
        await eventually(lambda: running.backend().health.slots.in_flight == 100 or any(each.done() for each in asking))
        assert not any(each.done() for each in asking), "one was turned away"
        for each in asking:
            each.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await running.quiet()


async def test_an_engines_word_that_is_stale_bounds_no_one(tmp_path: Path) -> None:
    """It said that requests wait inside it, and is silent now: more than a new limit are let in all the same."""
    free = asyncio.Event()

    async def held(call: Call) -> None:
        await free.wait()
        await good(call)

    async with backends(held) as (fake,), gateway(tmp_path, patient(fake.url, "2m")) as running:
        fake.metrics = b"vllm:num_requests_running 3\nvllm:num_requests_waiting 3\n"
        await eventually(lambda: running.backend().engine.metrics is not None)
        fake.metrics = b""
        asking = [asyncio.create_task(ask(running.port, chat())) for _ in range(40)]
        await eventually(lambda: running.backend().health.slots.in_flight == 40)
        free.set()
        assert {(await each).status for each in asking} == {200}
        await running.quiet()


async def test_the_highest_class_is_served_first_where_slots_are_scarce(tmp_path: Path) -> None:
    """Four slots, answers of 0.2 s, 20 requests/s of each class: three times what can be served."""
    async with engine() as sim:
        spec = {
            "pools": {"gpu": {"backends": [{"url": sim.urls[0], "max_concurrency": 4}]}},
            "classes": {
                "interactive": {"priority": 0, "max_queue_wait": "10s"},
                "standard": {"priority": 10, "max_queue_wait": "1s"},
                "batch": {"priority": 20, "max_queue_wait": "1s", "sheddable": True},
            },
            "models": {"m": {"versions": {"v1": {"pools": ["gpu"]}}}},
        }
        body = chat(max_tokens=2, sim={"ttft_delay": 0.2})
        async with gateway(tmp_path, json.dumps(spec)) as running:
            seen = await load(running, 240, 1 / 60, ["interactive", "standard", "batch"], body)
            served = {name: seen[name, 200] for name in ("interactive", "standard", "batch")}
            assert served["interactive"] >= min(40, sum(served.values()) / 2), served
            assert served["interactive"] >= max(served.values()), served
            assert not seen["standard", 429]
            assert not seen["batch", 503]
            await running.quiet()


KV = ("--engine", "num_blocks=256", "--engine", "max_model_len=4096")
"""An engine whose KV cache holds 4,096 tokens."""


async def test_an_idle_engine_takes_a_large_request_at_once(tmp_path: Path) -> None:
    async with engine(*KV) as sim, gateway(tmp_path, routes(*sim.urls)) as running:
        await eventually(lambda: running.backend().health.slots.kv_capacity == 4096)
        assert (await ask(running.port, chat(max_tokens=4000, sim={"output_tokens": 3}))).status == 200
        assert (await running.settled()).queued == 0.0


async def test_an_idle_engine_takes_all_whose_max_tokens_are_far_above_what_they_use(tmp_path: Path) -> None:
    """Agents state 32,000: a fresh gateway kept so much free for each, and refused 10 of 16 beside an idle engine."""
    async with engine() as sim, gateway(tmp_path, routes(*sim.urls)) as running:
        await eventually(lambda: running.backend().health.slots.kv_capacity == 131_072)
        body = chat(max_tokens=32_000, sim={"ttft_delay": 2.0, "output_tokens": 3})
        asked = [asyncio.create_task(ask(running.port, body)) for _ in range(16)]
        await eventually(lambda: running.backend().health.slots.in_flight == 16)
        assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
        await running.quiet()


async def test_a_large_request_is_served_soon_though_small_ones_keep_coming(tmp_path: Path) -> None:
    """Small ones pass it while there is room; then a place is kept for it, and no one is refused."""
    async with engine(*KV) as sim, gateway(tmp_path, routes(*sim.urls)) as running:
        await eventually(lambda: running.backend().health.slots.kv_capacity == 4096)
        done = asyncio.Event()

        async def keep_asking(delay: float) -> list[int]:
            small, found = chat(max_tokens=700, sim={"ttft_delay": delay, "output_tokens": 3}), []
            while not done.is_set():
                found.append((await ask(running.port, small)).status)
            return found

        workers = [asyncio.create_task(keep_asking(0.2 + each / 25)) for each in range(5)]
        await eventually(lambda: running.in_flight >= 4)
        before = len(running.records.exchanges)
        try:
            long = [{"role": "user", "content": "word " * 2400}]
            body = chat(messages=long, max_tokens=800, sim={"output_tokens": 3})
            large = await ask(running.port, body, headers="x-request-id: large\r\n")
        finally:
            done.set()
            statuses = [status for found in await asyncio.gather(*workers) for status in found]
        assert large.status == 200
        assert set(statuses) == {200}
        served = [each.request_id for each in running.records.exchanges]
        assert 1 <= served.index("large") - before < 100, "small ones passed it for a second"
        waited = running.records.exchanges[served.index("large")]
        began = waited.received + waited.queued
        beside = [each for each in running.records.exchanges if each.received + each.queued < began < each.ended]
        assert waited.queued > 0.9 or not beside, "unless all small ones ended at once"
        await running.quiet()


async def test_an_observer_that_raises_harms_no_request_and_no_other_observer(tmp_path: Path) -> None:
    async with (
        backends(closed_at_once, good) as (sick, healthy),
        gateway(tmp_path, routes(sick.url, healthy.url), observers=[Raising()]) as running,
    ):
        asked = 0
        while not sick.calls:
            assert (await ask(running.port, chat(stream=asked % 2 == 0))).status == 200
            asked += 1
        await running.settled(asked)
        assert len(running.records.retries) == 1
        assert len(running.records.attempts) == asked + 1
