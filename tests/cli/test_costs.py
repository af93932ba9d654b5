"""`tidegate costs`: what the gateway tells of costs, as a table or as CSV."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from gateway.cli.commands import app

COSTS = {
    "since": "2026-11-27T19:00:00Z",
    "until": "2026-11-27T20:30:00Z",
    "pools": [{"pool": "gpu", "cost": 3.75, "charged": 2.0, "mirrored": 0.0, "idle": 1.75, "in_progress": 0.00004}],
    "tenants": [
        {
            "tenant": "acme",
            "model": "m",
            "requests": {"ok": 1200, "failed": 3},
            "prompt_tokens": 50_000,
            "cached_prompt_tokens": 20_000,
            "computed_prompt_tokens": 30_000,
            "output_tokens": 4000,
            "cost": 2.0,
            "cost_by_pool": {"gpu": 2.0},
            "idle_cost": 0.0,
        }
    ],
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[httpx.Response], list[dict[str, Any]]]:
    """Let the gateway answer so; what it was asked for is in the list."""

    def answers(answer: httpx.Response) -> list[dict[str, Any]]:
        queries: list[dict[str, Any]] = []

        def request(*_: object, params: dict[str, Any], **__: object) -> httpx.Response:
            queries.append(params)
            return answer

        monkeypatch.setattr(httpx, "request", request)
        return queries

    return answers


def rows(*arguments: str) -> list[str]:
    result = CliRunner().invoke(app, ["costs", *arguments], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def test_it_shows_what_tenants_used_and_what_pools_cost(asked: Any) -> None:
    queries = asked(httpx.Response(200, json=COSTS))
    shown = rows("--tenant", "acme")
    assert queries == [{"tenant": "acme", "model": "", "idle": "apart"}]
    assert shown[0] == "2026-11-27 19:00 to 2026-11-27 20:30 UTC"
    assert "acme m 1,200 3 0 0 50,000 20,000 4,000 2.0000" in shown
    assert "gpu 3.7500 2.0000 0.0000 1.7500 4e-05" in shown


def test_a_part_of_what_idle_engines_cost_has_a_column_of_its_own(asked: Any) -> None:
    tenant = COSTS["tenants"][0] | {"idle_cost": 1.75}  # type: ignore[operator]
    asked(httpx.Response(200, json=COSTS | {"tenants": [tenant]}))
    assert "acme m 1,200 3 0 0 50,000 20,000 4,000 2.0000 1.7500" in rows("--idle", "distributed")


def test_without_requests_it_says_so(asked: Any) -> None:
    asked(httpx.Response(200, json=COSTS | {"tenants": [], "pools": []}))
    assert "no requests were counted" in rows()


def test_csv_is_the_gateways_own(asked: Any) -> None:
    queries = asked(httpx.Response(200, text="tenant,model\nacme,m\n"))
    assert rows("--csv", "--idle", "distributed") == ["tenant,model", "acme,m"]
    assert queries == [{"tenant": "", "model": "", "idle": "distributed", "format": "csv"}]


def test_a_refusal_ends_with_its_words(asked: Any) -> None:
    refusal = {"error": {"code": "not_found", "message": "no such path"}}
    asked(httpx.Response(404, json=refusal))
    result = CliRunner().invoke(app, ["costs", "--csv"])
    assert (result.exit_code, result.stderr) == (1, "tidegate: no such path\n")
