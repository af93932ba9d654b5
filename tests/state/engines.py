"""Both engines of the store, and what tests do to them from outside."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Protocol

from gateway.state.redis_store import RedisStore
from gateway.state.sqlite import SqliteStore
from gateway.state.store import Store
from tests.redis_server import RedisServer


class Engine(Protocol):
    """A store that several processes open."""

    def open(self, clock: str = "") -> Store:
        """Open it once more, as another process does; `clock` names the one that it reads."""

    def empty(self) -> None:
        """Make it forget everything, while processes have it open."""

    def forget(self, incarnation: str) -> None:
        """Take an incarnation's last batch as never having come, as after a fail-over to a replica behind."""

    def end_lease(self) -> None:
        """Let the time of the lease pass, for engines that measure it themselves."""


class SqliteEngine:
    """One file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: list[Store] = []

    def open(self, clock: str = "") -> Store:
        store = SqliteStore(self._path, clock)
        self._opened.append(store)
        return store

    def empty(self) -> None:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
                connection.execute(f"DELETE FROM {name}")  # noqa: S608 - our own names

    def forget(self, incarnation: str) -> None:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            connection.execute("UPDATE incarnations SET sequence = sequence - 1 WHERE id = ?", (incarnation,))

    def end_lease(self) -> None:
        """Do nothing: the test moves the clock."""

    def close(self) -> None:
        for store in self._opened:
            store.close()


class RedisEngine:
    """One server."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._opened: list[Store] = []
        self._client = server.client()
        self._client.flushall()

    def open(self, clock: str = "") -> Store:
        del clock
        store = RedisStore(self._server.url)
        self._opened.append(store)
        return store

    def empty(self) -> None:
        self._client.flushall()

    def forget(self, incarnation: str) -> None:
        sequence, at = self._client.hget("{tidegate}:incarnations", incarnation).split()
        self._client.hset("{tidegate}:incarnations", incarnation, f"{int(sequence) - 1} {at}")

    def end_lease(self) -> None:
        self._client.delete("{tidegate}:lease")

    def close(self) -> None:
        for store in self._opened:
            store.close()
        self._client.close()
