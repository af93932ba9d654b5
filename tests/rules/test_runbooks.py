"""Every alert has its section in docs/runbooks.md, every section its alerts, and the commands of a section run."""

import asyncio
import json
import re
import shlex
import sys
import tomllib
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from gateway.cli.commands import app
from gateway.config.load import load_routes
from gateway.control.incidents import Notice
from gateway.control.webhook import payload
from gateway.policy.slo.objective import Objective, Sli, Target
from gateway.rules.engine import engine_slos
from gateway.rules.panels import rows
from gateway.rules.prometheus import rules_file
from gateway.rules.slo import Scale, slos
from gateway.rules.sloth import sloth_specs
from gateway.runbooks import RUNBOOKS, runbook
from tests.e2e.fakes import backends, good
from tests.e2e.harness import ask, chat, gateway
from tests.rules.made import EVERYTHING, TABLES, table

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/runbooks.md").read_text()
SECTIONS = dict(re.findall(r"(?ms)^### (\S+)\n(.*?)(?=^### |\Z)", PAGE))
PARTS = ("What it means.", "What users see.", "Causes.", "How to end it.")


def links(found: Any) -> list[str]:
    return [
        rule["annotations"]["runbook_url"] for group in found["groups"] for rule in group["rules"] if "alert" in rule
    ]


def commands(text: str) -> list[str]:
    return [line.split("#")[0].strip() for line in re.findall(r"(?m)^    (tidegate .*)$", text)]


@pytest.mark.parametrize("routes", TABLES.values(), ids=TABLES)
def test_every_alert_links_to_a_section(routes: Any) -> None:
    found = links(rules_file(list(slos(routes, RUNBOOKS, Scale()))))
    assert found
    assert {link.removeprefix(f"{RUNBOOKS}#") for link in found} <= SECTIONS.keys()


def test_every_section_has_alerts() -> None:
    targets = {sli: EVERYTHING.targets.get(sli, Target(0.95, 180.0)) for sli in Sli}
    whole = Objective("whole", MappingProxyType(targets))
    every = links(rules_file(list(slos(table(m=whole), RUNBOOKS, Scale()))))
    assert {link.rpartition("#")[2] for link in every} == SECTIONS.keys() == set(Sli)


def test_the_command_links_unless_it_is_told_not_to(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text("models: {m: {backends: ['http://e:1']}}")

    def written(*options: str) -> Any:
        result = CliRunner().invoke(app, ["rules", str(tmp_path / "routes.yaml"), *options])
        assert result.exit_code == 0, result.output
        return yaml.load(result.stdout, Loader=yaml.CSafeLoader)

    assert runbook("availability") in links(written())
    assert "https://wiki.example/slo#availability" in links(written("--runbook", "https://wiki.example/slo"))
    without = written("--runbook", "")
    alerts = [rule for group in without["groups"] for rule in group["rules"] if "alert" in rule]
    assert alerts
    assert not any("runbook_url" in rule["annotations"] for rule in alerts)


def test_alerts_on_the_engines_own_metrics_link_too(tmp_path: Path) -> None:
    text = "objectives: {o: {ttft: {target: 99, under: 500ms}}}\nmodels: {m: {backends: ['http://e:1'], objective: o}}"
    (tmp_path / "routes.yaml").write_text(text)
    found, _ = engine_slos(load_routes(tmp_path / "routes.yaml"), RUNBOOKS, Scale())
    assert set(links(rules_file(found))) == {runbook("ttft")}
    assert [spec["slos"][0]["alerting"]["annotations"]["runbook_url"] for spec in sloth_specs(found)] == [
        runbook("ttft")
    ]


def test_what_the_process_itself_sends_links_to_the_same_section() -> None:
    labels = {"model": "m", "objective": "o", "sli": "itl", "severity": "page"}
    message = payload(Notice(labels, 1.0, 0.0, "late", "very late"))
    assert json.loads(json.dumps(message))["alerts"][0]["annotations"]["runbook_url"] == runbook("itl")


def test_the_page_is_where_the_package_says() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert urls["Runbooks"] == RUNBOOKS
    assert (ROOT / RUNBOOKS.partition("/blob/main/")[2]).read_text() == PAGE


@pytest.mark.parametrize("sli", SECTIONS)
class TestASection:
    def test_it_says_what_a_person_needs(self, sli: str) -> None:
        found = re.findall(r"\*\*([^*]+\.)\*\*", SECTIONS[sli])
        assert tuple(found) == PARTS
        assert len(commands(SECTIONS[sli])) == 2

    def test_panels_that_it_names_are_on_the_dashboard(self, sli: str) -> None:
        titles = {
            panel.title for panels in rows(list(slos(table(m=EVERYTHING), "", Scale()))).values() for panel in panels
        }
        named = set(re.findall(r'"([A-Z][^"]+)"', SECTIONS[sli].replace("\n", " ")))
        assert named <= titles


@pytest.mark.anyio
async def test_every_command_on_the_page_runs(tmp_path: Path) -> None:
    routes = {
        "pools": {"old": {"backends": ["{0}"]}, "new": {"backends": ["{1}"]}},
        "models": {
            "m": {
                "versions": {"v1": {"pools": ["old"]}, "v2": {"pools": ["new"]}},
                "canary": {"stable": "v1", "candidate": "v2", "start": "manual"},
            }
        },
    }
    async with backends(good, good) as (old, new):
        text = json.dumps(routes).replace("{0}", old.url).replace("{1}", new.url)
        async with gateway(tmp_path, text) as running:
            await ask(running.port, chat())
            await running.settled()
            backend = f"old/{old.url.removeprefix('http://')}"
            asked = sorted(set(commands(PAGE)), key=lambda each: "rollback" in each or " drain" in each)
            assert len(asked) > 4
            for each in ("tidegate canary start MODEL", *asked):
                words = shlex.split(each.replace("MODEL", "m").replace("POOL/HOST:PORT", backend))
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-m", "gateway.cli", *words[1:], "--admin", running.admin),
                    cwd=ROOT,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                )
                out, err = await process.communicate()
                # 1 says that there is a problem: here nothing is wrong before the last two, which change something.
                assert process.returncode == 0, (each, out, err)
                assert out
            await running.quiet()
