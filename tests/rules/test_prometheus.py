"""A real Prometheus scrapes a running gateway, and the page that `tidegate rules` wrote fires there."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from gateway.config.load import load_routes
from gateway.rules.grafana import dashboard
from gateway.rules.prometheus import rules_file
from gateway.rules.slo import Scale, Slo, slos
from tests.e2e.harness import ask, chat, gateway
from tests.e2e.processes import engine
from tests.rules.made import needs_promtool
from tests.waiting import DEADLINE, patient_client

pytestmark = [pytest.mark.anyio, needs_promtool]
SCALE = 0.005
"""An hour is 18 s and five minutes are 1.5 s."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@asynccontextmanager
async def prometheus(folder: Path, target: str, rules: Path) -> AsyncIterator[str]:
    """Run Prometheus until the block ends; return its URL."""
    config = {
        "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "tidegate", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def until(client: httpx.AsyncClient, url: str, found: Any, seconds: float = 2 * DEADLINE) -> Any:
    """Ask until `found` is true of the answer's data, and return that."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                answer = (await client.get(url)).json()["data"]
                if found(answer):
                    return answer
            except (httpx.HTTPError, ValueError, KeyError):
                pass
            await asyncio.sleep(0.1)


async def test_the_page_fires_on_a_burn_and_clears_after_it(tmp_path: Path) -> None:
    async with engine() as backend, patient_client(trust_env=False) as client:
        text = json.dumps(
            {
                "objectives": {"o": {"availability": {"target": 99}}},
                "models": {"m": {"backends": backend.urls[:1], "objective": "o"}},
            }
        )
        async with gateway(tmp_path, text) as running:
            rules = tmp_path / "rules.yaml"
            table = load_routes(tmp_path / "routes.yaml")
            rules.write_text(yaml.safe_dump(rules_file(list(slos(table, "docs/alerting.md", Scale(SCALE))))))
            async with prometheus(tmp_path, running.admin.removeprefix("http://"), rules) as url:
                enough = asyncio.Event()

                async def load() -> None:
                    while not enough.is_set():
                        await ask(running.port, chat(stream=False, max_tokens=1))
                        await asyncio.sleep(0.02)  # more of them would only keep the machine busy

                asking = asyncio.create_task(load())
                query = f"{url}/api/v1/query?query=slo:sli_error:ratio_rate1h"
                healthy = await until(client, query, lambda data: data["result"])
                assert [float(row["value"][1]) for row in healthy["result"]] == [0.0]
                await client.post(f"{backend.urls[0]}/sim/faults", json={"error_rate": 0.5, "error_code": 500})
                alerts = await until(client, f"{url}/api/v1/alerts", lambda data: paging(data["alerts"]))
                (page,) = paging(alerts["alerts"])
                assert page["labels"]["sli"] == "availability"
                assert page["labels"]["model"] == "m"
                words = page["annotations"]["description"]
                assert words.startswith("At this rate the budget of 28d is gone in ")
                assert re.search(
                    r"; \d+ of \d+ requests failed in the last hour, worst on m/127.0.0.1:\d+ \(\d+ ", words
                )
                assert "99 % of requests answered completely" in words
                await the_dashboard_shows_it(client, url, list(slos(table, "", Scale(SCALE))))
                await client.delete(f"{backend.urls[0]}/sim/faults")
                await until(client, f"{url}/api/v1/alerts", lambda data: not paging(data["alerts"]))
                enough.set()
                await asking
            await running.quiet()


async def the_dashboard_shows_it(client: httpx.AsyncClient, url: str, found: list[Slo]) -> None:
    """Ask every query of the dashboard, and look at whether those panels have data that such a fault has data for."""
    shown = set()
    for panel in dashboard(found, "m")["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$__rate_interval", "5s").replace("$pool", ".*")
            answer = (await client.get(f"{url}/api/v1/query", params={"query": query})).json()
            assert answer["status"] == "success", (query, answer)
            if answer["data"]["result"]:
                shown.add(panel["title"])
    assert shown >= {
        "Availability",
        "Backends by state",
        "Burn rate, 1h",
        "Event loop lag",
        "Failed attempts",
        "Goodput: requests that met every target",
        "In flight and limit by backend",
        "Overhead",
        "Prometheus: firing alerts",
        "Queue depth by class",
        "Requests by outcome",
        "Slots in use",
        "Tokens",
        "Weight",
    }


def paging(alerts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in alerts if each["labels"]["severity"] == "page" and each["state"] == "firing"]
