"""Costs as they are told: read from the gateway's own metrics, adding up, as JSON and as a table."""

import csv
import io
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from gateway.admin.costs import METRICS, cost_routes
from gateway.wire.slices import Slices

TEXT = """\
# HELP tidegate_tenant_requests_total Requests of tenants by result.
# TYPE tidegate_tenant_requests_total counter
tidegate_tenant_requests_total{model="m",result="ok",tenant="acme"} 4.0
tidegate_tenant_requests_total{model="m",result="failed",tenant="acme"} 1.0
tidegate_tenant_requests_total{model="m",result="ok",tenant="beta"} 2.0
tidegate_tenant_tokens_total{direction="prompt",model="m",tenant="acme"} 100.0
tidegate_tenant_tokens_total{direction="output",model="m",tenant="acme"} 1e+06
tidegate_tenant_cached_prompt_tokens_total{model="m",tenant="acme"} 60.0
tidegate_tenant_cost_total{model="m",pool="cpu",tenant="acme"} 0.5
tidegate_tenant_cost_total{model="m",pool="gpu",tenant="acme"} 1.0
tidegate_tenant_cost_total{model="m",pool="gpu",tenant="beta"} 3.0
tidegate_cost_mirrored_total{model="m",pool="gpu",version="v2"} 0.25
tidegate_cost_mirrored_total{model="n",pool="gpu",version="v2"} 0.25
tidegate_cost_idle_total{pool="gpu"} 4.0
tidegate_cost_idle_total{pool="cpu"} 0.5
tidegate_cost_idle_total{pool="spare"} 2.0
tidegate_cost_engines_total{pool="gpu"} 9.5
tidegate_cost_engines_total{pool="cpu"} 1.0
tidegate_cost_engines_total{pool="spare"} 2.0
tidegate_in_flight 3.0
"""


@pytest.fixture(name="client")
def _client() -> TestClient:
    async def told() -> bytes:
        return TEXT.encode()

    app = FastAPI()
    app.include_router(cost_routes(told, Slices(lambda: 0.0), lambda: 1_800_000_000.0))
    return TestClient(app)


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_each_tenant_has_what_it_used_and_pools_add_up(client: TestClient) -> None:
    found: dict[str, Any] = client.get("/admin/costs").json()
    assert found["since"] == "2027-01-15T08:00:00Z"
    beta, acme = found["tenants"]
    assert beta["cost"] == 3.0
    assert acme == {
        "tenant": "acme",
        "model": "m",
        "requests": {"ok": 4, "failed": 1},
        "prompt_tokens": 100,
        "cached_prompt_tokens": 60,
        "computed_prompt_tokens": 40,
        "output_tokens": 1_000_000,
        "cost": 1.5,
        "cost_by_pool": {"cpu": 0.5, "gpu": 1.0},
        "idle_cost": 0.0,
    }
    gpu = {"cost": 9.5, "charged": 4.0, "mirrored": 0.5, "idle": 4.0, "in_progress": 1.0}
    assert [each["pool"] for each in found["pools"]] == ["cpu", "gpu", "spare"]
    assert found["pools"][1] == {"pool": "gpu", **gpu}


def test_idle_engines_can_be_distributed_by_what_was_charged_in_their_pool(client: TestClient) -> None:
    rows = client.get("/admin/costs?idle=distributed&tenant=acme").json()["tenants"]
    assert [each["idle_cost"] for each in rows] == [4.0 * 1 / 4 + 0.5]


def test_filters_leave_out_all_others(client: TestClient) -> None:
    assert [each["tenant"] for each in client.get("/admin/costs?tenant=beta").json()["tenants"]] == ["beta"]
    assert client.get("/admin/costs?model=n").json()["tenants"] == []


@pytest.mark.parametrize("idle", ["apart", "distributed"])
def test_a_table_adds_up_to_what_engines_cost(client: TestClient, idle: str) -> None:
    answer = client.get(f"/admin/costs?idle={idle}", headers={"accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = table(answer.text)
    assert sum(float(row["cost"]) + float(row["idle_cost"]) for row in rows) == pytest.approx(12.5)
    assert [row["tenant"] for row in rows] == ["beta", "acme", "(idle)", "(mirrored)", "(in progress)"]
    assert float(rows[2]["idle_cost"]) == (6.5 if idle == "apart" else 2.0), "a pool that nobody used stays idle"


def test_a_table_of_one_tenant_has_its_rows_alone(client: TestClient) -> None:
    (row,) = table(client.get("/admin/costs?format=csv&tenant=acme").text)
    assert (row["ok_requests"], row["failed_requests"], row["limited_requests"]) == ("4", "1", "0")


def test_json_wins_where_it_is_asked_for(client: TestClient) -> None:
    assert client.get("/admin/costs?format=json", headers={"accept": "text/csv"}).json()["pools"]
    assert client.get("/admin/costs?format=xml").status_code == 422


def test_everything_that_costs_are_read_from_is_there() -> None:
    assert all(f"{name}{{" in TEXT for name in METRICS)
