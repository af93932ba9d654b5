"""The dashboard: Grafana can load it, promtool can read its queries, and the gateway exports all that they name."""

import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from gateway.cli.commands import app
from gateway.config.table import RouteTable
from gateway.rules.grafana import dashboard, queries
from gateway.rules.slo import Scale, slos
from tests.e2e.fakes import backends, good
from tests.e2e.harness import ask, chat, gateway
from tests.e2e.test_canary import routes
from tests.rules.made import TABLES, needs_promtool, parted, promtool
from tests.waiting import patient_client

METRIC = re.compile(r"\btidegate_[a-z_]+")
FOUND = dashboard(slos(parted(), "", Scale()))


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = FOUND["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells


def test_every_query_reads_the_data_source_that_is_chosen_above() -> None:
    assert [each["name"] for each in FOUND["templating"]["list"]] == ["datasource", "model", "pool"]
    panels = [panel for panel in FOUND["panels"] if panel["type"] != "row"]
    sources = [each["datasource"] for panel in panels for each in (panel, *panel["targets"])]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert all(panel["targets"] for panel in panels)


@needs_promtool
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_promtool_reads_every_query(table: RouteTable, tmp_path: Path) -> None:
    found = queries(dashboard(slos(table, "", Scale())))
    plain = [each.replace("$__rate_interval", "5m").replace("$model", "m").replace("$pool", "p") for each in found]
    assert not any("$" in each for each in plain)
    rules = [{"record": f"q{number}", "expr": each} for number, each in enumerate(plain)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    result = promtool(tmp_path, "check", "rules", "rules.yaml")
    assert result.returncode == 0, result.stderr


@pytest.mark.anyio
async def test_the_gateway_exports_every_metric_that_it_names(tmp_path: Path) -> None:
    asked = [*queries(FOUND), *(str(each.get("query")) for each in FOUND["templating"]["list"])]
    named = {name for query in asked for name in METRIC.findall(query)}
    assert len(named) > 20
    async with backends(good, good) as (old, new):
        async with gateway(tmp_path, routes(old.url, new.url, start="manual")) as running:
            await ask(running.port, chat())
            await running.settled()
            async with patient_client(trust_env=False) as client:
                metrics = (await client.get(f"{running.admin}/metrics")).text
    kinds = dict(re.findall(r"(?m)^# TYPE (\S+) (\S+)$", metrics))
    exported = {name for name, kind in kinds.items() if kind in {"gauge", "counter"}}
    exported |= {f"{name}_bucket" for name, kind in kinds.items() if kind == "histogram"}
    assert named - exported == set()


def test_the_command_writes_json(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text("models: {m: {backends: [http://a]}}")
    command = ["rules", str(tmp_path / "routes.yaml"), "--format", "grafana"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["title"] == "Tidegate"
    assert "99.9 % of requests answered completely" in told["panels"][1]["description"]
    assert CliRunner().invoke(app, [*command, "--source", "engine"]).exit_code == 2
