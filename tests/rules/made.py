"""Route tables with objectives of every kind, and promtool."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

from gateway.config.table import BackendSpec, ModelSpec, PoolSpec, RouteTable, VersionSpec
from gateway.policy.slo.objective import DAY, DEFAULT, Objective, Sli, Target

needs_promtool = pytest.mark.skipif(
    not (shutil.which("promtool") and shutil.which("prometheus")),
    reason="prometheus and promtool are not installed; .ci/run installs them",
)
EVERYTHING = Objective(
    "everything",
    MappingProxyType(
        {
            Sli.AVAILABILITY: Target(0.9995),
            Sli.TTFT: Target(0.99, 0.5, ((4096, 2.0),)),
            Sli.TPOT: Target(0.95, 0.05),
            Sli.ITL: Target(0.999, 0.2),
            Sli.E2E: Target(0.9307, 60.0),
        }
    ),
    30 * DAY,
)
SMALL = Objective("small", MappingProxyType({Sli.AVAILABILITY: Target(0.999)}))
BY_LENGTH = Objective("by-length", MappingProxyType({Sli.TTFT: Target(0.99, 0.5, ((4096, 2.0),))}))


def table(**objectives: Objective) -> RouteTable:
    """Return routes with one model for each objective; an underscore in its name stands for a slash."""
    pool = PoolSpec("p", (BackendSpec("p", "http://e:1", "e", 1),))
    models = {}
    for given, objective in objectives.items():
        name = given.replace("_", "/")
        version = VersionSpec("v1", ("p",), f"served-{given}")
        models[name] = ModelSpec(name, {"v1": version}, (("v1", 1.0),), objective=objective)
    return RouteTable(pools={"p": pool}, models=models, names=models)


def parted() -> RouteTable:
    """Return routes with a model of two versions, two objectives by class, and two classes of prompt lengths."""
    one = table(m=BY_LENGTH)
    versions = {name: VersionSpec(name, ("p",), "served") for name in ("v1", "v2")}
    model = replace(one.models["m"], versions=versions, objective_by_class=MappingProxyType({"batch": SMALL}))
    return replace(one, models={"m": model}, names={"m": model})


TABLES = {
    "the default": table(m=DEFAULT),
    "every SLI over thirty days": table(m=EVERYTHING),
    "several models with odd names": table(meta_Llama=SMALL, other=SMALL),
    "versions, objectives by class, prompt lengths": parted(),
}


def write(path: Path, document: Mapping[str, Any]) -> str:
    """Write YAML, as libyaml does it: a tenth of the time. Return the name of the file."""
    path.write_text(yaml.dump(dict(document), Dumper=yaml.CSafeDumper, sort_keys=False, width=10_000))
    return path.name


def promtool(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run promtool in a folder. It makes much garbage and little data: collecting less often saves a fifth."""
    return subprocess.run(
        ["promtool", *arguments],
        cwd=folder,
        env=os.environ | {"GOGC": "800"},
        capture_output=True,
        text=True,
        check=False,
    )
