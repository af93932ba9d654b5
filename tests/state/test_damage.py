"""A state file that is damaged or cannot be written bars no start, and nothing impossible in it is believed."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.policy.slo.series import SeriesKey
from gateway.state.sqlite import SqliteStore
from gateway.state.store import Batch, Document, Ejection, Record, StateError
from tests.state.counts import batch

NOW = 1_700_000_000.0
LOST = {"counts", "ejections", "documents", "records"}


def series(name: str) -> SeriesKey:
    return SeriesKey("model", name, "interactive", "ttft", "")


def everything() -> Batch:
    return batch(
        NOW,
        *((series(f"m{number}"), number, 1, NOW) for number in range(500)),
        ejections=(Ejection("gpu/e:1", NOW - 10, NOW + 20, "five in a row"),),
        documents=(Document("drained", "gpu/e:2", "true"), Document("rollout", "m", json.dumps({"x": "y" * 20_000}))),
        records=tuple(Record(NOW, "ann", "pause", f"rollout {number}", "lunch") for number in range(300)),
        token=7,
    )


def filled(path: Path) -> Path:
    store = SqliteStore(path)
    store.save(everything())
    store.close()
    return path


def flip(path: Path) -> None:
    """Overwrite whole pages in the middle."""
    data = bytearray(path.read_bytes())
    for page in range(4, len(data) // 4096, 3):
        data[page * 4096 : page * 4096 + 2048] = os.urandom(2048)
    path.write_bytes(data)


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 + 100])


def no_database(path: Path) -> None:
    path.write_bytes(b"this is no database" * 500)


def no_tables(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE counts")
    connection.close()


def impossible_version(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {1 << 24}")
    connection.close()


def log_of_another(path: Path) -> None:
    """Another database's log, as after a backup was copied back over a file whose process had been killed."""
    other = path.with_name("other.sqlite")
    connection = sqlite3.connect(other)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (a)")
    connection.executemany("INSERT INTO t VALUES (?)", ((os.urandom(900),) for _ in range(500)))
    connection.commit()
    shutil.copy(f"{other}-wal", f"{path}-wal")
    connection.close()


