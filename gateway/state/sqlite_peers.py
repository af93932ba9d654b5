"""The processes that share a state file: who they are, who leads, and what they do when the file was emptied."""

import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from gateway import clock
from gateway.state import store as contract
from gateway.state.store import Batch, Member, Members, Recovery, Reply

_LARGEST_TOKEN: Final = 1 << 53
_ACTIVE_SECONDS: Final = 10.0
_MORE: Final = "more of "
"""Before the id of a process in the name of a fact: it has not written all that it had into an emptied file."""
_GAP: Final = "gap of "
"""Before the id of a process in the name of a fact: the number of its batch that came when one was missing."""
HEARD: Final = "heard of "
"""Before the id of a process in the name of a fact: the number of its last batch that is in what was restored."""
_FLUSHES: Final = 1000
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_INCARNATION: Final = """
INSERT INTO incarnations VALUES (:id, :sequence, :at, 0, NULL, NULL)
ON CONFLICT DO UPDATE SET sequence = max(sequence, excluded.sequence), at = excluded.at
"""


def boot() -> str:
    """Return what names this start of the machine: its processes have one monotonic clock."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return "unknown"


def fact(connection: sqlite3.Connection, name: str) -> Any:
    """Return what is noted under a name, None where nothing is."""
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return None if row is None else row[0]


def note(connection: sqlite3.Connection, **facts: Any) -> None:
    """Note facts under their names."""
    connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", facts.items())


def version(connection: sqlite3.Connection) -> int:
    """Return the number of the last change."""
    known = fact(connection, "version")
    return known if isinstance(known, int) else 0


def epoch(connection: sqlite3.Connection, known: str = "") -> str:
    """Return the id of the store, which is made with it; `known` is that of a damaged file that this one replaces."""
    found = fact(connection, "epoch")
    if not isinstance(found, str):
        found = known or secrets.token_hex(8)
        note(connection, epoch=found)
    return found


def refused(connection: sqlite3.Connection, batch: Batch, now: float) -> Reply | None:
    """Return the answer to a batch that is not to be saved, None for one that is; `now` is any monotonic clock's."""
    here = epoch(connection)
    row = connection.execute("SELECT sequence, ended, returned FROM incarnations WHERE id = ?", (batch.incarnation,))
    sequence, ended, returned = row.fetchone() or (0, 0, None)
    if batch.epoch and batch.epoch != here:
        return Reply(here, sequence)
    if ended:
        return Reply(here, sequence, ended=True)
    if batch.sequence and sequence >= batch.sequence:
        return Reply(here, sequence, batch.seen)
    if batch.returning:
        if (returned is None or _has_more(connection, batch.incarnation)) and fact(connection, "restored"):
            return Reply(here, sequence, ended=True)
        _come_back(connection, batch, now)
        if returned is None or batch.counts:
            note(connection, arrivals=arrivals(connection) + 1)
    return None


def arrivals(connection: sqlite3.Connection) -> int:
    """Return how often processes have written what they had into an emptied file."""
    known = fact(connection, "arrivals")
    return known if isinstance(known, int) else 0


def _has_more(connection: sqlite3.Connection, incarnation: str) -> bool:
    return fact(connection, f"{_MORE}{incarnation}") is not None


def _come_back(connection: sqlite3.Connection, batch: Batch, now: float) -> None:
    connection.execute(_INCARNATION, {"id": batch.incarnation, "sequence": 0, "at": batch.at})
    connection.execute(
        "UPDATE incarnations SET returned = ?, returned_at = ? WHERE id = ?", (batch.seen, now, batch.incarnation)
    )
    if batch.more:
        note(connection, **{f"{_MORE}{batch.incarnation}": 1})
    else:
        connection.execute("DELETE FROM facts WHERE name = ?", (f"{_MORE}{batch.incarnation}",))


def flushed(connection: sqlite3.Connection, batch: Batch) -> tuple[int, int]:
    """Note a batch; return the number of the incarnation's last one, and the version that this one makes."""
    row = connection.execute("SELECT sequence FROM incarnations WHERE id = ?", (batch.incarnation,)).fetchone()
    if batch.incarnation:
        connection.execute(_INCARNATION, {"id": batch.incarnation, "sequence": batch.sequence, "at": batch.at})
    new = max(version(connection), batch.seen) + 1  # an earlier copy of the file is behind what was seen
    note(connection, version=new)
    finest = (each.slot for each in batch.counts if each.width == contract.FINEST and not batch.every)
    oldest = min(finest, default=None)
    connection.execute("INSERT INTO flushes VALUES (?, ?, ?)", (new, batch.incarnation, oldest))
    connection.execute("DELETE FROM flushes WHERE version <= ?", (new - _FLUSHES,))
    return _last(connection, batch, 0 if row is None else row[0]), new


def _last(connection: sqlite3.Connection, batch: Batch, sequence: int) -> int:
    """Return the number of an incarnation's last batch, 0 if one is missing that its process takes as saved.

    The answer that tells of that may get lost, too: it is told until the process takes it that this batch is saved.
    """
    name = f"{_GAP}{batch.incarnation}"
    if sequence < batch.acknowledged:
        note(connection, **{name: batch.sequence})
        return sequence
    gap = fact(connection, name)
    if gap is None:
        return sequence
    if batch.acknowledged >= gap:
        connection.execute("DELETE FROM facts WHERE name = ?", (name,))
        return sequence
    return 0


