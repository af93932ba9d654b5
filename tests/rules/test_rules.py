"""Rules as code: whatever objectives the routes have, the tools accept the files, and the alerts do as they say."""

import re
from collections import Counter
from pathlib import Path
from types import MappingProxyType

import pytest
import yaml
from typer.testing import CliRunner

from gateway.cli.commands import app
from gateway.config.table import RouteTable
from gateway.policy.slo.objective import DAY, DEFAULT, Objective, Sli, Target
from gateway.rules.engine import HISTOGRAMS, engine_slos, needed_buckets
from gateway.rules.openslo import openslo
from gateway.rules.prometheus import operator_rule, rules_file
from gateway.rules.promtool import unit_tests
from gateway.rules.slo import Scale, Slo, slos, slug
from gateway.rules.sloth import sloth_specs
from tests.rules.made import BY_LENGTH, EVERYTHING, SMALL, TABLES, needs_promtool, promtool, table, write

LENIENT = Objective("lenient", MappingProxyType({Sli.AVAILABILITY: Target(0.9307)}), 30 * DAY)
STRICT = Objective("strict", MappingProxyType({Sli.ITL: Target(0.9999, 0.2)}))
every_table = pytest.mark.parametrize("routes", TABLES.values(), ids=TABLES)


def read_slos(routes: RouteTable, scale: float = 1.0) -> list[Slo]:
    return list(slos(routes, "https://runbooks.example/slo", Scale(scale)))


@needs_promtool
@every_table
@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_promtool_accepts_the_rules(routes: RouteTable, scale: float, tmp_path: Path) -> None:
    found = read_slos(routes, scale)
    documents = {"rules.yaml": rules_file(found), "operators.yaml": operator_rule(found)["spec"]}
    result = promtool(tmp_path, "check", "rules", *(write(tmp_path / name, each) for name, each in documents.items()))
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(f"{len(found) * 63} rules found") == len(documents)


@needs_promtool
@every_table
def test_promtool_accepts_the_rules_for_engines(routes: RouteTable, tmp_path: Path) -> None:
    found, _ = engine_slos(routes, "", Scale())
    if found:
        result = promtool(tmp_path, "check", "rules", write(tmp_path / "rules.yaml", rules_file(found)))
        assert result.returncode == 0, result.stderr


@needs_promtool
class TestTheUnitTestsThatAreWrittenToo:
    @pytest.mark.parametrize(
        "routes",
        [table(a_b=SMALL), table(m=LENIENT), table(m=STRICT), table(m=BY_LENGTH)],
        ids=["99.9 %", "93.07 %, where only a total outage pages", "99.99 %", "prompt lengths"],
    )
    def test_they_pass(self, routes: RouteTable, tmp_path: Path) -> None:
        self.write(read_slos(routes), tmp_path)
        result = promtool(tmp_path, "test", "rules", "tests.yaml")
        assert result.returncode == 0, result.stdout + result.stderr

    @pytest.mark.parametrize(
        ("right", "wrong", "scenario"),
        [
            ("13.44 *", "20 *", "a replica restarts"),
            ("13.44 *", "10 *", "a replica restarts"),
            ("5.6 *", "4 *", "a replica restarts"),
            ("2.8 *", "4 *", "a replica restarts"),
            ("0.9333333333 *", "0.7 *", "a replica restarts"),
            ("slo:sli_weight:ratio1h{", "vector(1) or slo:sli_weight:ratio1h{", "after an idle night"),
            ("unless on()", "and on()", "a replica restarts"),
            (">= 4.5", ">= 25", "one a minute"),
        ],
    )
    def test_they_fail_when_the_rules_change(self, right: str, wrong: str, scenario: str, tmp_path: Path) -> None:
        self.write(read_slos(table(m=SMALL)), tmp_path)
        rules, tests = tmp_path / "rules.yaml", tmp_path / "tests.yaml"
        assert right in rules.read_text()
        rules.write_text(rules.read_text().replace(right, wrong))
        told = yaml.load(tests.read_text(), Loader=yaml.CSafeLoader)
        told["tests"] = [each for each in told["tests"] if scenario in each["name"]]
        assert len(told["tests"]) == 1
        write(tests, told)
        result = promtool(tmp_path, "test", "rules", "tests.yaml")
        assert result.returncode != 0
        assert "FAILED" in result.stdout + result.stderr

    @staticmethod
    def write(found: list[Slo], folder: Path) -> None:
        write(folder / "rules.yaml", rules_file(found))
        write(folder / "tests.yaml", unit_tests(found, "rules.yaml"))


@every_table
def test_every_rule_has_its_own_name_and_labels(routes: RouteTable) -> None:
    rules = [rule for group in rules_file(read_slos(routes))["groups"] for rule in group["rules"]]
    identities = Counter((rule.get("record") or rule["alert"], *sorted(rule["labels"].items())) for rule in rules)
    assert set(identities.values()) == {1}
    for rule in rules:
        assert {"sloth_id", "sloth_service", "sloth_slo"} <= rule["labels"].keys()
    windows = {rule["labels"]["sloth_window"] for rule in rules if "sloth_window" in rule["labels"]}
    assert {"5m", "30m", "1h", "2h", "6h", "1d", "3d"} < windows
    for rule in rules:
        if "alert" in rule:
            assert rule["annotations"]["runbook_url"] == f"https://runbooks.example/slo#{rule['labels']['sli']}"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text("models: {m: {backends: ['http://e:1']}}")
    out = tmp_path / "missing" / "rules.yaml"
    result = CliRunner().invoke(app, ["rules", str(tmp_path / "routes.yaml"), "--out", str(out)])
    assert result.exit_code == 1
    assert result.stderr == f"tidegate: {out} cannot be written: No such file or directory\n"


