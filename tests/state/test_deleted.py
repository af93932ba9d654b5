"""A state file that is deleted or replaced while gateways have it open is noticed, and nothing of it is lost."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from gateway.policy.slo.series import SeriesKey
from gateway.state.sqlite import SqliteStore
from gateway.state.store import Batch, Delta, Document, Record, StateError

NOW = 1_700_000_000.0
SERIES = SeriesKey("model", "m", "interactive", "ttft", "4096+")
ONE = Batch(NOW, (Delta(SERIES, 1, 0, NOW, NOW),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "state.sqlite"


def filled(path: Path) -> SqliteStore:
    store = SqliteStore(path)
    store.lead("me", NOW, 5.0)
    document, record = Document("drained", "gpu/e:2", "true"), Record(NOW, "ann", "drain", "gpu/e:2", "")
    store.save(Batch(NOW, ONE.deltas, documents=(document,), records=(record,), token=1))
    return store


def counted(store: SqliteStore) -> set[int]:
    return {each.good for each in store.load(NOW).slots}


@pytest.mark.parametrize("also", ["", "with its log", "with its folder"])
def test_it_is_written_anew_with_all_that_it_held(path: Path, also: str, caplog: pytest.LogCaptureFixture) -> None:
    store = filled(path)
    if also == "with its folder":
        shutil.rmtree(path.parent)
    else:
        path.unlink()
    if also == "with its log":
        for ending in ("-wal", "-shm"):
            path.with_name(f"{path.name}{ending}").unlink()
    assert store.lead("me", NOW, 5.0) == 1
    store.save(ONE)
    assert "the state file was deleted: it is written anew with all that it held" in caplog.text
    store.close()
    assert {each.name for each in path.parent.iterdir()} == {"state.sqlite"}
    assert path.stat().st_mode & 0o777 == 0o600
    again = SqliteStore(path)
    assert counted(again) == {2}
    assert (len(again.load(NOW).documents), len(again.load(NOW).records)) == (1, 1)
    again.close()


def test_two_gateways_that_share_it_go_on_with_one_file(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = filled(path), SqliteStore(path)
    second.save(ONE)
    path.unlink()
    for store in (second, first, second, first):
        store.save(ONE)
    assert counted(first) == counted(second) == {6}
    assert "damaged" not in caplog.text
    first.close()
    second.close()
    assert [each.name for each in path.parent.iterdir()] == ["state.sqlite"]


def test_where_it_cannot_be_written_what_is_open_is_kept_until_it_can(path: Path) -> None:
    store = filled(path)
    shutil.rmtree(path.parent)
    path.parent.write_text("no folder")
    for _ in range(3):
        with pytest.raises(StateError, match=r"state\.sqlite cannot be written"):
            store.save(ONE)
    path.parent.unlink()
    store.save(ONE)
    assert counted(store) == {2}
    assert len(store.load(NOW).documents) == 1
    store.close()


def test_another_file_in_its_place_is_used_from_then_on(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = filled(path)
    other = filled(path.with_name("backup.sqlite"))
    other.save(ONE)
    other.close()
    path.with_name("backup.sqlite").rename(path)
    for ending in ("-wal", "-shm"):
        path.with_name(f"{path.name}{ending}").unlink()
    store.save(ONE)
    assert "the state file was replaced: the one that is there is used" in caplog.text
    assert counted(store) == {3}
    store.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