def others_flushed(connection: sqlite3.Connection, batch: Batch) -> tuple[tuple[str, int], ...]:
    """Return the ids of other processes that saved something since what this one's has seen, and their last numbers."""
    since = "SELECT incarnation FROM flushes WHERE version > ? AND incarnation <> ?"
    query = f"SELECT id, sequence FROM incarnations WHERE id IN ({since})"  # noqa: S608 - our own names
    return tuple(connection.execute(query, (batch.seen, batch.incarnation)))


def missed(connection: sqlite3.Connection, batch: Batch, version: int) -> bool:
    """Note a batch of which others are told every slot; return whether there was one since what its process has seen.

    Only the finest slots are looked through for changes: the others have to be read.
    """
    known = fact(connection, "every")
    if batch.every:
        note(connection, every=version)
    return isinstance(known, int) and 0 < batch.seen < known


def recovery(connection: sqlite3.Connection, incarnation: str, now: float) -> Recovery:
    """Return what a process that came back has to do."""
    row = connection.execute("SELECT returned FROM incarnations WHERE id = ?", (incarnation,)).fetchone()
    came = row is not None and row[0] is not None
    if fact(connection, "restored"):
        return Recovery.DONE if came else Recovery.LATE
    if not came:
        return Recovery.WAIT
    since = fact(connection, "recovering")
    if since is None:
        note(connection, recovering=(since := now))
    connection.execute("UPDATE incarnations SET returned_at = ? WHERE id = ?", (now, incarnation))
    if now - since < contract.RECOVERY_SECONDS:
        return Recovery.WAIT
    back = connection.execute(
        "SELECT id FROM incarnations WHERE returned_at >= ? ORDER BY returned DESC, id",
        (now - contract.RECOVERY_SECONDS,),
    ).fetchall()
    if any(_has_more(connection, each) for (each,) in back):
        return Recovery.WAIT
    return Recovery.RESTORE if back[0] == (incarnation,) else Recovery.WAIT


def members(connection: sqlite3.Connection, now: float) -> Members:
    """Return the processes that have saved something in the last seconds, and the one whose lease holds."""
    alive = "FROM incarnations WHERE ended = 0 AND at > ?"
    since = (now - contract.MEMBER_SECONDS,)
    (count,) = connection.execute(f"SELECT count(*) {alive}", since).fetchone()
    latest = connection.execute(f"SELECT id, at {alive} ORDER BY at DESC LIMIT {contract.MEMBERS_NAMED}", since)
    found = tuple(Member(str(name), max(0.0, now - at)) for name, at in latest if isinstance(at, float))
    lease = connection.execute("SELECT owner FROM lease WHERE until > ?", (now,)).fetchone()
    return Members(count, "" if lease is None else str(lease[0]), found)


class Lease:
    """The lease as one process sees it: a rival's holds while it changes, on this one's own clock.

    Processes that started on one boot of the machine read one clock, so there its end is known at once.
    """

    def __init__(self, name: str) -> None:
        """Take what names the clock that this process reads."""
        self._clock = name
        self._rival: tuple[tuple[object, ...], float] = (), 0.0

    def __repr__(self) -> str:
        return f"<Lease, rival {self._rival}>"

    def lead(self, connection: sqlite3.Connection, owner: str, now: float, seconds: float) -> int:
        """Take or renew it, in the transaction that is open; 0 while another owner holds it."""
        row = connection.execute("SELECT owner, token, until FROM lease").fetchone()
        holder, token, until = row or ("", 0, 0.0)
        renewals = fact(connection, "renewals")
        if holder not in {"", owner}:
            same_clock = fact(connection, "lease clock") in {None, self._clock}
            if self._holds((*row, renewals), until if same_clock else None, now, seconds):
                return 0
        if not isinstance(token, int) or not 0 <= token < _LARGEST_TOKEN:
            token = 0
            connection.execute("UPDATE documents SET token = 0")
        token += holder != owner or not token
        connection.execute("DELETE FROM lease")
        connection.execute("INSERT INTO lease VALUES (?, ?, ?)", (owner, token, now + seconds))
        note(connection, **{"renewals": (renewals if isinstance(renewals, int) else 0) + 1, "lease clock": self._clock})
        return token

    def _holds(self, row: tuple[object, ...], until: object, now: float, seconds: float) -> bool:
        """Whether another owner's lease holds: until it ends or, where that cannot be known, while it changes."""
        if isinstance(until, (int, float)) and until <= now + seconds:
            return until > now
        known, since = self._rival
        if known != row or now < since:
            self._rival = row, now
            return True
        return now - since < seconds


def wall(connection: sqlite3.Connection, read: Callable[[], float] = clock.wall) -> float:
    """Return the time as the processes that share the file tell it, or as the machine does where there is none."""
    now, here = clock.monotonic(), boot()
    offset = fact(connection, "offset")
    if fact(connection, "boot") == here and isinstance(offset, float):
        (last,) = connection.execute("SELECT max(at) FROM incarnations WHERE ended = 0").fetchone()
        if isinstance(last, float) and abs(now + offset - last) < _ACTIVE_SECONDS:
            return now + offset
    seconds = read()
    note(connection, boot=here, offset=seconds - now)
    return seconds
