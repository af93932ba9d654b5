"""What is believed of findings that others wrote, and files that know of none."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.policy.routing.ejection import Finding
from gateway.state import findings
from gateway.state.sqlite import SqliteStore
from gateway.state.store import BackendFinding, Batch

NOW = 1_700_000_000.0
MINE = Batch(NOW, incarnation="one")
GOOD: list[Any] = ["two", "p/a:80", 30.0, 2.0, False, 0.5, True, "5 failures in a row"]


def read(text: str, age: Any = 4.0) -> list[BackendFinding]:
    return list(findings.unpacked(MINE, [(text, age)]))


def test_what_is_written_is_read_with_its_age_by_others_alone() -> None:
    found = BackendFinding("p/a:80", Finding(NOW + 30.0, "why", share=0.5, since=NOW - 2.0, in_row=True))
    (text,) = findings.packed(Batch(NOW, incarnation="two", findings=(found,)))
    expected = Finding(NOW + 26.0, "why", share=0.5, since=NOW - 6.0, in_row=True)
    assert read(text) == [BackendFinding("p/a:80", expected)]
    assert read(text, 30.0) == []
    assert read(json.dumps([*json.loads(text), "of a later release"])) == read(text)
    assert read(text, -100.0) == read(text, 0.0), "a clock that was set back makes nothing younger"
    (own,) = findings.packed(Batch(NOW, incarnation="one", findings=(found,)))
    assert read(own) == []


INF, NAN = float("inf"), float("nan")
WRONG: dict[int, tuple[Any, ...]] = {
    0: (7,),
    1: (7,),
    2: (0.0, -1.0, INF, NAN, 1e300, "soon", None),
    3: (INF, NAN, []),
    5: (-0.1, 1.1, NAN, "all"),
    7: (7, None),
}
WHOLE = ("", "{}", "null", "[1]", json.dumps(GOOD[:-1]))


@pytest.mark.parametrize(
    "text",
    [*WHOLE, *(json.dumps([*GOOD[:at], bad, *GOOD[at + 1 :]]) for at, every in WRONG.items() for bad in every)],
)
def test_what_cannot_be_is_not_believed(text: str) -> None:
    assert read(json.dumps(GOOD)) != []
    assert read(text) == []


@pytest.mark.parametrize("age", [None, "old", float("inf"), float("nan")])
def test_nor_is_an_age_that_cannot_be(age: Any) -> None:
    assert read(json.dumps(GOOD), age) == []


def test_a_file_of_a_release_without_findings_gets_them_and_that_release_goes_on_with_it(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    earlier = SqliteStore(path)
    earlier.save(Batch(NOW, incarnation="earlier", sequence=1))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE findings")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    earlier.close()
    store = SqliteStore(path)
    found = BackendFinding("p/a:80", Finding(NOW + 30.0, "why"))
    store.save(Batch(NOW, incarnation="one", sequence=1, findings=(found,)))
    assert [each.backend for each in store.save(Batch(NOW, incarnation="two", sequence=1)).findings] == ["p/a:80"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (version,), "or it would refuse the file"
    store.close()


def test_what_was_found_before_the_machine_started_again_is_over(tmp_path: Path) -> None:
    found = BackendFinding("p/a:80", Finding(NOW + 30.0, "why"))
    before, after = (SqliteStore(tmp_path / "state.sqlite", boot) for boot in ("one boot", "another"))
    before.save(Batch(NOW, incarnation="one", sequence=1, findings=(found,)))
    assert after.save(Batch(NOW, incarnation="two", sequence=1)).findings == ()
    assert before.save(Batch(NOW, incarnation="three", sequence=1)).findings != ()
    after.save(Batch(NOW, incarnation="two", sequence=2, findings=(found,)))
    with closing(sqlite3.connect(tmp_path / "state.sqlite")) as connection:
        assert connection.execute("SELECT boot FROM findings").fetchall() == [("another",)]
    before.close()
    after.close()