HARMS: list[Callable[[Path], None]] = [flip, cut, no_database, no_tables, impossible_version, log_of_another]


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_file_is_put_aside_and_what_can_be_read_goes_on(
    tmp_path: Path, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = filled(tmp_path / "state.sqlite")
    harm(path)
    store = SqliteStore(path)
    saved = store.load(NOW)
    (aside,) = (each for each in tmp_path.glob("state.sqlite.damaged-20*") if not each.name.endswith(("-wal", "-shm")))
    (record,) = (record for record in caplog.records if "put aside" in record.message)
    told = vars(record)
    assert str(aside) == told["aside"]
    assert told["lost"]
    if harm in {impossible_version, log_of_another}:
        assert (len(saved.ejections), len(saved.documents), len(saved.records)) == (1, 2, 300)
        assert len({slot.series for slot in saved.slots}) == 500
    assert store.lead("me", NOW, 5.0) == 1
    store.save(batch(NOW + 1, (series("m"), 1, 0, NOW), documents=(Document("rollout", "m", "1"),), token=1))
    assert Document("rollout", "m", "1") in store.load(NOW + 1).documents, "an older token does not fence it off"
    store.close()
    assert not caplog.text.count("put aside") > 1


def test_a_file_that_is_damaged_while_it_serves_is_put_aside_and_the_batch_is_saved_later(tmp_path: Path) -> None:
    path = filled(tmp_path / "state.sqlite")
    store = SqliteStore(path)
    store.load(NOW)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(os.urandom(4096))
    failed = 0
    for turn in range(5):
        try:
            store.save(batch(NOW + turn, *((series(f"n{n}"), 1, 0, NOW) for n in range(300))))
            break
        except StateError:
            failed += 1
    assert failed <= 1
    assert "n7" in {slot.series.name for slot in store.load(NOW + 5).slots}
    store.close()


def test_two_processes_put_one_file_aside_once(tmp_path: Path) -> None:
    path = filled(tmp_path / "state.sqlite")
    first, second = SqliteStore(path), SqliteStore(path)
    no_database(path)
    for store in (first, second, first, second):
        try:
            store.save(batch(NOW, (series("m"), 1, 0, NOW)))
        except StateError:
            continue
    first.save(batch(NOW, (series("m"), 1, 0, NOW)))
    second.save(batch(NOW, (series("m"), 1, 0, NOW)))
    assert len([each for each in tmp_path.glob("*.damaged-*") if not each.name.endswith(("-wal", "-shm"))]) == 1
    assert max(slot.good for slot in first.load(NOW).slots) >= 2
    first.close()
    second.close()


def test_random_damage_never_bars_the_start(tmp_path: Path) -> None:
    whole = filled(tmp_path / "whole.sqlite").read_bytes()
    for seed in range(60):
        rng = Random(seed)
        path = tmp_path / f"{seed}" / "state.sqlite"
        path.parent.mkdir()
        data = bytearray(whole)
        for _ in range(rng.choice((1, 3, 30, 300))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        path.write_bytes(data)
        store = SqliteStore(path)
        store.load(NOW)
        store.lead("me", NOW, 5.0)
        store.save(batch(NOW + 1, (series("new"), 1, 0, NOW)))
        assert "new" in {slot.series.name for slot in store.load(NOW + 1).slots}
        store.close()


class TestFilesThatCannotBeWritten:
    @pytest.fixture(params=["read-only", "out of reach"])
    def held(self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A file on a file system that takes nothing, as SQLite tells of it (tests may run as root)."""
        path = filled(tmp_path / "state.sqlite")
        real = sqlite3.connect

        def connect(database: Any, **more: Any) -> sqlite3.Connection:
            if "immutable" in str(database) or database == ":memory:" or not (tmp_path / "full").exists():
                connection: sqlite3.Connection = real(database, **more)
                return connection
            if request.param == "read-only":
                return real(f"{path.as_uri()}?mode=ro", uri=True, check_same_thread=False)
            return real(tmp_path)

        monkeypatch.setattr("gateway.state.sqlite.sqlite3.connect", connect)
        (tmp_path / "full").touch()
        return path

    def test_it_is_read_and_tried_again(self, held: Path) -> None:
        store = SqliteStore(held)
        assert len(store.load(NOW).documents) == 2
        for _ in range(2):
            with pytest.raises(StateError):
                store.lead("me", NOW, 5.0)
            with pytest.raises(StateError):
                store.save(batch(NOW, (series("new"), 1, 0, NOW)))
        assert not list(held.parent.glob("*.damaged-*"))
        (held.parent / "full").unlink()
        store.save(batch(NOW + 1, (series("new"), 1, 0, NOW)))
        assert "new" in {slot.series.name for slot in store.load(NOW + 1).slots}
        store.close()


class TestLeases:
    @pytest.mark.parametrize("wrong", [3600.0, 86_400.0, float("inf"), float("nan"), "x", b"\xff", None, -1.0])
    def test_one_that_cannot_be_is_not_waited_for(self, tmp_path: Path, wrong: object) -> None:
        store = SqliteStore(tmp_path / "state.sqlite")
        with sqlite3.connect(tmp_path / "state.sqlite") as connection:
            until = NOW + wrong if isinstance(wrong, float) else wrong
            connection.execute("INSERT INTO lease VALUES ('gone', 3, ?)", (until,))
        connection.close()
        led = [store.lead("me", NOW + second, 5.0) for second in range(8)]
        assert led[-1] == 4, "after a lease's length at most"
        store.close()

    def test_one_whose_owner_renews_it_holds_however_wrong_that_ones_clock_is(self, tmp_path: Path) -> None:
        path = tmp_path / "state.sqlite"
        owner, other = SqliteStore(path), SqliteStore(path)
        for second in range(30):
            assert owner.lead("owner", NOW + 3600 + second, 5.0) == 1
            assert other.lead("other", NOW + second, 5.0) == 0
        for second in range(30, 40):
            led = other.lead("other", NOW + second, 5.0)
        assert led == 2
        owner.close()
        other.close()

    @pytest.mark.parametrize("token", ["x", -5, 1 << 60, None, 2.5])
    def test_a_token_that_is_none_begins_anew_and_fences_nobody_off(self, tmp_path: Path, token: object) -> None:
        store = SqliteStore(tmp_path / "state.sqlite")
        store.save(Batch(NOW, documents=(Document("rollout", "m", "old"),), token=9))
        with sqlite3.connect(tmp_path / "state.sqlite") as connection:
            connection.execute("INSERT INTO lease VALUES ('gone', ?, 0)", (token,))
        connection.close()
        led = store.lead("me", NOW, 5.0)
        store.save(Batch(NOW, documents=(Document("rollout", "m", "new"),), token=led))
        assert store.load(NOW).documents == (Document("rollout", "m", "new"),)
        assert store.lead("me", NOW, 5.0) == led
        store.close()


values = st.one_of(
    st.none(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(),
    st.sampled_from([NOW, NOW - 3600, NOW + 3600, NOW - 86_400, NOW + 86_400, 0.0, -1.0]),
    st.text(max_size=5),
    st.binary(max_size=5),
)


@given(st.lists(st.lists(values, min_size=11, max_size=11), max_size=8))
@example([[None, None, None, None, None, 850071684888251, None, None, None, None, None]])
@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
def test_any_rows_are_read_and_only_what_can_be_is_believed(tmp_path: Path, rows: list[list[object]]) -> None:
    path = tmp_path / "state.sqlite"
    for each in tmp_path.iterdir():
        each.unlink()
    store = SqliteStore(path)
    with store._connection as connection:  # noqa: SLF001 - the database itself
        for row in rows:
            key = ["model", *("" if each is None else each for each in row[:4])]
            numbers = [0 if each is None else each for each in row[5:11]]
            connection.execute(
                "INSERT OR IGNORE INTO counts VALUES (?, ?, ?, ?, ?, 60, ?, '', ?, ?, ?, ?)", [*key, *numbers[:5]]
            )
            connection.execute("INSERT INTO ejections VALUES (?, ?, ?, ?)", row[:4])
            connection.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?)", row[4:9])
    saved = store.load(NOW)
    for slot in saved.slots:
        begins = slot.slot * slot.width
        assert begins <= slot.first <= slot.last <= begins + slot.width
    assert all(0 <= record.at <= NOW for record in saved.records)
    assert all(ejection.at == ejection.at and ejection.until == ejection.until for ejection in saved.ejections)
    store.close()


def test_damage_in_the_name_of_a_table_is_damage_like_any_other(tmp_path: Path) -> None:
    path = filled(tmp_path / "state.sqlite")
    data = path.read_bytes()
    assert data.count(b"tableejectionsejections") == 1
    at = data.index(b"tableejectionsejections")
    create = data.index(b"CREATE", at)
    path.write_bytes(data[:at] + b"tableeje\xc7tions" + data[at + 14 : create] + b"CR\xc7ATE" + data[create + 6 :])
    store = SqliteStore(path)
    store.save(everything())
    assert len(store.load(NOW).ejections) >= 1
    store.close()
