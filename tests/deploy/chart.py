"""What the Helm chart renders, by Helm's own engine in the environment that `make check` makes."""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "out/deploy/bin/python"
ROUTES: dict[str, Any] = {"models": {"m": {"backends": ["http://vllm.serving.svc:8000"]}}}
Object = dict[str, Any]


@cache
def _installed() -> bool:
    ask = "import sys, charts; sys.exit(not charts.can_render())"
    return PYTHON.exists() and subprocess.run([PYTHON, "-c", ask], cwd=ROOT / "deploy", check=False).returncode == 0


needs_helm = pytest.mark.skipif(not _installed(), reason="Helm is not installed; `make check` installs it")


def render(**values: Any) -> list[Object]:
    """Return the objects that the chart gives for these values."""
    templates: dict[str, str] = json.loads(_rendered(json.dumps({"routes": ROUTES, **values}, sort_keys=True)))
    return [each for name, text in templates.items() if name != "NOTES" for each in yaml.safe_load_all(text) if each]


@cache
def _rendered(values: str) -> str:
    command: list[str | Path] = [PYTHON, ROOT / "deploy/charts.py", "-"]
    done = subprocess.run(command, input=values, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr)
    out: str = done.stdout
    return out


def only(objects: list[Object], kind: str) -> Object:
    """Return the one object of a kind."""
    [found] = [each for each in objects if each["kind"] == kind]
    return found


def kinds(objects: list[Object]) -> set[str]:
    """Return the kinds that there are."""
    return {each["kind"] for each in objects}


def container(objects: list[Object]) -> Object:
    """Return the gateway's container."""
    [found] = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def options(objects: list[Object]) -> dict[str, str]:
    """Return the options of `tidegate serve` in the container, without dashes."""
    return dict(each.removeprefix("--").split("=", 1) for each in container(objects)["args"] if each.startswith("--"))
