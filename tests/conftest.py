import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, not whether the code is right. The suite tries the same
# examples each time, so that no commit is refused by chance; `--hypothesis-profile=search` tries others.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("tidegate", settings.get_profile("search"), derandomize=True, database=None)
settings.load_profile("tidegate")


def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: two workers more than there are cores, since half of what tests take is waiting."""
    return len(os.sched_getaffinity(0)) + 2 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 2


WATCHED = frozenset(
    (
        "admin",
        "backends",
        "cli",
        "config",
        "discovery",
        "doctor",
        "policy",
        "proxy",
        "shared",
        "state",
        "telemetry",
        "wire",
        "workers",
    )
)
"""Packages whose own tests count towards coverage. Being watched doubles the CPU time of what a test runs, and makes
simulations ten times as slow on Python 3.11; end-to-end tests would cost `make pure` minutes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the tests of other packages out of coverage."""
    tests = Path(__file__).parent
    for item in items:
        if item.path.relative_to(tests).parts[0] not in WATCHED:
            item.add_marker("no_cover")


@pytest.fixture(autouse=True, scope="session")
def state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A gateway that is told no `--state` must neither read nor write what the user's own gateway keeps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Async tests run on the loop that the gateway runs on."""
    return ("asyncio", {"use_uvloop": True})
