"""A file of any earlier layout becomes one of this release, whole, whatever interrupts that."""

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.policy.slo.series import SeriesKey, SlotCounts
from gateway.state.layout import VERSION
from gateway.state.sqlite import SqliteStore
from gateway.state.store import Document, Ejection, Record
from tests.state.counts import batch

NOW = 1_700_000_000.0
SLOT = int(NOW // 60)

AS_RELEASED = (
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
DROP TABLE counts;
CREATE TABLE counts (
    kind TEXT, name TEXT, objective TEXT, sli TEXT, prompt_tokens TEXT,
    width INTEGER, slot INTEGER, good INTEGER, bad INTEGER,
    PRIMARY KEY (kind, name, objective, sli, prompt_tokens, width, slot)
) WITHOUT ROWID;
""",
    """
ALTER TABLE counts ADD COLUMN first REAL NOT NULL DEFAULT 0;
ALTER TABLE counts ADD COLUMN last REAL NOT NULL DEFAULT 0;
""",
    """
DROP TABLE counts;
CREATE TABLE counts (
    kind TEXT, name TEXT, objective TEXT, sli TEXT, prompt_tokens TEXT,
    width INTEGER, slot INTEGER, good INTEGER, bad INTEGER, first REAL, last REAL,
    PRIMARY KEY (kind, name, objective, sli, prompt_tokens, width, slot)
) WITHOUT ROWID;
CREATE TABLE responses (at REAL, id TEXT, backend TEXT, model TEXT, version TEXT, tenant TEXT, asked TEXT);
""",
)
"""What each version of the file changed, in the words of the release that brought it."""
NEVER_RELEASED = """
ALTER TABLE counts ADD COLUMN first REAL NOT NULL DEFAULT 0;
ALTER TABLE counts ADD COLUMN last REAL NOT NULL DEFAULT 0;
"""
"""What a development tree called version 3: what is version 4 now, without the columns of version 3."""
LAYOUTS = {
    "version 1": (1, AS_RELEASED[:1]),
    "version 2": (2, AS_RELEASED[:2]),
    "version 3": (3, AS_RELEASED[:3]),
    "version 4": (4, AS_RELEASED[:4]),
    "version 5": (5, AS_RELEASED[:5]),
    "version 3 of a development tree": (3, (*AS_RELEASED[:2], NEVER_RELEASED)),
    "version 4 that says it is 2": (2, AS_RELEASED[:4]),
}


def written(path: Path, layout: str) -> Path:
    """Make a file of some layout, with a row in each table."""
    version, scripts = LAYOUTS[layout]
    row = {"kind": "model", "name": "m", "sli": "ttft", "width": 60, "slot": SLOT, "good": 5, "bad": 2}
    later = {"objective": "", "prompt_tokens": "", "first": 60.0 * SLOT, "last": 60.0 * SLOT + 60}
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    for script in scripts:
        connection.executescript(script)
    there = {each[1] for each in connection.execute("PRAGMA table_info(counts)")}
    row |= {name: value for name, value in later.items() if name in there}
    places = ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO counts ({', '.join(row)}) VALUES ({places})", [*row.values()])  # noqa: S608
    connection.execute("INSERT INTO ejections VALUES ('gpu/e:1', ?, ?, 'why')", (NOW, NOW + 30))
    if version > 1:
        connection.execute("INSERT INTO documents VALUES ('rollout', 'm', '{}', 6)")
        connection.execute("INSERT INTO records VALUES (?, 'ann', 'pause', 'm', 'lunch')", (NOW,))
        connection.execute("INSERT INTO lease VALUES ('', 6, 0)")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.commit()
    connection.close()
    return path


def holds_everything(path: Path, version: int) -> None:
    store = SqliteStore(path)
    saved = store.load(NOW + 1)
    assert saved.slots == (
        SlotCounts(SeriesKey("model", "m", "", "ttft", ""), 60, SLOT, 5, 2, 60.0 * SLOT, 60.0 * SLOT + 60),
    )
    assert saved.ejections == (Ejection("gpu/e:1", NOW, NOW + 30, "why"),)
    if version > 1:
        assert saved.documents == (Document("rollout", "m", "{}"),)
        assert saved.records == (Record(NOW, "ann", "pause", "m", "lunch"),)
    assert store.lead("me", NOW, 5.0) == (7 if version > 1 else 1)
    store.save(batch(NOW, (SeriesKey("model", "m", "", "ttft", ""), 1, 0, NOW)))
    assert {each.good for each in store.load(NOW + 1).slots if each.width == 60} == {6}
    store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    connection.close()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_converted_with_all_that_it_holds(tmp_path: Path, layout: str, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path / "state.sqlite", layout)
    holds_everything(path, LAYOUTS[layout][0])
    assert not list(tmp_path.glob("*.damaged-*"))
    assert "damaged" not in caplog.text


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_that_cannot_be_written_is_read_all_the_same(
    tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "state.sqlite", layout)
    before, real = path.read_bytes(), sqlite3.connect

    def connect(database: Any, **more: Any) -> sqlite3.Connection:
        if str(database) == str(path):
            return real(f"{path.as_uri()}?mode=ro", uri=True)
        connection: sqlite3.Connection = real(database, **more)
        return connection

    monkeypatch.setattr("gateway.state.sqlite.sqlite3.connect", connect)
    store = SqliteStore(path)
    saved = store.load(NOW + 1)
    assert [(each.good, each.bad) for each in saved.slots] == [(5, 2)]
    assert len(saved.ejections) == 1
    store.close()
    assert path.read_bytes() == before


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_can_be_read_of_a_damaged_one_goes_on(tmp_path: Path, layout: str) -> None:
    path = written(tmp_path / "state.sqlite", layout)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {1 << 24}")
    connection.close()
    store = SqliteStore(path)
    assert list(tmp_path.glob("*.damaged-*"))
    saved = store.load(NOW + 1)
    assert [(each.good, each.bad) for each in saved.slots] == [(5, 2)]
    assert len(saved.ejections) == 1
    store.close()


KILLED = """
import os, signal, sqlite3, sys
from pathlib import Path
from gateway.state.sqlite import SqliteStore

connect, after = sqlite3.connect, 0

class Mortal(sqlite3.Connection):
    left = 0
    def execute(self, *asked):
        if not Mortal.left:
            os.kill(os.getpid(), signal.SIGKILL)
        Mortal.left -= 1
        return super().execute(*asked)

def mortal(*where, **how):
    return connect(*where, factory=Mortal, **how)

sqlite3.connect = mortal
while True:
    child = os.fork()
    if not child:
        Mortal.left = after
        SqliteStore(Path(sys.argv[1])).close()
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
    after += 1
print(after)
"""


@pytest.mark.parametrize("layout", ["version 1", "version 2", "version 3"])
def test_a_process_that_is_killed_at_any_statement_leaves_a_file_that_the_next_converts(
    tmp_path: Path, layout: str
) -> None:
    path = written(tmp_path / "state.sqlite", layout)
    done = subprocess.run([sys.executable, "-c", KILLED, path], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) > 20, "it was killed at each statement, until it came through"
    assert not list(tmp_path.glob("*.damaged-*"))
    holds_everything(path, LAYOUTS[layout][0])
