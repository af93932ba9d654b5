"""A lock has all that it takes, for every Python that is supported."""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PINS = {
    lock.name: dict(re.findall(r"(?m)^([A-Za-z0-9._-]+)==(\S+)", lock.read_text()))
    for lock in (ROOT / "requirements").glob("*.txt")
}
TOOLS = re.findall(r"(?m)^[A-Za-z][\w-]*$", (ROOT / "requirements" / "dev.in").read_text())
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


@pytest.mark.parametrize("lock", ["build.txt", "deploy.txt", "docs.txt"])
def test_what_builds_and_checks_has_the_versions_that_the_tests_have(lock: str) -> None:
    shared = PINS[lock].keys() & PINS["dev.txt"].keys()
    assert {name: PINS[lock][name] for name in shared} == {name: PINS["dev.txt"][name] for name in shared}


@pytest.mark.parametrize("lock", ["build.txt", "dev.txt"])
def test_whatever_builds_the_project_is_locked(lock: str) -> None:
    backends = {
        Requirement(each).name
        for each in tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    }
    assert backends <= PINS[lock].keys()


def test_the_extra_adds_to_what_runs_and_changes_nothing_of_it() -> None:
    assert PINS["grpc.txt"].items() >= PINS["runtime.txt"].items()
    assert "grpcio" in PINS["grpc.txt"].keys() - PINS["runtime.txt"].keys()


@pytest.mark.parametrize("python", PYTHONS)
def test_a_lock_made_with_one_python_has_what_the_others_need(python: str) -> None:
    """Locks are made with the oldest one, and nothing is resolved when they are installed."""
    here = {name: str(value) for name, value in default_environment().items()}
    environment = here | {"python_version": python, "python_full_version": f"{python}.0"}
    missing = [
        f"{name} needs {needed}"
        for lock, roots in {
            "runtime.txt": ["tidegate"],
            "dev.txt": ["tidegate", *TOOLS],
            "build.txt": ["hatchling", "mypy", "setuptools"],
        }.items()
        for root in roots
        for name, needed in _needs(root, frozenset(), {**environment, "extra": ""}, set())
        if needed.name not in PINS[lock] or not needed.specifier.contains(PINS[lock][needed.name], prereleases=True)
    ]
    assert missing == []


def _needs(
    name: str, extras: frozenset[str], environment: dict[str, str], seen: set[tuple[str, frozenset[str]]]
) -> Iterator[tuple[str, Requirement]]:
    """Yield each requirement of a package, and of those that it needs, with what needs it."""
    if (name, extras) in seen:
        return
    seen.add((name, extras))
    try:
        lines = requires(name) or []
    except PackageNotFoundError:
        return
    for line in lines:
        needed = Requirement(line)
        needed.name = canonicalize_name(needed.name)
        asked = [{**environment, "extra": extra} for extra in ("", *extras)]
        if needed.marker and not any(needed.marker.evaluate(each) for each in asked):
            continue
        yield name, needed
        yield from _needs(needed.name, frozenset(needed.extras), environment, seen)