def test_without_the_url_of_a_runbook_alerts_have_no_link() -> None:
    rules = [
        rule for group in rules_file(list(slos(table(m=SMALL), "", Scale(1.0))))["groups"] for rule in group["rules"]
    ]
    alerts = [rule for rule in rules if "alert" in rule]
    assert alerts
    assert not any("runbook_url" in rule["annotations"] for rule in alerts)


def test_a_scale_shortens_ranges_and_not_names() -> None:
    groups = rules_file(read_slos(table(m=SMALL), 0.01))["groups"]
    hour = next(rule for rule in groups[0]["rules"] if rule.get("record") == "slo:sli_events:increase1h")
    assert "[36s]" in hour["expr"]
    assert [group["interval"] for group in groups] == ["300ms", "3s", "3s"]


@every_table
def test_sloth_gets_what_its_specification_asks_for(routes: RouteTable) -> None:
    specs = sloth_specs(read_slos(routes))
    assert [spec["service"] for spec in specs] == list(routes.models)
    for spec in specs:
        assert spec["version"] == "prometheus/v1"
        for slo in spec["slos"]:
            assert 0 < slo["objective"] < 100
            assert re.fullmatch(r"[a-z0-9-]+", slo["name"])
            for query in slo["sli"]["events"].values():
                assert "[{{.window}}]" in query
            assert slo["alerting"]["page_alert"]["labels"] == {"severity": "page"}
            assert slo["alerting"]["ticket_alert"]["labels"] == {"severity": "ticket"}


@every_table
def test_openslo_documents_refer_to_each_other(routes: RouteTable) -> None:
    documents = list(openslo(read_slos(routes)))
    names = {(each["kind"], each["metadata"]["name"]) for each in documents}
    assert len(names) == len(documents)
    for each in documents:
        assert each["apiVersion"] == "openslo/v1"
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", each["metadata"]["name"])
        if each["kind"] == "SLO":
            assert ("Service", each["spec"]["service"]) in names
            assert all(("AlertPolicy", policy) in names for policy in each["spec"]["alertPolicies"])
            assert each["spec"]["budgetingMethod"] == "Occurrences"
            assert 0 < each["spec"]["objectives"][0]["target"] < 1
            assert {"bad", "total"} <= each["spec"]["indicator"]["spec"]["ratioMetric"].keys()
        if each["kind"] == "AlertPolicy":
            (condition,) = each["spec"]["conditions"]
            assert ("AlertCondition", condition["conditionRef"]) in names


class TestRulesFromEngines:
    def test_what_no_bucket_or_no_engine_can_show_is_said(self) -> None:
        found, left_out = engine_slos(table(m=EVERYTHING), "", Scale())
        assert [slo.sli for slo in found] == [Sli.TTFT, Sli.TPOT, Sli.ITL, Sli.E2E]
        assert any("availability cannot be seen by an engine" in words for words in left_out)
        assert any("do not tell prompts apart" in words for words in left_out)
        _, left_out = engine_slos(table(m=DEFAULT), "", Scale())
        assert any("2s has no bucket" in words and "the nearest are 1s or 2.5s" in words for words in left_out)

    def test_the_buckets_they_need_are_told(self) -> None:
        needed = list(needed_buckets(table(m=EVERYTHING)))
        assert [(each.served_model, each.histogram.name, each.le) for each in needed] == [
            ("served-m", HISTOGRAMS[sli].name, seconds)
            for sli, seconds in ((Sli.TTFT, 0.5), (Sli.TPOT, 0.05), (Sli.ITL, 0.2), (Sli.E2E, 60.0))
        ]


class TestTheCommand:
    ROUTES = "objectives: {o: {ttft: {target: 99, under: 500ms}}}\nmodels: {m: {backends: [http://a], objective: o}}\n"

    @pytest.mark.parametrize("name", ["prometheus", "prometheusrule", "sloth", "openslo", "promtool-test"])
    def test_every_format_is_yaml_and_says_who_made_it(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "routes.yaml").write_text(self.ROUTES)
        result = CliRunner().invoke(app, ["rules", str(tmp_path / "routes.yaml"), "--format", name])
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith("# Made by `tidegate rules` from routes.yaml")
        assert list(yaml.safe_load_all(result.stdout))
        assert ("minimum evidence" in result.stderr) is (name in {"sloth", "openslo"})

    def test_engines_alone_give_no_availability(self, tmp_path: Path) -> None:
        (tmp_path / "routes.yaml").write_text(self.ROUTES)
        result = CliRunner().invoke(app, ["rules", str(tmp_path / "routes.yaml"), "--source", "engine"])
        assert result.exit_code == 0
        assert 'vllm:time_to_first_token_seconds_bucket{model_name="m", le="0.5"}' in result.stdout
        assert "availability cannot be seen" in result.stderr

    def test_what_cannot_be_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "routes.yaml").write_text("models: {m: {}}")
        assert CliRunner().invoke(app, ["rules", str(tmp_path / "routes.yaml")]).exit_code == 1
        (tmp_path / "routes.yaml").write_text("objectives: {o: {}}\nmodels: {m: {backends: [http://a], objective: o}}")
        path = str(tmp_path / "routes.yaml")
        assert CliRunner().invoke(app, ["rules", path, "--source", "engine"]).exit_code == 1
        assert (
            CliRunner().invoke(app, ["rules", path, "--source", "engine", "--format", "promtool-test"]).exit_code == 2
        )


def test_slugs_are_names_that_kubernetes_takes() -> None:
    assert slug("meta-llama/Llama-3.1-8B-ttft") == "meta-llama-llama-3-1-8b-ttft"
    assert len(slug("x" * 200)) == 63
