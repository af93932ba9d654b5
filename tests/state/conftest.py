"""What tests of stores have: connections that are closed, and a time of their own."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.policy.slo.windows import FINE
from tests.state import fleet


@pytest.fixture(autouse=True)
def connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close what a test has opened: from Python 3.13 on a connection that is left open fails a test beside it."""
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def noting(*where: Any, **how: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*where, **how)
        opened.append(connection)
        return connection

    monkeypatch.setattr(sqlite3, "connect", noting)
    yield
    for connection in opened:
        with contextlib.suppress(sqlite3.ProgrammingError):  # another thread's own, which has closed it
            connection.close()


@pytest.fixture
def of_now(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Move the NOW of a module on, which was found out as the suite began.

    Servers keep the real time, and settle what was silent for ten minutes.
    """
    for module in (request.module, fleet):
        monkeypatch.setattr(module, "NOW", float(int(time.time() // FINE * FINE)))
