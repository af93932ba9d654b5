"""First, do no harm: what one request may not do to the others, with simulated engines behind the real listener."""

import asyncio
from base64 import b64encode
from pathlib import Path

import httpx
import pytest

from tests.e2e.fakes import backends, good
from tests.e2e.harness import ask, chat, eventually, gateway, routes
from tests.e2e.processes import engine

pytestmark = pytest.mark.anyio

DIGITS = 10**400 - 1


async def test_a_number_of_400_digits_is_refused_and_the_model_goes_on_serving(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        for name in ("max_tokens", "max_completion_tokens", "n"):
            answer = await ask(running.port, chat(**{name: DIGITS}))
            assert (answer.status, answer.json["error"]["param"]) == (400, name)
        assert not fake.calls
        for asked in (10**18, "9", 9.0, 9, -5, True):
            assert (await ask(running.port, chat(max_tokens=asked))).status == 200
        async with httpx.AsyncClient() as web:
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
        await eventually(lambda: running.backend().health.kv_capacity == 1024 * 16)
        long = asyncio.create_task(ask(running.port, chat(max_tokens=4000, ignore_eos=True)))
        await eventually(lambda: running.in_flight == 1)
        large, small = await asyncio.gather(ask(running.port, with_image), ask(running.port, chat(max_tokens=4)))
        assert not long.done()
        assert (large.status, small.status) == (200, 200)
        estimates = sorted(each.prompt_estimate for each in running.records.exchanges)
        assert estimates[-1] < 200
        long.cancel()
        await running.quiet()
