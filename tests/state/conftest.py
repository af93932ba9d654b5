import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest


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
