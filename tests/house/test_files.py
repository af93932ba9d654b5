"""Rules that hold for every file, whatever it is about."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("gateway", "loadtest", "tests") for path in (ROOT / folder).rglob("*.py"))
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))

MOST_LINES = 400
NAMES_THAT_SAY_NOTHING = {"common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 20
    locks = ["build.txt", "deploy.txt", "dev.txt", "docs.txt", "grpc.txt", "peers.txt", "real.txt", "runtime.txt"]
    assert [path.name for path in LOCKS] == locks


def test_no_file_is_longer_than_one_sitting() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_every_module_and_package_is_named_after_what_it_holds() -> None:
    parts = {part for path in SOURCES for part in path.relative_to(ROOT).with_suffix("").parts}
    assert parts & NAMES_THAT_SAY_NOTHING == set()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
class TestLocks:
    def test_every_requirement_is_pinned_and_hashed(self, lock: Path) -> None:
        logical_lines = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^\s*#.*\n?", "", lock.read_text())).split("\n")
        requirements = [line for line in logical_lines if line.strip()]
        loose = [
            line for line in requirements if not re.match(r"\S+==\S+ (; .*)?(--hash=sha256:[0-9a-f]{64}\s*)+$", line)
        ]
        assert requirements
        assert loose == []

    def test_it_names_no_registry_and_no_place_on_a_machine(self, lock: Path) -> None:
        lines = [line for line in lock.read_text().splitlines() if not line.strip().startswith("--hash=sha256:")]
        assert [line for line in lines if re.search(r"://|file:/|(^|[\s=@])[/~]|^\s*-", line)] == []


def test_what_runs_is_also_what_is_tested() -> None:
    pins = {lock.name: set(re.findall(r"(?m)^(\S+==\S+)", lock.read_text())) for lock in LOCKS}
    assert (pins["runtime.txt"] | pins["grpc.txt"]) - pins["dev.txt"] == set()
