"""The dashboard: Grafana can load it, promtool can read its queries, and the gateway exports all that they name."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from gateway.cli.commands import app
from gateway.config.table import RouteTable
from gateway.policy.slo.objective import DEFAULT
from gateway.rules.grafana import dashboard, queries
from gateway.rules.slo import Scale, slos
from tests.e2e.fakes import backends, good
from tests.e2e.harness import ask, chat, gateway
from tests.e2e.test_canary import routes as canary_routes
from tests.rules.made import EVERYTHING, SMALL, TABLES, needs_promtool, parted, promtool, table
from tests.waiting import patient_client

METRIC = re.compile(r"\btidegate_[a-z_]+")
SELECTOR = re.compile(r"\b(tidegate_[a-z_]+)(?:\{([^}]*)\})?")
GROUPED = re.compile(r"\b(?:sum|min|max) by \(([^)]*)\)")
DOCUMENTED = {
    name: set(re.findall(r"\w+", labels)) | ({"le"} if kind == "histogram" else set())
    for name, kind, labels in re.findall(
        r"(?m)^\| `(tidegate_\w+)` \| (\w+) \| ([^|]*)\|", (Path(__file__).parents[2] / "docs/metrics.md").read_text()
    )
}
"""The labels of each metric. tests/telemetry holds this table against what is exported."""
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
@pytest.mark.parametrize("routes", TABLES.values(), ids=TABLES)
def test_promtool_reads_every_query(routes: RouteTable, tmp_path: Path) -> None:
    every = list(slos(routes, "", Scale()))
    found = [query for model in ("", *routes.models) for query in queries(dashboard(every, model))]
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
        async with gateway(tmp_path, canary_routes(old.url, new.url, start="manual")) as running:
            await ask(running.port, chat())
            await running.settled()
            async with patient_client(trust_env=False) as client:
                metrics = (await client.get(f"{running.admin}/metrics")).text
    kinds = dict(re.findall(r"(?m)^# TYPE (\S+) (\S+)$", metrics))
    exported = {name for name, kind in kinds.items() if kind in {"gauge", "counter"}}
    exported |= {f"{name}_bucket" for name, kind in kinds.items() if kind == "histogram"}
    assert named - exported == set()


def labels_of(query: str) -> list[tuple[str, set[str]]]:
    """Return each metric of a query with the labels that it is selected by, and that it is grouped by."""
    found = []
    for match in SELECTOR.finditer(query):
        name = match[1].removesuffix("_bucket")
        matched = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", match[2] or ""))
        # The innermost aggregation that the selector stands in.
        grouping = [
            group for group in GROUPED.finditer(query[: match.start()]) if encloses(query, group, match.start())
        ]
        found.append((name, matched | set(re.findall(r"\w+", grouping[-1][1] if grouping else ""))))
    return found


def encloses(query: str, group: re.Match[str], at: int) -> bool:
    """Whether the parenthesis after an aggregation is still open there."""
    between = query[group.end() : at]
    return between.lstrip().startswith("(") and all(
        between[: index + 1].count("(") > between[: index + 1].count(")")
        for index, letter in enumerate(between)
        if letter == ")"
    )


@pytest.mark.parametrize("panel", [each for each in FOUND["panels"] if each["type"] != "row"], ids=lambda p: p["title"])
def test_metrics_have_the_labels_that_they_are_selected_and_grouped_by(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        for name, labels in labels_of(target["expr"]):
            assert labels <= DOCUMENTED[name], target["expr"]
        if "ALERTS" not in target["expr"] and "by" in target["expr"]:
            told = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert told <= set(re.findall(r"\w+", " ".join(GROUPED.findall(target["expr"])))), target


def test_labels_that_a_metric_does_not_have_would_be_found() -> None:
    query = (
        'sum by (model, le) (rate(tidegate_queue_seconds_bucket{class="a"}[5m])) / sum by (pool) (tidegate_in_flight)'
    )
    assert labels_of(query) == [("tidegate_queue_seconds", {"model", "le", "class"}), ("tidegate_in_flight", {"pool"})]
    assert {"model"} - DOCUMENTED["tidegate_queue_seconds"]


def panel(found: dict[str, Any], title: str) -> dict[str, Any]:
    [one] = [each for each in found["panels"] if each["title"] == title]
    assert isinstance(one, dict)
    return one


def lines(found: dict[str, Any]) -> list[float]:
    defaults = found["fieldConfig"]["defaults"]
    assert defaults["custom"]["thresholdsStyle"]["mode"] == "line"
    first, *rest = defaults["thresholds"]["steps"]
    assert first == {"color": "transparent", "value": None}
    return [each["value"] for each in rest]


def test_burn_rates_have_lines_at_one_and_where_pages_begin() -> None:
    four_weeks = dashboard(slos(table(m=DEFAULT), "", Scale()))
    assert lines(panel(four_weeks, "Burn rate, 1h")) == [1.0, 13.44]
    assert lines(panel(four_weeks, "Burn rate, 6h")) == [1.0, 5.6]
    both = dashboard(slos(table(m=DEFAULT, n=EVERYTHING), "", Scale()))
    assert lines(panel(both, "Burn rate, 1h")) == [1.0, 13.44, 14.4]


def test_a_dashboard_of_one_model_shows_that_alone_and_its_thresholds() -> None:
    every = list(slos(table(meta_Llama=EVERYTHING, other=SMALL), "", Scale()))
    whole, one = dashboard(every), dashboard(every, "meta/Llama")
    assert whole["uid"] != one["uid"]
    assert one["title"] == "Tidegate: meta/Llama"
    assert lines(panel(one, "TTFT by version")) == [0.5, 2.0]
    assert lines(panel(one, "Availability")) == [0.9995]
    assert "thresholds" not in panel(whole, "TTFT by version")["fieldConfig"]["defaults"]
    assert not any("$model" in each for each in queries(one))
    assert any('model=~"meta/Llama"' in each for each in queries(one))
    assert [each["name"] for each in one["templating"]["list"]] == ["datasource", "pool"]
    assert "other" not in panel(one, "Error budget left")["description"]


def test_a_name_with_letters_of_patterns_is_taken_as_it_is() -> None:
    one = dashboard(slos(table(**{"a.b+c": SMALL}), "", Scale()), "a.b+c")
    assert any(r'model=~"a\\.b\\+c"' in each for each in queries(one))


def test_the_command_writes_json(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text("models: {m: {backends: [http://a]}}")
    command = ["rules", str(tmp_path / "routes.yaml"), "--format", "grafana"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["title"] == "Tidegate"
    assert "99.9 % of requests answered completely" in told["panels"][1]["description"]
    assert CliRunner().invoke(app, [*command, "--source", "engine"]).exit_code == 2
    assert json.loads(CliRunner().invoke(app, [*command, "--model", "m"]).stdout)["title"] == "Tidegate: m"
    assert CliRunner().invoke(app, [*command, "--model", "n"]).exit_code == 2
    assert CliRunner().invoke(app, [*command[:2], "--model", "m"]).exit_code == 2
