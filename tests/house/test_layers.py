"""The floors of the house are held by import-linter; these tests prove that it bites."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the package and its contracts, free to be spoiled."""
    shutil.copytree(ROOT / "gateway", tmp_path / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(house: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        [LINT_IMPORTS, "--no-logo", "--no-cache"],
        cwd=house,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_house_as_it_stands_keeps_every_contract(house: Path) -> None:
    result = lint(house)
    assert result.returncode == 0, result.stdout
    assert " 0 broken" in result.stdout


@pytest.mark.parametrize(
    ("module", "source", "contract"),
    [
        ("wire/intruder.py", "import gateway.proxy", "A room imports only from the floors below it"),
        ("config/intruder.py", "import gateway.wire", "A room imports only from the floors below it"),
        ("proxy/intruder.py", "import gateway.telemetry", "A room imports only from the floors below it"),
        ("sim/intruder.py", "import gateway.clock", "A room imports only from the floors below it"),
        ("attic/__init__.py", "", "A room imports only from the floors below it"),
        ("policy/slo/intruder.py", "import gateway.policy.canary", "The rooms of policy do not know each other"),
        ("policy/slo/intruder.py", "import asyncio", "Policy is pure: no I/O, no time, no chance, no framework"),
        (
            "policy/slo/intruder.py",
            "from time import monotonic",
            "Policy is pure: no I/O, no time, no chance, no framework",
        ),
        ("wire/intruder.py", "import gateway.policy", "The wire knows bytes, not decisions"),
        ("admin/intruder.py", "import gateway.sim", "Only the command line starts the simulated engine"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(house: Path, module: str, source: str, contract: str) -> None:
    path = house / "gateway" / module
    path.parent.mkdir(exist_ok=True)
    path.write_text(source + "\n")
    result = lint(house)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{contract} BROKEN" in result.stdout
