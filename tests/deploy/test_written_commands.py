"""The commands in docs/deploy.md and docs/install.md that set up a cluster, as far as they go without one.

`tidegate` runs as written. `helm` renders with the very values that a command sets. Of `kubectl` and `docker` the files
that they name are looked at.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.chart import ROOT, kinds, needs_helm, only, render

PAGES = {name: (ROOT / name).read_text() for name in ("docs/install.md", "docs/deploy.md")}
ROUTES = (ROOT / "routes/minimal.yaml").read_text()


def commands(page: str, program: str) -> list[list[str]]:
    """Return the calls of a program in the indented blocks of a page."""
    lines = re.sub(r"\\\n\s+", "", PAGES[page]).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith(f"    {program} ")]


def given(words: list[str], folder: Path) -> dict[str, Any]:
    """Return the values that a call of helm sets."""
    values: dict[str, Any] = {}
    for option, setting in pairwise(words):
        if option not in {"--set", "--set-file"}:
            continue
        path, _, text = setting.partition("=")
        *above, last = path.split(".")
        inner = values
        for name in above:
            inner = inner.setdefault(name, {})
        inner[last] = (folder / text).read_text() if option == "--set-file" else yaml.safe_load(text)
    return values


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that the commands name, some of them written by the commands themselves."""
    (tmp_path / "routes.yaml").write_text(ROUTES)
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes/minimal.yaml").write_text(ROUTES)
    for words in commands("docs/deploy.md", "tidegate"):
        done = subprocess.run(
            [sys.executable, "-m", "gateway.cli", *words[1:]],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (words, done.stderr)
    return tmp_path


@needs_helm
@pytest.mark.parametrize("page", PAGES)
def test_helm_takes_what_the_page_says(page: str, folder: Path) -> None:
    calls = commands(page, "helm")
    assert calls
    values: dict[str, Any] = {}
    for words in calls:
        assert (ROOT / words[3]).is_dir()
        values = {**values, **given(words, folder)} if "--reuse-values" in words else given(words, folder)
        objects = render(**values)
        assert only(objects, "Deployment")["metadata"]["name"] == words[2]
    if page == "docs/deploy.md":
        assert kinds(objects) >= {"ServiceMonitor", "PrometheusRule", "PodDisruptionBudget"}


@needs_helm
def test_the_engines_of_the_page_are_taken() -> None:
    [block] = re.findall(r"(?ms)^```yaml\n(engines:.*?)^```$", PAGES["docs/deploy.md"])
    assert "ScaledObject" in kinds(render(**yaml.safe_load(block)))


def paths(page: str) -> Iterator[str]:
    for program in ("kubectl", "docker"):
        for words in commands(page, program):
            yield from (word for word in words if word.startswith("deploy/"))


@pytest.mark.parametrize("page", PAGES)
def test_kubectl_and_docker_find_their_files(page: str) -> None:
    found = list(paths(page))
    assert found
    assert [each for each in found if not (ROOT / each).exists()] == []


def test_every_folder_of_the_table_has_manifests() -> None:
    named = re.findall(r"(?m)^\| `(\S+)` \| ", PAGES["docs/deploy.md"].split("## Kubernetes")[1].split("###")[0])
    kubernetes = ROOT / "deploy/kubernetes"
    assert {kubernetes / each for each in named} == {path.parent for path in kubernetes.rglob("*.yaml")}
    # What says which files a folder is applied with has that folder right.
    for path in kubernetes.rglob("*.yaml"):
        told = re.findall(r"apply -f (deploy/kubernetes/\S*)", path.read_text())
        assert told in ([f"{path.parent.relative_to(ROOT)}/"], []), path
