"""What one process found about a backend by its answers, and tells the others while it is news.

A row says how long ago things were and how much longer they last, when it was written. Its reader adds its age on the
store's one clock, so no process has to trust the clock of another.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from math import inf, isfinite
from typing import Any, Final

from gateway.policy.routing.ejection import Finding
from gateway.state.store import BackendFinding, Batch

REMEMBERED: Final = 310.0
"""Seconds for which a finding is told: longer than any process goes without reading."""
TABLE: Final = """CREATE TABLE IF NOT EXISTS findings (
    version INTEGER, incarnation TEXT, boot TEXT, written REAL, body TEXT
)"""
"""Beside the tables of the layout: earlier releases, which may have the same file open, leave it alone."""
QUERY: Final = "SELECT version, incarnation, boot, written, body FROM findings"
_LONGEST: Final = 7 * 86_400.0
_WORDS: Final = 500


def packed(batch: Batch) -> list[str]:
    """Return the findings of a batch that still hold, as text."""
    return [_text(batch, each) for each in batch.findings if each.finding.until > batch.at]


def unpacked(batch: Batch, texts: Iterable[tuple[Any, Any]]) -> Iterator[BackendFinding]:
    """Return what others have found and still holds, from texts and their ages in seconds, for who saves a batch."""
    for text, age in texts:
        found = _read(batch, text, age)
        if found is not None and found.finding.until > batch.at:
            yield found


def _text(batch: Batch, each: BackendFinding) -> str:
    found = each.finding
    times = found.until - batch.at, max(0.0, batch.at - found.since)
    words = found.reason[:_WORDS]
    return json.dumps([batch.incarnation, each.backend, *times, found.slow, found.share, found.in_row, words])


def _read(batch: Batch, text: Any, age: Any) -> BackendFinding | None:
    """Return a finding, None where it is the process' own or cannot be believed."""
    try:
        owner, backend, left, before, slow, share, in_row, reason, *_later = json.loads(text)
        left, before, share, age = float(left), float(before), float(share), float(age)
    except (ValueError, TypeError, OverflowError):
        return None
    believed = all(isinstance(each, str) for each in (owner, backend, reason)) and all(map(isfinite, (before, age)))
    if not believed or owner == batch.incarnation or not (0.0 < left <= _LONGEST and 0.0 <= share <= 1.0):
        return None
    age = max(0.0, age)
    until, since = batch.at + left - age, batch.at - max(0.0, before) - age
    return BackendFinding(backend, Finding(until, reason[:_WORDS], bool(slow), share, since, bool(in_row)))


def write(connection: sqlite3.Connection, batch: Batch, version: int, boot: str, now: float) -> None:
    """Write those of a batch, at `now` on the monotonic clock that this boot of the machine has."""
    rows = [(version, batch.incarnation, boot, now, text) for text in packed(batch)]
    if rows:
        connection.execute("DELETE FROM findings WHERE boot <> ? OR written < ?", (boot, now - REMEMBERED))
        connection.executemany("INSERT INTO findings VALUES (?, ?, ?, ?, ?)", rows)


def read(connection: sqlite3.Connection, batch: Batch, boot: str, now: float) -> tuple[BackendFinding, ...]:
    """Return what others have found since the version that a batch has seen."""
    query = "SELECT body, written FROM findings WHERE version > ? AND boot = ? AND incarnation <> ? ORDER BY version"
    rows = connection.execute(query, (batch.seen, boot, batch.incarnation))
    texts = ((body, now - written if isinstance(written, float) else inf) for body, written in rows)
    return tuple(unpacked(batch, texts))
