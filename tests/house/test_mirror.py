"""Each module of these packages has a test file of its own, so that a reader finds what the module promises."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITHOUT: dict[str, dict[str, str]] = {
    "control": {},
    "proxy": {},
    "wire": {
        "closed": "two parsers that parse nothing; test_client and test_upstream lose connections",
        "grammars": "patterns that only the scanner reads; test_sse holds them against captures of engines",
        "service": "protocols and one record, without behaviour",
    },
}
"""Modules that have none, and why."""


def modules(package: str) -> set[str]:
    return {path.stem for path in (ROOT / "gateway" / package).glob("*.py")} - {"__init__"}


@pytest.mark.parametrize("package", WITHOUT)
def test_each_module_has_its_test_file(package: str) -> None:
    tested = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / package).glob("test_*.py")}
    assert sorted(modules(package) - tested - WITHOUT[package].keys()) == []


@pytest.mark.parametrize("package", WITHOUT)
def test_what_is_excepted_is_there_and_has_none(package: str) -> None:
    assert WITHOUT[package].keys() <= modules(package)
    assert [name for name in WITHOUT[package] if (ROOT / "tests" / package / f"test_{name}.py").exists()] == []
