"""docs/architecture.md names the layers and packages that there are, and what each is for."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def contract(name: str) -> dict[str, list[str]]:
    (found,) = [each for each in CONTRACTS if each["id"] == name]
    return found  # type: ignore[no-any-return]  # tomllib reads Any


def rows(*columns: str) -> list[list[str]]:
    """Return the rows of the table that has these columns."""
    _, found, after = PAGE.partition(f"\n| {' | '.join(columns)} |\n")
    assert found, columns
    table = after.partition("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def packages_below(folder: Path) -> set[str]:
    """Return the packages and modules in a folder of sources."""
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    return packages | {path.stem for path in folder.glob("*.py")} - {"__init__"}


def test_the_layers_are_those_of_the_contract() -> None:
    expected = [set(re.findall(r"\w+", layer)) for layer in reversed(contract("layers")["layers"])]
    found: dict[str, set[str]] = {}
    for layer, package, _ in reversed(rows("layer", "package", "what it is for")):
        found.setdefault(layer, set()).add(package.strip("`"))
    assert found == {str(number): packages for number, packages in enumerate(expected)}


def test_every_package_has_a_row_and_every_row_a_package() -> None:
    named = [package.strip("`") for _, package, _ in rows("layer", "package", "what it is for")]
    assert sorted(named) == sorted(packages_below(ROOT / "gateway"))


def test_the_packages_of_policy_are_those_of_the_contract_and_of_the_folder() -> None:
    named = {package.strip("`") for package, _ in rows("package of `policy`", "decides")}
    assert named == {module.rpartition(".")[2] for module in contract("packages-of-policy")["modules"]}
    assert named == packages_below(ROOT / "gateway/policy")


@pytest.mark.parametrize(
    "columns", [("layer", "package", "what it is for"), ("package of `policy`", "decides")], ids=str
)
def test_each_package_is_explained(columns: tuple[str, ...]) -> None:
    assert all(row[-1] for row in rows(*columns))


def test_the_paths_that_the_page_names_exist() -> None:
    named = set(re.findall(r"`((?:\w+/)*[\w-]+\.(?:py|md|json|toml))`", PAGE))
    assert len(named) > 10
    assert [path for path in named if not any((folder / path).exists() for folder in (ROOT, ROOT / "gateway"))] == []
