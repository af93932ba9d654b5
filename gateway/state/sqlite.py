"""Lasting state in one SQLite file.

Write-ahead logging with `synchronous=NORMAL`: what a commit returned for survives the process, whatever ends it; a
power cut may take the last commits, but never the file.
"""

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gateway import clock
from gateway.policy.slo.series import SlotCounts
from gateway.policy.slo.windows import STORED
from gateway.state import believed, findings, sqlite_peers, sqlite_rows
from gateway.state.damage import (
    inspect,
    is_damage,
    is_database,
    networked,
    put_aside,
    read_only,
    regular,
    salvage,
    text,
    write_anew,
)
from gateway.state.layout import VERSION, convert
from gateway.state.sqlite_rows import RETURNED
from gateway.state.store import FREE, Batch, Members, Recovery, Reply, Returned, Saved, StateError

_log = logging.getLogger(__name__)
_PRUNE_EVERY = 600.0
_BUSY_SECONDS = 1.0
_OUT_OF_REACH = frozenset((sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN))


class NewerState(StateError):
    """The file was written by a later release, which another start of that release needs."""


class SqliteStore:
    """One file, which other processes may share: each writes its own counts, and what is read is their sum."""

    remote = False

    def __init__(self, path: Path, boot: str = "") -> None:
        """Open or make the file, and its folder; raises StateError. `boot` names the clock that this process reads.

        A file that is damaged is put aside. One that is there and cannot be written (read-only, a full disk) is read as
        far as it can be, and tried again with each call.
        """
        self._path = path
        self._pruned = 0.0
        self._inode = 0
        self._log_inode = 0
        self._descriptor: int | None = None
        self._boot = boot or sqlite_peers.boot()
        self._lease = sqlite_peers.Lease(self._boot)
        self._epoch = ""
        self._opened: sqlite3.Connection | None = None
        if kind := networked(path):
            raise StateError(
                f"the state file {path} is on a network file system ({kind}), where SQLite's locks do not hold: "
                "name one on a local disk, or share a server with --state redis://HOST:6379/0"
            )
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

    def wall(self) -> float:
        """Return the time, as all processes tell it that have the file open."""
        try:
            with self._writing() as connection:
                return sqlite_peers.wall(connection)
        except StateError:
            return clock.wall()

    def ahead(self, now: float) -> float:  # noqa: ARG002 - as `wall` says
        """Return 0: all processes tell the time by one clock from their start on."""
        return 0.0

    def load(self, now: float, own: str = "") -> Saved:
        """Return what some window still holds, less what `own` has counted."""
        try:
            if self._opened is None:
                return self._read_only(now)
            try:
                return self._read(self._opened, now, own)
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise
                return self._read(self._begin_anew(error), now, own)
        except sqlite3.Error as error:
            raise self._failed("cannot be read", error) from None

    def _read(self, connection: sqlite3.Connection, now: float, own: str) -> Saved:
        seen, epoch = sqlite_peers.version(connection), sqlite_peers.fact(connection, "epoch") or ""
        return replace(sqlite_rows.read(connection, now, own), epoch=epoch, version=seen)

    def _read_only(self, now: float) -> Saved:
        """Return what can be read of a file that cannot be written: without its log, so without the last seconds."""
        try:
            with contextlib.closing(read_only(self._path)) as file, contextlib.closing(_in_memory()) as copy:
                file.backup(copy)
                convert(copy)
                return sqlite_rows.read(copy, now)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            _log.error("state cannot be read: starting without it", extra={"reason": str(error)})
            return Saved()

    def save(self, batch: Batch) -> Reply:
        """Save a batch in one transaction; a file that was deleted is written anew."""
        with self._writing() as connection:
            refused = sqlite_peers.refused(connection, batch, clock.monotonic())
            if refused is not None:
                return refused
            is_copy = sqlite_peers.version(connection) < batch.seen
            sequence, version = sqlite_peers.flushed(connection, batch)
            latest = sqlite_rows.is_latest(connection, batch.token)
            sqlite_rows.write(connection, batch, version, latest=latest)
            written = clock.monotonic()
            findings.write(connection, batch, version, self._boot, written)
            if batch.at - self._pruned >= _PRUNE_EVERY:
                self._pruned = batch.at
                sqlite_rows.prune(connection, batch.at, batch.incarnation)
            found = sqlite_rows.others(connection, batch.incarnation, batch.seen)
            leads = batch.token > 0 and latest
            edited = sqlite_rows.edited(connection, batch.seen)
            documents = tuple(each for each in edited if not leads or each.kind in FREE)
            told = findings.read(connection, batch, self._boot, written)
            self._epoch = sqlite_peers.epoch(connection)
            # Into an earlier copy of the file others may have written under lower versions than what was seen.
            missed = sqlite_peers.missed(connection, batch, version) or is_copy
            return Reply(
                self._epoch,
                sequence,
                version,
                found,
                documents=documents,
                findings=told,
                led=leads,
                missed=missed,
                flushed=sqlite_peers.others_flushed(connection, batch),
            )

    def recovery(self, incarnation: str) -> Recovery:
        """Return what a process that came back has to do."""
        with self._writing() as connection:
            return sqlite_peers.recovery(connection, incarnation, clock.monotonic())

    def returned(self, among: Iterable[SlotCounts]) -> Returned:  # noqa: ARG002 - all of them
        """Return the counts of all processes that came back."""
        try:
            arrivals = sqlite_peers.arrivals(self._connection)
            rows = self._connection.execute(RETURNED).fetchall()
        except (sqlite3.Error, OSError) as error:
            raise self._broken("cannot be read", error) from None
        return Returned(tuple(believed.slots(rows, STORED)), arrivals)

    def restore(self, incarnation: str, counts: Sequence[SlotCounts], arrivals: int, heard: Mapping[str, int]) -> bool:
        """Write what ended processes had, once."""
        with self._writing() as connection:
            if sqlite_peers.fact(connection, "restored") or sqlite_peers.arrivals(connection) != arrivals:
                return False
            sqlite_peers.note(connection, restored=incarnation)
            sqlite_peers.note(connection, **{f"{sqlite_peers.HEARD}{each}": last for each, last in heard.items()})
            restored = Batch(0.0, tuple(counts), incarnation=f"{incarnation} restored", every=True)
            _, version = sqlite_peers.flushed(connection, restored)
            sqlite_peers.missed(connection, restored, version)
            sqlite_rows.write_counts(connection, counts, restored.incarnation)
            return True

    def restored_from(self, incarnation: str) -> int:
        """Return which batch of a process was the last that is in what was restored."""
        with self._writing() as connection:
            known = sqlite_peers.fact(connection, f"{sqlite_peers.HEARD}{incarnation}")
            return known if isinstance(known, int) else 0

    def members(self, now: float) -> Members:
        """Return who has saved something in the last seconds, and who leads."""
        try:
            return sqlite_peers.members(self._connection, now)
        except (sqlite3.Error, OSError) as error:
            raise self._failed("cannot be read", error) from None

    def lead(self, owner: str, now: float, seconds: float) -> int:
        """Take or renew the lease; 0 while another owner holds it.

        A lease that ends later than any taken now would is of a clock that was wrong: it holds while its owner renews
        it, and not for as long as it says.
        """
        with self._writing() as connection:
            return self._lease.lead(connection, owner, now, seconds)

    def resign(self, owner: str) -> None:
        """Give the lease back, if it is held."""
        try:
            with self._connection:
                self._connection.execute("UPDATE lease SET owner = '', until = 0 WHERE owner = ?", (owner,))
        except (sqlite3.Error, OSError) as error:
            raise self._failed("cannot be written", error) from None

    def settle(self, owner: str, token: int, now: float) -> int:
        """Settle the rows of silent processes, as the leader."""
        with self._writing() as connection:
            led = connection.execute("SELECT 1 FROM lease WHERE owner = ? AND token = ?", (owner, token)).fetchone()
            return sqlite_rows.settle(connection, now, owner) if led else 0

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Give a connection in a transaction that has the right to write from its start on; raises StateError."""
        try:
            self._follow()
            with self._connection as connection:
                if not connection.in_transaction:
                    connection.execute("BEGIN IMMEDIATE")
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise self._broken("cannot be written", error) from None

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
                with self._opened:
                    sqlite_peers.epoch(self._opened, self._epoch)
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
            if version <= VERSION:
                connection.execute(findings.TABLE)
            connection.commit()
            if 0 < version < VERSION:
                _log.info("the state file of an earlier release was converted", extra={"file": str(self._path)})
            if version <= VERSION:
                for query in (*sqlite_rows.QUERIES, findings.QUERY):
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
        why = str(error)
        if isinstance(error, OSError) and error.strerror:
            other = error.filename not in {None, str(self._path)}
            why = f"{error.filename}: {error.strerror}" if other else error.strerror
        return StateError(f"the state file {self._path} {what}: {why}")


def _in_memory() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.text_factory = text
    return connection
