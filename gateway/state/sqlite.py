"""Lasting state in one SQLite file.

Write-ahead logging with `synchronous=NORMAL`: what a commit returned for survives the process, whatever ends it; a
power cut may take the last commits, but never the file.
"""

import contextlib
import logging
import os
import sqlite3
from dataclasses import astuple
from pathlib import Path

from gateway.policy.slo.objective import DAY
from gateway.policy.slo.windows import HOUR, STORED
from gateway.state import believed
from gateway.state.damage import (
    inspect,
    is_damage,
    is_database,
    put_aside,
    read_only,
    regular,
    salvage,
    text,
    write_anew,
)
from gateway.state.layout import SETTLED, VERSION, convert
from gateway.state.store import Batch, Document, Saved, StateError

_log = logging.getLogger(__name__)
_EJECTIONS_STORED = DAY
_RECORDS_STORED, _RECORDS_LOADED = 90 * DAY, 1000
_RESPONSES_STORED, _RESPONSES_LOADED = DAY, 10_000
_PRUNE_EVERY = 600.0
_BUSY_SECONDS = 1.0
_SETTLE_AFTER = HOUR
"""Seconds after the end of a slot; a process that ended has written all that it counted there long before."""
_MOST = 1 << 53
_COUNT = """
INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET good = excluded.good, bad = excluded.bad, first = excluded.first, last = excluded.last
"""
_ENDED = """
incarnation NOT IN (:settled, :own) AND (slot + 1) * width < :before
    AND typeof(good) = 'integer' AND typeof(bad) = 'integer' AND good BETWEEN 0 AND :most AND bad BETWEEN 0 AND :most
"""
_SETTLE = f"""
INSERT INTO counts
SELECT kind, name, objective, sli, prompt_tokens, width, slot, :settled, sum(good), sum(bad), min(first), max(last)
FROM counts WHERE {_ENDED} GROUP BY kind, name, objective, sli, prompt_tokens, width, slot
ON CONFLICT DO UPDATE SET good = good + excluded.good, bad = bad + excluded.bad,
    first = min(first, excluded.first), last = max(last, excluded.last)
"""  # noqa: S608 - our own names
_FORGET = f"DELETE FROM counts WHERE {_ENDED}"  # noqa: S608 - our own names
_PUT = """
INSERT INTO documents VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET body = excluded.body, token = excluded.token WHERE excluded.token >= token
"""


_COUNTS = "SELECT kind, name, objective, sli, prompt_tokens, width, slot, good, bad, first, last FROM counts"
_EJECTIONS = "SELECT backend, at, until, reason FROM ejections"
_DOCUMENTS = "SELECT kind, name, body FROM documents"
_RECORDS = "SELECT at, actor, action, subject, reason FROM records"
_RESPONSES = "SELECT at, id, backend, model, version, tenant, asked FROM responses"
_QUERIES = (
    _COUNTS,
    "SELECT incarnation FROM counts",
    _EJECTIONS,
    _DOCUMENTS,
    _RECORDS,
    _RESPONSES,
    "SELECT owner, token, until FROM lease",
)
_OUT_OF_REACH = frozenset((sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN))
_LARGEST_TOKEN = 1 << 53


class NewerState(StateError):
    """The file was written by a later release, which another start of that release needs."""


