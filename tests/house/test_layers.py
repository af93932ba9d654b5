"""The layers of the code are held by import-linter; these tests prove that it bites."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    return copied(tmp_path)


def copied(folder: Path) -> Path:
    """Return a copy of the package and its contracts, free to be spoiled."""
    shutil.copytree(ROOT / "gateway", folder / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


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


FORBIDDEN = [
    ("wire/one.py", "import gateway.proxy", "A package imports only from the layers below it"),
    ("config/two.py", "import gateway.wire", "A package imports only from the layers below it"),
    ("proxy/three.py", "import gateway.telemetry", "A package imports only from the layers below it"),
    ("sim/four.py", "import gateway.clock", "A package imports only from the layers below it"),
    ("policy/slo/five.py", "import gateway.policy.canary", "The packages of policy do not import each other"),
    ("policy/slo/six.py", "import asyncio", "Policy is pure: no I/O, no time, no chance, no framework"),
    ("policy/slo/seven.py", "from time import monotonic", "Policy is pure: no I/O, no time, no chance, no framework"),
    ("wire/eight.py", "import gateway.policy", "The wire knows bytes, not decisions"),
    ("admin/nine.py", "import gateway.sim", "Only the command line starts the simulated engine"),
]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """What is said of a house with every forbidden import in it: reading it once takes seconds."""
    house = copied(tmp_path_factory.mktemp("spoiled"))
    for module, source, _ in FORBIDDEN:
        (house / "gateway" / module).write_text(source + "\n")
    return lint(house)


@pytest.mark.parametrize(("module", "source", "contract"), FORBIDDEN)
def test_a_forbidden_import_breaks_its_contract(
    told: subprocess.CompletedProcess[str], module: str, source: str, contract: str
) -> None:
    assert told.returncode == 1, told.stdout + told.stderr
    assert f"{contract} BROKEN" in told.stdout
    _, _, explained = told.stdout.partition("Broken contracts")
    _, _, after = explained.partition(f"\n{contract}\n")
    own = re.split(r"\n-{5,}\n", after.lstrip("-\n"))[0]
    importer = f"gateway.{module.removesuffix('.py').replace('/', '.')}"
    assert re.search(rf"{re.escape(importer)} ->\s+{re.escape(source.split()[1])}\b", own), told.stdout


def test_a_package_without_a_layer_is_refused(house: Path) -> None:
    (house / "gateway" / "attic").mkdir()
    (house / "gateway" / "attic" / "__init__.py").write_text("")
    result = lint(house)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "A package imports only from the layers below it BROKEN" in result.stdout
