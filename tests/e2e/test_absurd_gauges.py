"""Engines that say of themselves what cannot be."""

from pathlib import Path

import pytest

from gateway.policy.routing.limit_evidence import UNLIMITED
from tests.e2e.fakes import backends, good
from tests.e2e.harness import ask, chat, gateway, routes
from tests.waiting import eventually, patient_client

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("absurd", ["-7", "NaN", "+Inf", "1e300"])
async def test_what_cannot_be_is_neither_shown_on_nor_used(tmp_path: Path, absurd: str) -> None:
    lines = f"""vllm:num_requests_running {absurd}
vllm:num_requests_waiting {absurd}
vllm:kv_cache_usage_perc {absurd}
vllm:num_preemptions_total 3
vllm:cache_config_info{{block_size="-16",num_gpu_blocks="-2000"}} 1.0
"""
    async with backends(good) as (fake,):
        fake.metrics = lines.encode()
        async with gateway(tmp_path, routes(fake.url)) as running:
            backend = running.backend()
            await eventually(lambda: backend.engine.metrics is not None)
            engine = backend.engine.metrics
            assert engine is not None
            assert engine.preemptions == 3
            assert (engine.running, engine.waiting, engine.kv_usage, engine.kv_capacity) == (None,) * 4
            assert not backend.is_busy(running.app.data.clock())
            async with patient_client(base_url=running.admin) as client:
                shown = [line for line in (await client.get("/metrics")).text.splitlines() if line[:1] != "#"]
                assert not [line for line in shown if line.startswith("tidegate_engine_")]
                (pool,) = (await client.get("/admin/status")).json()["backends"]
                assert pool["engine"]["running"] is None
            assert (await ask(running.port, chat())).status == 200


async def test_a_kv_cache_too_small_for_one_request_of_the_context_is_unknown(tmp_path: Path) -> None:
    """As where attention slides over a window: blocks are not all of the tokens that it holds."""
    async with backends(good) as (fake,):
        fake.metrics = (
            b'vllm:num_preemptions_total 3\nvllm:cache_config_info{block_size="16",num_gpu_blocks="10"} 1.0\n'
        )
        fake.max_model_len = 161
        async with gateway(tmp_path, routes(fake.url)) as running:
            backend = running.backend()
            await eventually(lambda: backend.engine.metrics is not None and backend.models is not None)
            await eventually(lambda: backend.engine.metrics is not None and backend.engine.metrics.kv_capacity is None)
            await eventually(lambda: backend.health.slots.kv_capacity == UNLIMITED)
            fake.max_model_len = 160
            await eventually(lambda: backend.health.slots.kv_capacity == 160)