class SqliteStore:
    """One file, which other processes may share: each writes its own counts, and what is read is their sum."""

    def __init__(self, path: Path) -> None:
        """Open or make the file, and its folder; raises StateError.

        A file that is damaged is put aside. One that is there and cannot be written (read-only, a full disk) is read as
        far as it can be, and tried again with each call.
        """
        self._path = path
        self._pruned = 0.0
        self._inode = 0
        self._log_inode = 0
        self._descriptor: int | None = None
        self._rival: tuple[tuple[object, ...], float] = (), 0.0
        self._opened: sqlite3.Connection | None = None
        try:
            self._open()
        except NewerState:
            raise
        except StateError as error:
            if not path.is_file():
                raise
            _log.error("state is not saved until its file can be written", extra={"reason": str(error)})

    def __repr__(self) -> str:
        return f"<SqliteStore {self._path}>"

    @property
    def _connection(self) -> sqlite3.Connection:
        return self._opened if self._opened is not None else self._open()

    @property
    def where(self) -> str:
        """Return where it is, as --state names it."""
        return f"sqlite:///{self._path}"

    def load(self, now: float) -> Saved:
        """Return what some window still holds."""
        try:
            if self._opened is None:
                return self._read_only(now)
            try:
                return _read(self._opened, now)
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise
                return _read(self._begin_anew(error), now)
        except sqlite3.Error as error:
            raise self._failed("cannot be read", error) from None

    def _read_only(self, now: float) -> Saved:
        """Return what can be read of a file that cannot be written: without its log, so without the last seconds."""
        try:
            with contextlib.closing(read_only(self._path)) as file, contextlib.closing(_in_memory()) as copy:
                file.backup(copy)
                convert(copy)
                return _read(copy, now)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            _log.error("state cannot be read: starting without it", extra={"reason": str(error)})
            return Saved()

    def documents(self, kind: str) -> tuple[Document, ...]:
        """Return the documents of one kind."""
        try:
            return tuple(believed.documents(self._connection.execute(f"{_DOCUMENTS} WHERE kind = ?", (kind,))))
        except (sqlite3.Error, OSError) as error:
            raise self._broken("cannot be read", error) from None

    def save(self, batch: Batch) -> None:
        """Save a batch in one transaction; a file that was deleted is written anew."""
        rows = [
            (*each.series, int(each.width), each.slot, batch.incarnation, each.good, each.bad, each.first, each.last)
            for each in batch.counts
        ]
        ejections = [(each.backend, each.at, each.until, each.reason) for each in batch.ejections]
        documents = [(each.kind, each.name, each.body, batch.token) for each in batch.documents]
        records = [(each.at, each.actor, each.action, each.subject, each.reason) for each in batch.records]
        try:
            self._follow()
            with self._connection as connection:
                connection.executemany(_COUNT, rows)
                connection.executemany("INSERT INTO ejections VALUES (?, ?, ?, ?)", ejections)
                connection.executemany(_PUT, documents)
                connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", records)
                responses = [astuple(each) for each in batch.responses]
                connection.executemany("INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?)", responses)
                self._prune(batch.at, batch.incarnation)
        except (sqlite3.Error, OSError) as error:
            raise self._broken("cannot be written", error) from None

    def lead(self, owner: str, now: float, seconds: float) -> int:
        """Take or renew the lease; 0 while another owner holds it.

        A lease that ends later than any taken now would is of a clock that was wrong: it holds while its owner renews
        it, and not for as long as it says.
        """
        try:
            self._follow()
            with self._connection as connection:
                connection.execute("BEGIN IMMEDIATE")
                row = connection.execute("SELECT owner, token, until FROM lease").fetchone()
                holder, token, until = row or ("", 0, 0.0)
                if holder not in {"", owner} and self._holds(row, until, now, seconds):
                    return 0
                if not isinstance(token, int) or not 0 <= token < _LARGEST_TOKEN:
                    token = 0
                    connection.execute("UPDATE documents SET token = 0")
                token += holder != owner or not token
                connection.execute("DELETE FROM lease")
                connection.execute("INSERT INTO lease VALUES (?, ?, ?)", (owner, token, now + seconds))
                return token
        except (sqlite3.Error, OSError) as error:
            raise self._broken("cannot be leased", error) from None

    def _holds(self, row: tuple[object, ...], until: object, now: float, seconds: float) -> bool:
        """Whether another owner's lease holds: until it ends or, where that cannot be true, while it changes."""
        if not isinstance(until, (int, float)) or until > now + seconds:
            known, since = self._rival
            if known != row or now < since:
                self._rival = row, now
                return True
            return now - since < seconds
        return until > now

    def resign(self, owner: str) -> None:
        """Give the lease back, if it is held."""
        try:
            with self._connection:
                self._connection.execute("UPDATE lease SET owner = '', until = 0 WHERE owner = ?", (owner,))
        except (sqlite3.Error, OSError) as error:
            raise self._failed("cannot be written", error) from None

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        self._release()

    def _release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _prune(self, now: float, incarnation: str) -> None:
        """Delete what no window holds any more, and make one row of those that ended processes wrote of one slot."""
        if now - self._pruned < _PRUNE_EVERY:
            return
        self._pruned = now
        for width, seconds in STORED.items():
            self._connection.execute(
                "DELETE FROM counts WHERE width = ? AND slot < ?", (int(width), int((now - seconds) // width))
            )
        ended = {"settled": SETTLED, "own": incarnation, "before": now - _SETTLE_AFTER, "most": _MOST}
        self._connection.execute(_SETTLE, ended)
        self._connection.execute(_FORGET, ended)
        self._connection.execute("DELETE FROM ejections WHERE at < ?", (now - _EJECTIONS_STORED,))
        self._connection.execute("DELETE FROM records WHERE at < ?", (now - _RECORDS_STORED,))
        self._connection.execute(
            "DELETE FROM responses WHERE at < ? OR rowid <= (SELECT max(rowid) FROM responses) - ?",
            (now - _RESPONSES_STORED, _RESPONSES_LOADED),
        )

    def _follow(self) -> None:
        """Notice a file that was deleted, overwritten or replaced.

        Raises sqlite3.Error or OSError, and then keeps what is open, unless that is damaged.
        """
        if self._opened is None:
            return
        found = 0
        with contextlib.suppress(FileNotFoundError):
            found = regular(self._path).st_ino
        same = found == self._inode
        if found and is_database(self._path, self._descriptor if same else None):
            if same:
                return
            self._forget_log()
            told = {}
            what = "replaced: the new one is used"
        else:
            aside = write_anew(self._opened, self._path, found)
            told = {} if aside is None else {"aside": str(aside)}
            what = f"{'overwritten' if found else 'deleted'}: it is written again with everything that it held"
        self.close()
        _log.warning(f"the state file was {what}", extra={"file": str(self._path), **told})

    def _forget_log(self) -> None:
        """Delete the log of a file that was replaced: SQLite would mix it into the other."""
        log = self._path.with_name(f"{self._path.name}-wal")
        with contextlib.suppress(FileNotFoundError):
            # Not one that came with the other file, or is of another process that has noticed before.
            if os.stat(log).st_ino == self._log_inode:
                log.unlink()
                log.with_name(f"{self._path.name}-shm").unlink(missing_ok=True)

    def _open(self) -> sqlite3.Connection:
        try:
            self._opened = self._connected()
        except (sqlite3.Error, OSError) as error:
            # Here, where only our own tables are looked for, their absence is damage too.
            if not (is_damage(error) or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR):
                raise self._failed("cannot be opened", error) from None
            return self._begin_anew(error)
        return self._opened

    def _begin_anew(self, error: Exception) -> sqlite3.Connection:
        """Put a damaged file aside, and begin another with what can be read of it; raises StateError."""
        self.close()
        try:
            aside = put_aside(self._path, self._inode)
            self._opened = self._connected()
            if aside is not None:
                lost = salvage(aside, self._opened)
                _log.error(
                    "the state file is damaged: it is put aside, and a new one is started",
                    extra={"aside": str(aside), "lost": lost or "nothing but the last seconds", "reason": str(error)},
                )
        except (sqlite3.Error, OSError) as again:
            self.close()
            raise self._failed("is damaged and cannot be replaced", again) from None
        return self._opened

    def _connected(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._path.exists():
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        found = regular(self._path)
        self._inode = found.st_ino
        self._release()
        self._descriptor = os.open(self._path, os.O_RDONLY)
        if found.st_size:
            inspect(self._path)
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, check_same_thread=False)
        connection.text_factory = text
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            version = convert(connection)
            connection.commit()
            if 0 < version < VERSION:
                _log.info("the state file of an earlier release was converted", extra={"file": str(self._path)})
            if version <= VERSION:
                for query in _QUERIES:
                    connection.execute(f"{query} LIMIT 0")
            with contextlib.suppress(FileNotFoundError):
                self._log_inode = os.stat(f"{self._path}-wal").st_ino
        except BaseException:
            connection.close()
            raise
        if version > VERSION:
            connection.close()
            raise NewerState(f"the state file {self._path} was written by a newer release: name another with --state")
        return connection

    def _broken(self, what: str, error: Exception) -> StateError:
        """Begin anew where that is what is wrong; in any case the call has failed, and is made again later."""
        if is_damage(error):
            self._begin_anew(error)
        elif getattr(error, "sqlite_errorcode", 0) & 0xFF in _OUT_OF_REACH:
            self.close()  # a connection that was once refused stays so
        return self._failed(what, error)

    def _failed(self, what: str, error: Exception) -> StateError:
        return StateError(f"the state file {self._path} {what}: {error}")


def _in_memory() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.text_factory = text
    return connection


def _read(connection: sqlite3.Connection, now: float) -> Saved:
    """Return what some window still holds, as far as it can be believed."""
    counts = connection.execute(_COUNTS).fetchall()
    ejections = connection.execute(f"{_EJECTIONS} WHERE at > ? ORDER BY at", (now - _EJECTIONS_STORED,)).fetchall()
    documents = connection.execute(_DOCUMENTS).fetchall()
    records = connection.execute(f"{_RECORDS} ORDER BY at DESC LIMIT ?", (_RECORDS_LOADED,)).fetchall()
    responses = connection.execute(
        f"{_RESPONSES} WHERE at > ? ORDER BY rowid DESC LIMIT ?", (now - _RESPONSES_STORED, _RESPONSES_LOADED)
    ).fetchall()
    slots = believed.slots(counts, STORED)
    return Saved(
        tuple(each for each in slots if (each.slot + 1) * each.width > now - STORED[each.width]),
        tuple(believed.ejections(ejections)),
        tuple(believed.documents(documents)),
        tuple(believed.records(reversed(records), now)),
        tuple(believed.responses(reversed(responses), now)),
    )
