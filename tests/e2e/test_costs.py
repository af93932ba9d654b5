"""What tenants used and what that cost, from their requests to the admin listener."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fakes import Call, backends, whole
from tests.e2e.harness import ask, chat, gateway
from tests.e2e.test_admission import bearer, key
from tests.waiting import patient_client

pytestmark = pytest.mark.anyio
USAGE = b'{"prompt_tokens":70,"total_tokens":91,"completion_tokens":21,"prompt_tokens_details":{"cached_tokens":48}}'
ANSWER = b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}],"usage":%b}' % USAGE


async def cached(call: Call) -> None:
    await call.send(whole(b"200 OK", ANSWER))


async def failing(call: Call) -> None:
    await call.send(whole(b"500 Internal Server Error", b"{}"))


def routes(gpu: str, cpu: str) -> str:
    tenants = {name: {"key_sha256": key(f"sk-{name}"), "limits": {"concurrent": 4}} for name in ("acme", "beta")}
    pools = {"gpu": {"backends": [gpu], "cost_per_hour": 2.5}, "cpu": {"backends": [cpu], "cost_per_hour": 0.2}}
    model = {"versions": {"v1": {"pools": ["gpu", "cpu"]}}, "rules": [{"use": ["gpu", "cpu"]}]}
    return json.dumps({"pools": pools, "tenants": tenants, "models": {"m": model}})


async def costs(admin: str, query: str = "") -> dict[str, Any]:
    async with patient_client() as web:
        found: dict[str, Any] = (await web.get(f"{admin}/admin/costs{query}")).json()
    return found


async def test_a_retry_costs_its_tenant_in_both_pools(tmp_path: Path) -> None:
    async with (
        backends(failing, cached) as (gpu, cpu),
        gateway(tmp_path, routes(gpu.url, cpu.url)) as running,
    ):
        assert (await ask(running.port, chat(stream=False), headers=bearer("sk-acme"))).status == 200
        assert (await ask(running.port, chat(stream=False), headers=bearer("sk-stranger"))).status == 401
        asked = (await running.settled(2)) and running.records.exchanges[0]
        found = await costs(running.admin)
        acme, other = found["tenants"]
        assert (acme["tenant"], acme["requests"]) == ("acme", {"ok": 1})
        assert (other["tenant"], other["model"], other["requests"]) == ("other", "other", {"client": 1})
        assert acme["cached_prompt_tokens"] == 48
        assert acme["computed_prompt_tokens"] == 22
        assert acme["output_tokens"] == 21
        assert [attempt.pool for attempt in asked.attempts] == ["gpu", "cpu"]
        for attempt in asked.attempts:
            assert acme["cost_by_pool"][attempt.pool] == pytest.approx(attempt.cost, abs=1e-9)
            assert attempt.cost > 0.0
        for pool in found["pools"]:
            parts = (pool[each] for each in ("charged", "mirrored", "idle", "in_progress"))
            assert sum(parts) == pytest.approx(pool["cost"], abs=1e-8)
        assert (await costs(running.admin, "?tenant=beta"))["tenants"] == []
        async with patient_client() as web:
            metrics = (await web.get(f"{running.admin}/metrics")).text
        assert 'tidegate_tenant_quota_left_ratio{limit="concurrent",tenant="beta"} 1.0' in metrics
        assert "stranger" not in metrics
