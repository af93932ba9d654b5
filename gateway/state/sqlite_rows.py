"""The rows of a state file: what is written of a batch, what is read back, and what is forgotten."""

import sqlite3
from collections.abc import Iterable
from dataclasses import astuple
from typing import Final

from gateway.policy.slo.series import SlotCounts
from gateway.policy.slo.time_in_use import HOUR
from gateway.policy.slo.windows import FINE, STORED
from gateway.state import believed
from gateway.state import store as contract
from gateway.state.layout import SETTLED
from gateway.state.store import (
    EJECTIONS_STORED,
    RECORDS_LOADED,
    RECORDS_STORED,
    RESPONSES_LOADED,
    RESPONSES_STORED,
    SHARED_KINDS,
    Batch,
    Document,
    Saved,
    is_held,
)

_UNKNOWN_AFTER: Final = HOUR
"""Seconds after the end of a slot, for rows of processes of an earlier release, which say nothing of themselves."""
_MOST: Final = 1 << 53
_COUNT: Final = """
INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET good = excluded.good, bad = excluded.bad, first = excluded.first, last = excluded.last
"""
_SILENT: Final = "SELECT id FROM incarnations WHERE ended = 1"
_ENDED: Final = f"""
incarnation NOT IN (:settled, :own)
    AND (incarnation IN ({_SILENT})
        OR (slot + 1) * width < :before AND incarnation NOT IN (SELECT id FROM incarnations))
    AND typeof(good) = 'integer' AND typeof(bad) = 'integer' AND good BETWEEN 0 AND :most AND bad BETWEEN 0 AND :most
"""  # noqa: S608 - our own names
_SETTLE: Final = f"""
INSERT INTO counts
SELECT kind, name, objective, sli, prompt_tokens, width, slot, :settled, sum(good), sum(bad), min(first), max(last)
FROM counts WHERE {_ENDED} GROUP BY kind, name, objective, sli, prompt_tokens, width, slot
ON CONFLICT DO UPDATE SET good = good + excluded.good, bad = bad + excluded.bad,
    first = min(first, excluded.first), last = max(last, excluded.last)
"""  # noqa: S608 - our own names
_FORGET: Final = f"DELETE FROM counts WHERE {_ENDED}"  # noqa: S608 - our own names
_PUT: Final = """
INSERT INTO documents VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET body = excluded.body, token = excluded.token, version = excluded.version
    WHERE excluded.token >= token
"""
COUNTS: Final = "SELECT kind, name, objective, sli, prompt_tokens, width, slot, good, bad, first, last FROM counts"
_OTHERS: Final = f"""
{COUNTS} WHERE width = 2 AND slot >= ? AND incarnation <> ? AND kind IN ({", ".join("?" * len(SHARED_KINDS))})
"""
RETURNED: Final = f"{COUNTS} WHERE incarnation IN (SELECT id FROM incarnations WHERE returned IS NOT NULL)"  # noqa: S608 - our own names
EJECTIONS: Final = "SELECT backend, at, until, reason FROM ejections"
DOCUMENTS: Final = "SELECT kind, name, body FROM documents"
RECORDS: Final = "SELECT at, actor, action, subject, reason FROM records"
RESPONSES: Final = "SELECT at, id, backend, model, version, tenant, asked FROM responses"
QUERIES: Final = (
    COUNTS,
    "SELECT incarnation FROM counts",
    EJECTIONS,
    DOCUMENTS,
    RECORDS,
    RESPONSES,
    "SELECT owner, token, until FROM lease",
    "SELECT name, value FROM facts",
    "SELECT id, sequence, at, ended, returned, returned_at FROM incarnations",
    "SELECT version, incarnation, oldest FROM flushes",
)
"""What every file of this version answers."""


def write_counts(connection: sqlite3.Connection, counts: Iterable[SlotCounts], incarnation: str) -> None:
    """Write all that one process has counted in some slots."""
    rows = [
        (*each.series, int(each.width), each.slot, incarnation, each.good, each.bad, each.first, each.last)
        for each in counts
    ]
    connection.executemany(_COUNT, rows)


