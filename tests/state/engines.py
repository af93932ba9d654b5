"""Both engines of the store, and what tests do to them from outside."""

import sqlite3
from collections.abc import Callable, Container, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol, TypeAlias

import pytest
import redis

from gateway.state.redis_store import RedisStore
from gateway.state.sqlite import SqliteStore
from gateway.state.store import Store
from tests.redis_server import RedisServer, redis_server


class Engine(Protocol):
    """A store that several processes open."""

    def open(self, clock: str = "") -> Store:
        """Open it once more, as another process does; `clock` names the one that it reads."""

    def empty(self) -> None:
        """Make it forget everything, while processes have it open."""

    def copy(self) -> object:
        """Return all that it holds, as a replica or a backup has it."""

    def put_back(self, copy: object) -> None:
        """Make it hold what it held before, while processes have it open."""

    def forget(self, incarnation: str) -> None:
        """Take an incarnation's last batch as never having come, as after a fail-over to a replica behind."""

    def end_lease(self) -> None:
        """Let the time of the lease pass, for engines that measure it themselves."""

    def end_recovery(self, alive: Container[str]) -> None:
        """Let the time pass in which processes may come back to an emptied store, and those be silent that are dead."""


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

    def copy(self) -> object:
        with closing(sqlite3.connect(self._path)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
            return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for (name,) in tables}  # noqa: S608

    def put_back(self, copy: object) -> None:
        assert isinstance(copy, dict)
        self.empty()
        with closing(sqlite3.connect(self._path)) as connection, connection:
            for name, rows in ((name, rows) for name, rows in copy.items() if rows):
                places = ", ".join("?" for _ in rows[0])
                connection.executemany(f"INSERT INTO {name} VALUES ({places})", rows)  # noqa: S608 - our own names

    def forget(self, incarnation: str) -> None:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            connection.execute("UPDATE incarnations SET sequence = sequence - 1 WHERE id = ?", (incarnation,))

    def end_lease(self) -> None:
        """Do nothing: the test moves the clock."""

    def end_recovery(self, alive: Container[str]) -> None:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            connection.execute("UPDATE facts SET value = -1e12 WHERE name = 'recovering'")
            found = connection.execute("SELECT id FROM incarnations WHERE returned IS NOT NULL").fetchall()
            silent = [each for each in found if each[0] not in alive]
            connection.executemany("UPDATE incarnations SET returned_at = -1e12 WHERE id = ?", silent)

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

    def copy(self) -> object:
        keys = sorted(self._client.keys("{tidegate}:*"))
        with redis.Redis(port=self._server.port) as raw:  # what is dumped is no text
            found = {key: (raw.dump(key), max(0, raw.pttl(key))) for key in keys}
        return {key: each for key, each in found.items() if each[0] is not None}  # the lease may be over meanwhile

    def put_back(self, copy: object) -> None:
        assert isinstance(copy, dict)
        with redis.Redis(port=self._server.port) as raw, raw.pipeline() as pipeline:
            pipeline.flushall()
            for key, (dumped, milliseconds) in copy.items():
                pipeline.restore(key, milliseconds, dumped)
            pipeline.execute()

    def forget(self, incarnation: str) -> None:
        sequence, at = self._client.hget("{tidegate}:incarnations", incarnation).split()
        self._client.hset("{tidegate}:incarnations", incarnation, f"{int(sequence) - 1} {at}")

    def end_lease(self) -> None:
        self._client.delete("{tidegate}:lease")

    def end_recovery(self, alive: Container[str]) -> None:
        if self._client.hexists("{tidegate}:store", "recovering"):
            self._client.hset("{tidegate}:store", "recovering", 0)
        for name, came in self._client.hgetall("{tidegate}:returned").items():
            if name not in alive:
                self._client.hset("{tidegate}:returned", name, f"{came.split()[0]} 0")
        if self._client.get("{tidegate}:restorer") not in alive:
            self._client.delete("{tidegate}:restorer")

    def close(self) -> None:
        for store in self._opened:
            store.close()
        self._client.close()


Make: TypeAlias = Callable[[], Engine]


@contextmanager
def engines(kind: str, folders: pytest.TempPathFactory) -> Iterator[Make]:
    """Give what makes an empty engine, `sqlite` or `redis`, and closes the one before."""
    opened: list[SqliteEngine | RedisEngine] = []

    def noted(engine: SqliteEngine | RedisEngine) -> Engine:
        while opened:
            opened.pop().close()
        opened.append(engine)
        return engine

    if kind == "sqlite":
        yield lambda: noted(SqliteEngine(folders.mktemp("file") / "state.sqlite"))
    else:
        with redis_server(folders.mktemp("engine")) as server:
            yield lambda: noted(RedisEngine(server))
            noted(RedisEngine(server))
    while opened:
        opened.pop().close()
