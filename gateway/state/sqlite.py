"""Lasting state in one SQLite file.

Write-ahead logging with `synchronous=NORMAL`: what a commit returned for survives the process, whatever ends it; a
power cut may take the last commits, but never the file.
"""

import contextlib
import logging
import os
import sqlite3
import time
from pathlib import Path

from gateway.policy.slo.objective import DAY
from gateway.policy.slo.series import SeriesKey
from gateway.policy.slo.windows import FINE, HOUR, LASTING, MINUTE, SLO_SLOT, KeptSlot
from gateway.state.store import Batch, Document, Ejection, Record, Saved, StateError

_log = logging.getLogger(__name__)
_KEPT = {FINE: 5 * MINUTE + FINE, MINUTE: 2 * HOUR + MINUTE, 720.0: 3 * DAY + 720.0, SLO_SLOT: 90 * DAY + SLO_SLOT}
_EJECTIONS_KEPT = DAY
_RECORDS_KEPT, _RECORDS_LOADED = 90 * DAY, 1000
_PRUNE_EVERY = 600.0
_BUSY_SECONDS = 1.0
_SCHEMAS = (
    """
CREATE TABLE counts (
    kind TEXT, name TEXT, sli TEXT, width INTEGER, slot INTEGER, good INTEGER, bad INTEGER,
    PRIMARY KEY (kind, name, sli, width, slot)
) WITHOUT ROWID;
CREATE TABLE ejections (backend TEXT, at REAL, until REAL, reason TEXT);
""",
    """
CREATE TABLE documents (
    kind TEXT, name TEXT, body TEXT, token INTEGER, PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE records (at REAL, actor TEXT, action TEXT, subject TEXT, reason TEXT);
CREATE TABLE lease (owner TEXT, token INTEGER, until REAL);
""",
    """
ALTER TABLE counts RENAME TO counts_before;
CREATE TABLE counts (
    kind TEXT, name TEXT, objective TEXT, sli TEXT, prompt_tokens TEXT,
    width INTEGER, slot INTEGER, good INTEGER, bad INTEGER,
    PRIMARY KEY (kind, name, objective, sli, prompt_tokens, width, slot)
) WITHOUT ROWID;
INSERT INTO counts SELECT kind, name, '', sli, '', width, slot, good, bad FROM counts_before;
DROP TABLE counts_before;
""",
    """
ALTER TABLE counts ADD COLUMN first REAL NOT NULL DEFAULT 0;
ALTER TABLE counts ADD COLUMN last REAL NOT NULL DEFAULT 0;
UPDATE counts SET first = slot * width, last = (slot + 1) * width;
""",
)
"""What each version of the file added to the one before. Slots of old say only that something happened in them."""
_ADD = """
INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET good = good + excluded.good, bad = bad + excluded.bad,
    first = min(first, excluded.first), last = max(last, excluded.last)
"""


_PUT = """
INSERT INTO documents VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET body = excluded.body, token = excluded.token WHERE excluded.token >= token
"""