def write(connection: sqlite3.Connection, batch: Batch, version: int, *, latest: bool) -> None:
    """Write a batch, in the transaction that is open; its documents only where its token is the `latest`."""
    write_counts(connection, batch.counts, batch.incarnation)
    ejections = [(each.backend, each.at, each.until, each.reason) for each in batch.ejections]
    connection.executemany("INSERT INTO ejections VALUES (?, ?, ?, ?)", ejections)
    for each in batch.documents:
        free = each.kind in contract.FREE
        if free or latest:
            token = 0 if free else batch.token
            connection.execute(_PUT, (each.kind, each.name, each.body, token, version))
    records = [(each.at, each.actor, each.action, each.subject, each.reason) for each in batch.records]
    connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", records)
    responses = [astuple(each) for each in batch.responses]
    connection.executemany("INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?)", responses)


def is_latest(connection: sqlite3.Connection, token: int) -> bool:
    """Whether no later fencing token was given."""
    (led,) = connection.execute("SELECT max(token) FROM lease WHERE typeof(token) = 'integer'").fetchone()
    return led is None or bool(led <= token)


def read(connection: sqlite3.Connection, now: float, own: str = "") -> Saved:
    """Return what some window still holds, as far as it can be believed, less what `own` has counted."""
    less, which = (" WHERE incarnation <> ?", (own,)) if own else ("", ())
    counts = connection.execute(f"{COUNTS}{less}", which).fetchall()
    ejections = connection.execute(f"{EJECTIONS} WHERE at > ? ORDER BY at", (now - EJECTIONS_STORED,)).fetchall()
    documents = connection.execute(DOCUMENTS).fetchall()
    records = connection.execute(f"{RECORDS} ORDER BY at DESC LIMIT ?", (RECORDS_LOADED,)).fetchall()
    responses = connection.execute(
        f"{RESPONSES} WHERE at > ? ORDER BY rowid DESC LIMIT ?", (now - RESPONSES_STORED, RESPONSES_LOADED)
    ).fetchall()
    slots = believed.slots(counts, STORED)
    return Saved(
        tuple(each for each in slots if is_held(each, now)),
        tuple(believed.ejections(ejections)),
        tuple(believed.documents(documents)),
        tuple(believed.records(reversed(records), now)),
        tuple(believed.responses(reversed(responses), now)),
    )


def others(connection: sqlite3.Connection, own: str, seen: int) -> tuple[SlotCounts, ...]:
    """Return what other processes have counted in the finest slots that changed since a version."""
    (first,) = connection.execute("SELECT min(version) FROM flushes").fetchone()
    since = "SELECT count(*), min(oldest) FROM flushes WHERE version > ? AND incarnation <> ?"
    changes, oldest = connection.execute(since, (seen, own)).fetchone()
    if first is not None and seen < first - 1:
        oldest = 0
    elif not changes or oldest is None:
        return ()
    rows = connection.execute(_OTHERS, (oldest, own, *SHARED_KINDS))
    return tuple(believed.slots(rows, (FINE,)))


def edited(connection: sqlite3.Connection, seen: int) -> tuple[Document, ...]:
    """Return the documents that changed since a version."""
    return tuple(believed.documents(connection.execute(f"{DOCUMENTS} WHERE version > ?", (seen,))))


def settle(connection: sqlite3.Connection, now: float, own: str) -> int:
    """Make one row of those that silent processes wrote of one slot, which they must not write any more."""
    silent = "UPDATE incarnations SET ended = 1 WHERE ended = 0 AND at < ? AND id <> ?"
    found = connection.execute(silent, (now - contract.SILENT_SECONDS, own)).rowcount
    ended = {"settled": SETTLED, "own": own, "before": now - _UNKNOWN_AFTER, "most": _MOST}
    connection.execute(_SETTLE, ended)
    connection.execute(_FORGET, ended)
    return found


def prune(connection: sqlite3.Connection, now: float, own: str) -> None:
    """Delete what no window holds any more."""
    for width, seconds in STORED.items():
        connection.execute(
            "DELETE FROM counts WHERE width = ? AND slot < ?", (int(width), int((now - seconds) // width))
        )
    settle(connection, now, own)
    connection.execute("DELETE FROM incarnations WHERE ended = 1 AND at < ?", (now - STORED[max(STORED)],))
    connection.execute("DELETE FROM ejections WHERE at < ?", (now - EJECTIONS_STORED,))
    connection.execute("DELETE FROM records WHERE at < ?", (now - RECORDS_STORED,))
    connection.execute(
        "DELETE FROM responses WHERE at < ? OR rowid <= (SELECT max(rowid) FROM responses) - ?",
        (now - RESPONSES_STORED, RESPONSES_LOADED),
    )
