"""A state file that is deleted, overwritten or replaced under gateways is noticed, and nothing of it is lost."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.policy.slo.series import SeriesKey
from gateway.state.sqlite import SqliteStore
from gateway.state.store import Batch, Document, Record, StateError
from tests.state.counts import batch

NOW = 1_700_000_000.0
SERIES = SeriesKey("model", "m", "interactive", "ttft", "4096+")
ONE = SERIES, 1, 0, NOW


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "state.sqlite"


def filled(path: Path) -> SqliteStore:
    store = SqliteStore(path)
    store.lead("me", NOW, 5.0)
    document, record = Document("drained", "gpu/e:2", "true"), Record(NOW, "ann", "drain", "gpu/e:2", "")
    store.save(batch(NOW, ONE, documents=(document,), records=(record,), token=1))
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
    store.save(batch(NOW, ONE))
    assert "the state file was deleted: it is written again with everything that it held" in caplog.text
    store.close()
    assert {each.name for each in path.parent.iterdir()} == {"state.sqlite"}
    assert path.stat().st_mode & 0o777 == 0o600
    again = SqliteStore(path)
    assert counted(again) == {2}
    assert (len(again.load(NOW).documents), len(again.load(NOW).records)) == (1, 1)
    again.close()


def test_two_gateways_that_share_it_go_on_with_one_file(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = filled(path), SqliteStore(path)
    second.save(batch(NOW, ONE))
    path.unlink()
    for store in (second, first, second, first):
        store.save(batch(NOW, ONE))
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
            store.save(batch(NOW, ONE))
    path.parent.unlink()
    store.save(batch(NOW, ONE))
    assert counted(store) == {2}
    assert len(store.load(NOW).documents) == 1
    store.close()


def test_another_file_in_its_place_is_used_from_then_on(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = filled(path)
    other = filled(path.with_name("backup.sqlite"))
    other.save(batch(NOW, ONE))
    other.close()
    path.with_name("backup.sqlite").rename(path)
    for ending in ("-wal", "-shm"):
        path.with_name(f"{path.name}{ending}").unlink()
    store.save(batch(NOW, ONE))
    assert "the state file was replaced: the new one is used" in caplog.text
    assert counted(store) == {3}
    store.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_the_log_of_the_file_before_is_not_mixed_into_another_in_its_place(path: Path) -> None:
    """What was restored was undone, page by page, by what the gateways had written since."""
    first, second = filled(path), SqliteStore(path)
    for _ in range(5):
        first.save(batch(NOW, ONE))
        second.save(batch(NOW, ONE))
    other = SqliteStore(path.with_name("backup.sqlite"))
    other.save(Batch(NOW, documents=(Document("drained", "gpu/restored", "true"),), token=1))
    other.close()
    path.with_name("backup.sqlite").rename(path)
    for store in (first, second, first, second):
        store.save(batch(NOW, ONE))
    assert counted(first) == counted(second) == {4}
    assert [each.name for each in second.load(NOW).documents] == ["gpu/restored"]
    first.close()
    second.close()
    assert [each.name for each in path.parent.iterdir()] == ["state.sqlite"]


def written_over(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def put_in_place(path: Path, content: bytes) -> None:
    path.with_name("new").write_bytes(content)
    path.with_name("new").rename(path)


@pytest.mark.parametrize("content", [b"garbage" * 5000, b"hello\n", b""], ids=["garbage", "short", "empty"])
@pytest.mark.parametrize("harm", [written_over, put_in_place])
def test_one_that_is_overwritten_is_written_anew_with_all_that_it_held(
    path: Path, harm: Callable[[Path, bytes], None], content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Its log hid that it was no database any more, until a restart without the log."""
    first, second = filled(path), SqliteStore(path)
    harm(path, content)
    for store in (first, second, first, second):
        store.save(batch(NOW, ONE))
    assert caplog.text.count("the state file was overwritten: it is written again with everything that it held") == 1
    first.close()
    second.close()
    (aside,) = (each for each in path.parent.glob("*.damaged-*") if not each.name.endswith("-wal"))
    assert aside.read_bytes() == content
    again = SqliteStore(path)
    assert counted(again) == {5}
    assert (len(again.load(NOW).documents), len(again.load(NOW).records)) == (1, 1)
    again.close()
    assert caplog.text.count("damaged: it is put aside") == 0


def test_one_of_which_nothing_can_be_read_any_more_begins_anew_and_goes_on(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(path).close()
    store = SqliteStore(path)
    path.write_bytes(b"garbage" * 5000)
    failed = 0
    for _ in range(5):
        try:
            store.save(batch(NOW, ONE))
        except StateError:
            failed += 1
    assert failed <= 1
    assert max(counted(store)) >= 5 - failed
    assert caplog.text.count("state file") <= 2, "it is told once"
    store.close()
    SqliteStore(path).close()


def test_a_directory_in_its_place_is_said_and_nothing_is_lost(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StateError, match=r"state\.sqlite cannot be opened: it is a directory$"):
        SqliteStore(path)
    path.rmdir()
    store = filled(path)
    path.unlink()
    path.mkdir()
    for _ in range(3):
        with pytest.raises(StateError, match=r"state\.sqlite cannot be written: it is a directory$"):
            store.save(batch(NOW, ONE))
    path.rmdir()
    store.save(batch(NOW, ONE))
    assert counted(store) == {2}
    store.close()


def test_what_is_no_regular_file_is_not_waited_for(path: Path) -> None:
    path.parent.mkdir()
    os.mkfifo(path)
    with pytest.raises(StateError, match="it is no regular file"):
        SqliteStore(path)
