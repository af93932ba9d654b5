"""/metrics has the names, labels and buckets of a real vLLM's."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.sim.captured import captured
from tests.sim.conftest import SMALL, Serve
from tests.sim.test_faults import until

NOT_SIMULATED = (
    "vllm:estimated_",
    "vllm:external_prefix_cache_",
    "vllm:mm_cache_",
    "vllm:prompt_tokens_by_source",
    "vllm:prompt_tokens_cached",
    "vllm:request_max_num_generation_tokens",
    "vllm:request_num_preemptions",
    "vllm:request_params_max_tokens",
    "vllm:request_prefill_kv_computed_tokens",
    "vllm:tool_call_parser_invocations",
    "http_",
)

pytestmark = pytest.mark.anyio

Sample = tuple[str, dict[str, str], float]


def samples(text: str) -> Iterator[Sample]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def value(text: str, name: str, **labels: str) -> float:
    found = [number for key, have, number in samples(text) if key == name and labels.items() <= have.items()]
    assert len(found) == 1, (name, found)
    return found[0]


async def metrics(client: httpx.AsyncClient) -> str:
    return (await client.get("/metrics")).text


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, **fields}


async def test_series_have_the_names_and_labels_of_the_capture(client: httpx.AsyncClient) -> None:
    def series(text: str) -> set[tuple[str, tuple[str, ...]]]:
        return {
            (name, tuple(sorted(f"{key}={label}" if key == "le" else key for key, label in labels.items())))
            for name, labels, _ in samples(text)
            if not name.startswith(NOT_SIMULATED) and name != "vllm:cache_config_info"
        }

    real = series(captured("vllm-opts/metrics_noauth").body.decode())
    assert len(real) > 200
    assert series(await metrics(client)) == real


async def test_the_media_type_is_that_of_the_capture(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.headers["content-type"] == captured("vllm-opts/metrics_noauth").headers["content-type"]


async def test_the_size_of_the_cache_is_told(client: httpx.AsyncClient) -> None:
    labels = next(labels for name, labels, _ in samples(await metrics(client)) if name == "vllm:cache_config_info")
    real = captured("vllm-opts/metrics_noauth").body.decode()
    assert set(labels) <= set(re.findall(r'(\w+)="', next(re.finditer(r"vllm:cache_config_info{(.*)}", real))[1]))
    assert (labels["num_gpu_blocks"], labels["block_size"]) == ("256", "16")


async def test_counts_follow_what_was_served(client: httpx.AsyncClient) -> None:
    for _ in range(3):
        await client.post("/v1/chat/completions", json=chat())
    await client.post("/v1/chat/completions", json=chat(n=2, sim={"output_tokens": 2}))
    text = await metrics(client)
    assert value(text, "vllm:request_success_total", finished_reason="length") == 3
    assert value(text, "vllm:request_success_total", finished_reason="stop") == 2
    assert value(text, "vllm:request_success_total", finished_reason="abort") == 0
    assert value(text, "vllm:generation_tokens_total") == 19
    assert value(text, "vllm:time_to_first_token_seconds_count") == 5
    assert value(text, "vllm:inter_token_latency_seconds_count") == 14
    assert value(text, "vllm:e2e_request_latency_seconds_count") == 5
    assert value(text, "vllm:request_params_n_sum") == 5
    assert value(text, "vllm:request_prompt_tokens_sum") == value(text, "vllm:prompt_tokens_total")
    assert value(text, "vllm:num_requests_running") == value(text, "vllm:num_requests_waiting") == 0


async def test_rejections_are_counted(serve: Serve) -> None:
    async with serve(max_num_queued_reqs=0) as (_, client):
        await client.post("/v1/chat/completions", json=chat())
        name = "vllm:admission_rejections_total"
        assert value(await metrics(client), name, reason="max_num_queued_reqs") == 1


async def test_old_names_stand_for_versions_before_0_12(serve: Serve) -> None:
    async with serve(old_metric_names=True) as (_, client):
        names = {name for name, _, _ in samples(await metrics(client))}
        old = {
            "vllm:gpu_cache_usage_perc",
            "vllm:gpu_prefix_cache_queries_total",
            "vllm:gpu_prefix_cache_hits_total",
            "vllm:time_per_output_token_seconds_bucket",
        }
        new = {"vllm:kv_cache_usage_perc", "vllm:prefix_cache_queries_total", "vllm:inter_token_latency_seconds_bucket"}
        assert old <= names
        assert not new & names
        assert "vllm:engine_sleep_state" not in names


async def test_adapters_are_told_while_they_run(serve: Serve) -> None:
    async with serve(adapters=("poems", "songs"), time_scale=1.0) as (_, client):
        call = asyncio.create_task(client.post("/v1/chat/completions", json=chat(model="poems", max_tokens=50)))

        async def runs() -> bool:
            return bool((await client.get("/sim/state")).json()["running"] == 1)

        await until(runs)
        labels = next(labels for name, labels, _ in samples(await metrics(client)) if name == "vllm:lora_requests_info")
        assert labels == {"max_lora": "2", "running_lora_adapters": "poems", "waiting_lora_adapters": ""}
        assert (await call).json()["model"] == "poems"
        cards = (await client.get("/v1/models")).json()["data"]
        assert [(card["id"], card["parent"]) for card in cards] == [
            ("tiny", None),
            ("poems", "tiny"),
            ("songs", "tiny"),
        ]


async def test_waiting_counts_what_waits_for_capacity(serve: Serve) -> None:
    async with serve(profile=replace(SMALL, max_num_seqs=2), time_scale=1.0) as (_, client):
        calls = [
            asyncio.create_task(client.post("/v1/chat/completions", json=chat(max_tokens=30, stream=True)))
            for _ in range(5)
        ]

        async def waits() -> bool:
            text = await metrics(client)
            running, waiting = (value(text, f"vllm:num_requests_{state}") for state in ("running", "waiting"))
            return (running, waiting) == (2, 3)

        await until(waits)
        text = await metrics(client)
        assert value(text, "vllm:num_requests_waiting_by_reason", reason="capacity") == 3
        assert value(text, "vllm:kv_cache_usage_perc") > 0
        assert {call.status_code for call in await asyncio.gather(*calls)} == {200}