class SqliteStore:
    """One file, which other processes may share: their counts add up."""

    def __init__(self, path: Path) -> None:
        """Open or make the file, and its folder; raises StateError. A file that is damaged is put aside."""
        self._path = path
        self._pruned = 0.0
        self._connection = self._opened()

    def __repr__(self) -> str:
        return f"<SqliteStore {self._path}>"

    def load(self, now: float) -> Saved:
        """Return what some window still holds."""
        try:
            rows = self._connection.execute(
                "SELECT kind, name, objective, sli, prompt_tokens, width, slot, good, bad, first, last FROM counts"
            ).fetchall()
            ejections = self._connection.execute(
                "SELECT backend, at, until, reason FROM ejections WHERE at > ? ORDER BY at", (now - _EJECTIONS_KEPT,)
            ).fetchall()
            documents = self._connection.execute("SELECT kind, name, body FROM documents").fetchall()
            records = self._connection.execute(
                "SELECT at, actor, action, subject, reason FROM records ORDER BY at DESC LIMIT ?", (_RECORDS_LOADED,)
            ).fetchall()
        except sqlite3.Error as error:
            raise self._failed("cannot be read", error) from None
        slots = (KeptSlot(SeriesKey(*row[:5]), *row[5:]) for row in rows)
        held = (each for each in slots if (each.slot + 1) * each.width > now - _KEPT[float(each.width)])
        return Saved(
            tuple(held),
            tuple(Ejection(*row) for row in ejections),
            tuple(Document(*row) for row in documents),
            tuple(Record(*row) for row in reversed(records)),
        )

    def save(self, batch: Batch) -> None:
        """Add a batch in one transaction; a file that was deleted is made anew."""
        rows = [
            (*each.series, int(width), int(batch.at // width), each.good, each.bad, each.first, each.last)
            for each in batch.deltas
            for width in LASTING
        ]
        ejections = [(each.backend, each.at, each.until, each.reason) for each in batch.ejections]
        documents = [(each.kind, each.name, each.body, batch.token) for each in batch.documents]
        records = [(each.at, each.actor, each.action, each.subject, each.reason) for each in batch.records]
        try:
            if not self._is_there():
                self._connection.close()
                self._connection = self._opened()
            with self._connection:
                self._connection.executemany(_ADD, rows)
                self._connection.executemany("INSERT INTO ejections VALUES (?, ?, ?, ?)", ejections)
                self._connection.executemany(_PUT, documents)
                self._connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", records)
                self._prune(batch.at)
        except (sqlite3.Error, OSError) as error:
            raise self._failed("cannot be written", error) from None

    def lead(self, owner: str, now: float, seconds: float) -> int:
        """Take or renew the lease; 0 while another owner holds it."""
        try:
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                row = self._connection.execute("SELECT owner, token, until FROM lease").fetchone()
                holder, token, until = row or ("", 0, 0.0)
                if holder not in {"", owner} and until > now:
                    return 0
                token += holder != owner
                self._connection.execute("DELETE FROM lease")
                self._connection.execute("INSERT INTO lease VALUES (?, ?, ?)", (owner, token, now + seconds))
                return int(token)
        except sqlite3.Error as error:
            raise self._failed("cannot be leased", error) from None

    def resign(self, owner: str) -> None:
        """Give the lease back, if it is held."""
        try:
            with self._connection:
                self._connection.execute("UPDATE lease SET owner = '', until = 0 WHERE owner = ?", (owner,))
        except sqlite3.Error as error:
            raise self._failed("cannot be written", error) from None

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _prune(self, now: float) -> None:
        if now - self._pruned < _PRUNE_EVERY:
            return
        self._pruned = now
        for width, kept in _KEPT.items():
            self._connection.execute(
                "DELETE FROM counts WHERE width = ? AND slot < ?", (int(width), int((now - kept) // width))
            )
        self._connection.execute("DELETE FROM ejections WHERE at < ?", (now - _EJECTIONS_KEPT,))
        self._connection.execute("DELETE FROM records WHERE at < ?", (now - _RECORDS_KEPT,))

    def _is_there(self) -> bool:
        with contextlib.suppress(OSError):
            return os.stat(self._path).st_ino == self._inode
        return False

    def _opened(self) -> sqlite3.Connection:
        try:
            return self._connected()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise self._failed("cannot be opened", error) from None
            aside = self._path.with_name(f"{self._path.name}.damaged-{int(time.time())}")
            _log.error("the state file is damaged: it is put aside, and a new one begun", extra={"aside": str(aside)})
            self._path.rename(aside)
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            return self._connected()
        except OSError as error:
            raise self._failed("cannot be opened", error) from None

    def _connected(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        self._inode = os.stat(self._path).st_ino
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            for schema in _SCHEMAS[version:]:
                for statement in schema.split(";"):
                    connection.execute(statement)
            if version < len(_SCHEMAS):
                connection.execute(f"PRAGMA user_version = {len(_SCHEMAS)}")
            connection.commit()
        except BaseException:
            connection.close()
            raise
        if version > len(_SCHEMAS):
            connection.close()
            raise StateError(f"the state file {self._path} was written by a newer release: name another with --state")
        return connection

    def _failed(self, what: str, error: Exception) -> StateError:
        return StateError(f"the state file {self._path} {what}: {error}")
