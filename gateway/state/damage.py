"""State files that are damaged or deleted: how that shows, where they go, and what can still be read of them."""

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from gateway.state.layout import columns, selection

_DAMAGE = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT))
"""Primary codes."""
_MEANING = {
    "counts": "counts, so that error budgets and alerts start from nothing",
    "ejections": "ejections",
    "documents": "rollouts, deployments and drained backends",
    "records": "audit records",
    "responses": "which backends keep which responses",
}
"""Tables that are taken over, and what they hold in words. The lease is not: it would keep a new leader waiting."""
_BEGINNING = b"SQLite format 3\0"
_VERSIONS = 1000
"""More than there will ever be."""


class Damaged(sqlite3.DatabaseError):
    """The file is a database whose pages do not fit together."""


def is_damage(error: Exception) -> bool:
    """Whether an error says that the file itself is damaged, as opposed to being out of reach, locked or full."""
    if isinstance(error, Damaged):
        return True
    code = getattr(error, "sqlite_errorcode", None) or 0
    return code == sqlite3.SQLITE_IOERR_SHORT_READ or code & 0xFF in _DAMAGE


def text(data: bytes) -> str:
    """Read a text, of which some bytes may be damaged."""
    return data.decode(errors="replace")


def read_only(path: Path, how: str = "immutable=1") -> sqlite3.Connection:
    """Open a file that is not to be changed; by default without its log, so without the last seconds."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)
    connection.text_factory = text
    return connection


def inspect(path: Path) -> None:
    """Raise Damaged, or another sqlite3.Error, where pages, indexes or the version cannot be; some ms a megabyte.

    This comes before the file is opened to be written: closing such a connection would already merge the log into it.
    """
    with contextlib.closing(read_only(path, "mode=ro")) as connection:
        try:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except UnicodeDecodeError:  # of an error's own words, which name a table
            raise Damaged("its tables have no names") from None
        if found != "ok":
            raise Damaged(found)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if not 0 <= version < _VERSIONS:
            raise Damaged(f"version {version} of it can be of no release")
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        if not version and tables:
            raise Damaged("its tables are another database's, as with a log that is not its own")
        if version and "counts" not in tables:
            raise Damaged("it has no counts")


def regular(path: Path) -> os.stat_result:
    """Return what is known of a file; raises OSError for a directory, and for what SQLite might wait for for ever."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"it is {'a directory' if stat.S_ISDIR(found.st_mode) else 'no regular file'}")
    return found


_NETWORKED = frozenset(
    ("afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "lustre", "nfs", "nfs4", "smb3", "smbfs")
)


def networked(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """Return the type of the network file system that a path is on, "" where it is on a local one."""
    found, longest = "", -1
    with contextlib.suppress(OSError):
        for line in mounts.read_text(errors="replace").splitlines():
            _, point, kind, *_ = line.split(" ")
            mounted = Path(point.replace("\\040", " "))
            if path.absolute().is_relative_to(mounted) and len(mounted.parts) >= longest:
                found, longest = kind, len(mounted.parts)
    return found if found in _NETWORKED else ""


def is_database(path: Path, opened: int | None = None) -> bool:
    """Whether a file begins as a database does, or the one that is `opened` (a descriptor).

    A file that this process has open must not be opened and closed beside: that would give up SQLite's locks on it.
    """
    if opened is not None:
        return os.pread(opened, len(_BEGINNING), 0) == _BEGINNING
    with path.open("rb") as file:
        return file.read(len(_BEGINNING)) == _BEGINNING


def put_aside(path: Path, inode: int) -> Path | None:
    """Rename a file, with its log, after the time; return its new name, None where another process has done so."""
    if not path.exists() or os.stat(path).st_ino != inode:
        return None
    name = f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    aside = path.with_name(name)
    count = 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{name}-{count}")
    path.rename(aside)
    with contextlib.suppress(FileNotFoundError):
        path.with_name(f"{path.name}-wal").rename(aside.with_name(f"{aside.name}-wal"))
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    return aside


def write_anew(opened: sqlite3.Connection, path: Path, harmed: int = 0) -> Path | None:
    """Write a file that was deleted or overwritten while it is open, with all that it holds.

    What is in its place now is put aside, if it is the file of the inode `harmed`; return where, None for nowhere.
    Raises sqlite3.Error or OSError.
    """
    aside = None
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new-{os.getpid()}")
    try:
        os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))
        with contextlib.closing(sqlite3.connect(new)) as copy:
            opened.backup(copy)
        if harmed:
            inspect(new)  # what was not in the log, or not read before, may be lost
            aside = put_aside(path, harmed)
        if path.exists():  # another process that shares it was faster
            return aside
        for ending in ("-wal", "-shm"):  # of the one that was deleted
            path.with_name(f"{path.name}{ending}").unlink(missing_ok=True)
        new.rename(path)
        return aside
    finally:
        for ending in ("", "-wal", "-shm"):
            new.with_name(f"{new.name}{ending}").unlink(missing_ok=True)


def salvage(aside: Path, connection: sqlite3.Connection) -> str:
    """Copy the rows that can be read; return what was lost of it, in words."""
    lost = []
    try:
        # Without the log, which may be what is damaged, or of another file: it holds the last seconds only.
        old = read_only(aside)
    except sqlite3.Error:
        return "; ".join(_MEANING.values())
    with contextlib.closing(old), connection:
        for table, meaning in _MEANING.items():
            if not _copied(old, connection, table):
                lost.append(meaning)
        connection.execute("UPDATE documents SET token = 0")
    return "; ".join(lost)


def _copied(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> bool:
    wanted = columns(new, table)
    into = f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(wanted))})"  # noqa: S608 - our own names
    try:
        rows: Iterable[tuple[object, ...]] = old.execute(selection(old, table, wanted))
        for row in rows:
            new.execute(into, row)
    except (sqlite3.Error, OverflowError, UnicodeDecodeError):
        return False
    return True
