"""docs/architecture.md names the floors and rooms that there are, and what each is for."""

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


def rooms_below(folder: Path) -> set[str]:
    """Return the packages and modules in a folder of sources."""
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    return packages | {path.stem for path in folder.glob("*.py")} - {"__init__"}


def test_the_floors_are_those_of_the_contract() -> None:
    layers = [set(re.findall(r"\w+", layer)) for layer in reversed(contract("floors")["layers"])]
    floors: dict[str, set[str]] = {}
    for floor, room, _ in reversed(rows("floor", "room", "what it is for")):
        floors.setdefault(floor, set()).add(room.strip("`"))
    assert floors == {str(number): layer for number, layer in enumerate(layers)}


def test_every_room_has_a_row_and_every_row_a_room() -> None:
    named = [room.strip("`") for _, room, _ in rows("floor", "room", "what it is for")]
    assert sorted(named) == sorted(rooms_below(ROOT / "gateway"))


def test_the_rooms_of_policy_are_those_of_the_contract_and_of_the_folder() -> None:
    named = {room.strip("`") for room, _ in rows("room of `policy`", "decides")}
    assert named == {module.rpartition(".")[2] for module in contract("rooms-of-policy")["modules"]}
    assert named == rooms_below(ROOT / "gateway/policy")


@pytest.mark.parametrize("columns", [("floor", "room", "what it is for"), ("room of `policy`", "decides")], ids=str)
def test_each_room_is_explained(columns: tuple[str, ...]) -> None:
    assert all(row[-1] for row in rows(*columns))


def test_the_paths_that_the_page_names_exist() -> None:
    named = set(re.findall(r"`((?:\w+/)*[\w-]+\.(?:py|md|json|toml))`", PAGE))
    assert len(named) > 10
    assert [path for path in named if not any((folder / path).exists() for folder in (ROOT, ROOT / "gateway"))] == []
