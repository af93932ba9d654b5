"""Engines' own metrics arrive within seconds, grow stale, and never matter more than a hint."""

import json
from pathlib import Path
from random import Random
from time import monotonic

import pytest

from gateway.control.engine_clients import EngineClients
from gateway.control.scrapes import Scraper
from gateway.policy.capacity.want import EngineLoad
from tests.control.tables import models, registered, written
from tests.e2e.fakes import Call, backends, good
from tests.e2e.harness import ask, chat, gateway, routes
from tests.e2e.processes import engine
from tests.waiting import eventually, patient_client

pytestmark = pytest.mark.anyio


async def test_with_many_backends_each_is_read_more_seldom_unless_an_interval_is_given(tmp_path: Path) -> None:
    urls = [f"http://engine-{number}:1" for number in range(100)]
    registry = registered(written(tmp_path / "routes.yaml", models(*urls)))
    clients = EngineClients(monotonic, Random(1))
    assert Scraper(registry, monotonic, clients).interval == 4.0
    assert Scraper(registry, monotonic, clients, interval=1.0).interval == 1.0


@pytest.mark.parametrize("names", [(), ("--old-metric-names",)], ids=["new", "old"])
async def test_what_an_engine_says_is_shown_and_then_forgotten(names: tuple[str, ...], tmp_path: Path) -> None:
    async with engine(*names) as backend, gateway(tmp_path, routes(backend.urls[0])) as running:
        live = running.backend()
        await eventually(lambda: live.engine.metrics is not None)
        assert live.engine.metrics is not None
        assert (live.engine.metrics.running, live.engine.metrics.kv_capacity) == (0.0, 8192 * 16)
        async with patient_client() as client:
            status = (await client.get(f"{running.admin}/admin/status")).json()
            assert status["backends"][0]["engine"]["kv_usage"] == 0.0
            assert "tidegate_engine_waiting{" in (await client.get(f"{running.admin}/metrics")).text
            await backend.killed()
            await eventually(lambda: live.engine.fresh(running.app.data.clock()) is None)
            status = (await client.get(f"{running.admin}/admin/status")).json()
            assert status["backends"][0]["engine"] is None
            assert "tidegate_engine_waiting{" not in (await client.get(f"{running.admin}/metrics")).text


@pytest.mark.parametrize(
    ("signals", "exposed", "told"),
    [
        (
            {},
            b"jetstream_prefill_backlog_size 4\njetstream_slots_used_percentage 0.5\n",
            EngineLoad(4.0, 0.5, None, None),
        ),
        (
            {"backlog": 'my_requests{state="queued"}', "kv_used": "my_kv"},
            b'my_requests{state="queued"} 7\nmy_requests{state="done"} 9\nmy_kv 0.25\n',
            EngineLoad(7.0, None, 0.25, None),
        ),
        (
            {"backlog": "my_backlog"},
            b"vllm:num_requests_running 3\nvllm:num_requests_waiting 1\nmy_backlog 8\n",
            EngineLoad(8.0, None, None, 3.0),
        ),
        ({}, b"vllm:num_requests_running 3\nvllm:num_requests_waiting 1\n", EngineLoad(1.0, None, None, 3.0)),
        ({}, b"sglang:num_queue_reqs -1\nsglang:num_running_reqs 2\n", EngineLoad(None, None, None, 2.0)),
    ],
    ids=["jetstream", "named in the routes", "vLLM but for one", "vLLM", "absurd"],
)
async def test_the_load_of_engines_of_any_kind_is_read_where_a_pool_wants_replicas(
    signals: dict[str, str], exposed: bytes, told: EngineLoad, tmp_path: Path
) -> None:
    async with backends(good) as (fake,):
        fake.metrics = exposed
        pool = {"backends": [fake.url], "capacity": {"max": 4, "signals": signals}}
        document = {"pools": {"gpu": pool}, "models": {"m": {"versions": {"v1": {"pools": ["gpu"]}}}}}
        async with gateway(tmp_path, json.dumps(document)) as running:
            report = running.backend().engine
            await eventually(lambda: report.load is not None)
            assert report.load == told
            assert report.fresh_load(report.load_at + 60.0) is None


async def test_the_load_of_an_engine_is_not_read_where_nobody_wants_to_know(tmp_path: Path) -> None:
    async with backends(good) as (fake,):
        fake.metrics = b"vllm:num_requests_running 3\nvllm:num_requests_waiting 1\n"
        async with gateway(tmp_path, routes(fake.url)) as running:
            await eventually(lambda: running.backend().engine.metrics is not None)
            assert running.backend().engine.load is None


async def test_an_engine_without_metrics_serves_all_the_same(tmp_path: Path) -> None:
    async def document(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    async with backends(document) as (fake,):
        async with gateway(tmp_path, routes(fake.url)) as running:
            assert (await ask(running.port, chat(stream=False))).status == 200
            assert running.backend().engine.metrics is None
            await running.quiet()
