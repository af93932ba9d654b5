"""Everything that names the version of this release names the same one."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_chart_is_of_this_version() -> None:
    chart = (ROOT / "deploy/helm/tidegate/Chart.yaml").read_text()
    assert re.findall(r"(?m)^(?:version|appVersion): (\S+)$", chart) == [VERSION, VERSION]


def test_files_for_deployments_name_images_of_this_version() -> None:
    files = [
        path for path in (ROOT / "deploy").rglob("*") if path.suffix in {".yaml", ".yml"} or path.name == "Jenkinsfile"
    ]
    named = {version for path in files for version in re.findall(r"/tidegate:(\d[\w.]*)", path.read_text())}
    assert named == {VERSION}


def test_the_changelog_begins_with_what_is_unreleased_and_then_has_this_version() -> None:
    headings = re.findall(r"(?m)^## (.+)$", (ROOT / "CHANGELOG.md").read_text())
    assert headings[0] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(VERSION)} - \d{{4}}-\d\d-\d\d", headings[1])
