"""The tables of a state file, and how those of earlier releases become these."""

import sqlite3

VERSION = 7
TABLES = {
    "counts": """(
    kind TEXT, name TEXT, objective TEXT, sli TEXT, prompt_tokens TEXT,
    width INTEGER, slot INTEGER, incarnation TEXT, good INTEGER, bad INTEGER, first REAL, last REAL,
    PRIMARY KEY (kind, name, objective, sli, prompt_tokens, width, slot, incarnation)
) WITHOUT ROWID""",
    "ejections": "(backend TEXT, at REAL, until REAL, reason TEXT)",
    "documents": """(
    kind TEXT, name TEXT, body TEXT, token INTEGER, version INTEGER, PRIMARY KEY (kind, name)
) WITHOUT ROWID""",
    "records": "(at REAL, actor TEXT, action TEXT, subject TEXT, reason TEXT)",
    "responses": "(at REAL, id TEXT, backend TEXT, model TEXT, version TEXT, tenant TEXT, asked TEXT)",
    "lease": "(owner TEXT, token INTEGER, until REAL)",
    "facts": "(name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "incarnations": """(
    id TEXT PRIMARY KEY, sequence INTEGER, at REAL, ended INTEGER, returned INTEGER, returned_at REAL
) WITHOUT ROWID""",
    "flushes": "(version INTEGER PRIMARY KEY, incarnation TEXT, oldest INTEGER)",
}
FINEST = "CREATE INDEX counts_finest ON counts (slot) WHERE width = 2"
"""The slots that are read while processes run."""
SETTLED = ""
"""The incarnation of rows that no process writes any more: those of ended processes, and of earlier layouts."""
_DEFAULTS = {
    "incarnation": f"'{SETTLED}'",
    "objective": "''",
    "prompt_tokens": "''",
    "version": "0",
    "first": "slot * width",
    "last": "(slot + 1) * width",
}
"""Columns that came with a later version: what rows from before it have there. Their slots say only that something
happened in them.
"""


def convert(connection: sqlite3.Connection) -> int:
    """Make the tables of this version out of what is there, in the transaction that is open; return the version found.

    Rows are copied by the names of their columns, so that any earlier layout will do. A newer one is left alone.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version >= VERSION:
        return int(version)
    for table, definition in TABLES.items():
        before = f"{table}_before"
        known = bool(columns(connection, table))
        if known:
            connection.execute(f"ALTER TABLE {table} RENAME TO {before}")
        connection.execute(f"CREATE TABLE {table} {definition}")
        if known:
            rows = selection(connection, before, columns(connection, table))
            connection.execute(f"INSERT OR IGNORE INTO {table} {rows}")
            connection.execute(f"DROP TABLE {before}")
    connection.execute(FINEST)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    return int(version)


def columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the names of a table's columns, none where there is no such table."""
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def selection(connection: sqlite3.Connection, table: str, wanted: list[str]) -> str:
    """Return the query for these columns of a table, which may be of an earlier version."""
    there = columns(connection, table)
    # Unquoted where nothing is known of it: that fails, as it should, where the column is none of an earlier version's.
    chosen = (name if name in there else f"{_DEFAULTS.get(name, name)} AS {name}" for name in wanted)
    return f"SELECT {', '.join(chosen)} FROM {table}"  # noqa: S608 - our own names
