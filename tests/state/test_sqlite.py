"""What is saved is there again: after a restart, beside another process, and whatever ended the last one."""

import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.policy.slo.burn import Counts
from gateway.policy.slo.series import SeriesKey, SlotCounts
from gateway.policy.slo.time_in_use import HOUR
from gateway.policy.slo.windows import FINE, LASTING, Windows
from gateway.state.damage import networked
from gateway.state.sqlite import SqliteStore
from gateway.state.store import Batch, Document, Ejection, MemoryStore, Record, Response, Saved, StateError
from gateway.state.url import default_url, open_store, opened
from tests.state.counts import batch, slots

NOW = 1_700_000_000.0


def series(name: str) -> SeriesKey:
    return SeriesKey("model", name, "interactive", "ttft", "4096+")


def totals(saved: Saved) -> Counter[tuple[str, float, int]]:
    """Good and bad in one number, by name, width and slot."""
    return Counter({(each.series.name, each.width, each.slot): each.good + 1000 * each.bad for each in saved.slots})


batches = st.lists(
    st.tuples(st.integers(0, 7000), st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 9), st.booleans()),
    max_size=25,
)


@given(batches)
@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
def test_two_stores_on_one_file_add_up_over_restarts(
    tmp_path: Path, steps: list[tuple[int, str, int, int, bool]]
) -> None:
    path = tmp_path / "state.sqlite"
    for each in tmp_path.iterdir():
        each.unlink()
    expected: Counter[tuple[str, float, int]] = Counter()
    stores = [SqliteStore(path), SqliteStore(path)]
    for after, name, good, bad, restart in steps:
        at = NOW + after
        stores[after % 2].save(batch(at, (series(name), good, bad, at)))
        for width in LASTING:
            expected[name, width, int(at // width)] += good + 1000 * bad
        if restart:
            stores[after % 2].close()
            stores[after % 2] = SqliteStore(path)
    held = {key: count for key, count in expected.items() if key[1] > FINE or (key[2] + 1) * FINE > NOW + 7000 - 302}
    assert +totals(stores[0].load(NOW + 7000)) == +Counter(held)
    for store in stores:
        store.close()


def test_a_process_writes_all_that_it_counted_and_another_one_adds_to_it(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.sqlite")
    for good in (1, 2, 2):
        store.save(Batch(NOW, slots(series("m"), good, 1, NOW + good), incarnation="one"))
    assert {(each.good, each.bad) for each in store.load(NOW).slots if each.width > FINE} == {(2, 1)}
    store.save(Batch(NOW, slots(series("m"), 5, 0, NOW + 1), incarnation="two"))
    assert {(each.good, each.bad) for each in store.load(NOW).slots if each.width > FINE} == {(7, 1)}
    assert {(each.first, each.last) for each in store.load(NOW).slots if each.width > FINE} == {(NOW + 1, NOW + 2)}
    store.close()


def test_what_ended_processes_counted_in_one_slot_becomes_one_row(tmp_path: Path) -> None:
    """A gateway that crashes each few seconds, for weeks, must not fill the file."""
    store = SqliteStore(tmp_path / "state.sqlite")
    for process in range(20):
        store.save(Batch(NOW + process, slots(series("m"), 3, 1, NOW + process), incarnation=f"process {process}"))
    rows = "SELECT incarnation, good, bad FROM counts WHERE width = 10800"
    assert len(store._connection.execute(rows).fetchall()) == 20  # noqa: SLF001 - the database itself
    store._connection.execute("UPDATE counts SET good = 'x' WHERE incarnation = 'process 0'")  # noqa: SLF001 - the database itself
    store.save(Batch(NOW + 5 * HOUR, slots(series("m"), 7, 7, NOW), incarnation="process 19"))
    store.save(Batch(NOW + 6 * HOUR, slots(series("m"), 8, 8, NOW), incarnation="process 19"))
    settled = [("", 18 * 3, 18), ("process 0", "x", 1), ("process 19", 8, 8)]
    assert sorted(store._connection.execute(rows)) == settled  # noqa: SLF001 - the database itself
    assert {(each.good, each.bad) for each in store.load(NOW + 6 * HOUR).slots} == {(18 * 3 + 8, 18 + 8)}
    store.save(Batch(NOW + 7 * HOUR, incarnation="another"))
    assert sorted(store._connection.execute(rows)) == [("", 18 * 3 + 8, 18 + 8), ("process 0", "x", 1)]  # noqa: SLF001 - the database itself
    store.close()


def test_what_no_window_holds_any_more_is_neither_given_back_nor_kept(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.sqlite")
    store.save(batch(NOW, (series("m"), 1, 0, NOW), ejections=(Ejection("gpu/a", NOW, NOW + 30, "five in a row"),)))
    assert {each.width for each in store.load(NOW + 60).slots} == set(LASTING)
    assert {each.width for each in store.load(NOW + 3600).slots} == {60, 720, 10_800}
    assert {each.width for each in store.load(NOW + 3 * 3600).slots} == {720, 10_800}
    assert store.load(NOW + 3600).ejections == (Ejection("gpu/a", NOW, NOW + 30, "five in a row"),)
    store.save(Batch(NOW + 100 * 86_400))
    assert store.load(NOW) == Saved()
    store.close()


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.sqlite"
    SqliteStore(path).close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_network_file_system_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"disk / ext4 rw 0 0\nserver:/x {tmp_path}/far nfs4 rw 0 0\ndisk {tmp_path}/far/near xfs rw 0 0\n"
    )
    assert networked(tmp_path / "far" / "state.sqlite", mounts) == "nfs4"
    assert networked(tmp_path / "far" / "near" / "state.sqlite", mounts) == networked(tmp_path, mounts) == ""
    assert networked(tmp_path, tmp_path / "none") == ""
    monkeypatch.setattr("gateway.state.sqlite.networked", lambda _: "nfs4")
    with pytest.raises(StateError, match=r"network file system \(nfs4\).*redis://"):
        SqliteStore(tmp_path / "state.sqlite")


KILLED = """
import sys
from pathlib import Path
from gateway.state.sqlite import SqliteStore
from gateway.policy.slo.series import SeriesKey, SlotCounts
from gateway.policy.slo.windows import LASTING
from gateway.state.store import Batch
store = SqliteStore(Path(sys.argv[1]))
for number in range(1, 100_000):
    at = 1_700_000_000.0
    key = SeriesKey("model", "m", "o", "ttft")
    counts = tuple(SlotCounts(key, width, int(at // width), number, 0, at, at) for width in LASTING)
    store.save(Batch(at, counts, incarnation="killed"))
    print(number, flush=True)
"""


def test_nothing_that_was_committed_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        told = [child.stdout.readline() for _ in range(50)]
        child.send_signal(signal.SIGKILL)
        told += child.stdout.readlines()
    committed = int(told[-1])
    store = SqliteStore(path)
    for slot in store.load(NOW).slots:
        assert committed <= slot.good <= committed + 1
    store.close()


def test_a_full_disk_is_told_and_the_batch_is_all_or_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.sqlite")
    store.save(batch(NOW, (series("m"), 1, 0, NOW)))
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()  # noqa: SLF001 - the database itself
    store._connection.execute(f"PRAGMA max_page_count = {pages}")  # noqa: SLF001 - the database itself
    many = batch(NOW, *((series(f"m{number}"), 1, 0, NOW) for number in range(1000)))
    with pytest.raises(StateError, match="cannot be written: database or disk is full"):
        store.save(many)
    assert {slot.series.name for slot in store.load(NOW).slots} == {"m"}
    store._connection.execute("PRAGMA max_page_count = 100000")  # noqa: SLF001 - the database itself
    store.save(many)
    assert len({slot.series.name for slot in store.load(NOW).slots}) == 1001
    store.close()


def test_a_damaged_file_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "state.sqlite"
    path.write_bytes(b"this is no database" * 500)
    store = SqliteStore(path)
    assert store.load(NOW) == Saved()
    assert "put aside" in caplog.text
    (aside,) = tmp_path.glob("state.sqlite.damaged-*")
    assert aside.read_bytes().startswith(b"this is no database")
    store.close()


def test_a_file_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    SqliteStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StateError, match="newer release"):
        SqliteStore(path)


class TestUrls:
    def test_a_url_names_its_store(self, tmp_path: Path) -> None:
        assert isinstance(open_store("memory://"), MemoryStore)
        store = open_store(f"sqlite:///{tmp_path}/state.sqlite")
        assert repr(store) == f"<SqliteStore {tmp_path}/state.sqlite>"
        store.close()

    @pytest.mark.parametrize("url", ["", "sqlite://", "sqlite:///", "redis://", "/var/lib/state"])
    def test_anything_else_is_refused_with_what_would_be_right(self, url: str) -> None:
        with pytest.raises(StateError, match="write sqlite:///path/to/file, or memory://"):
            open_store(url)

    def test_a_file_that_cannot_be_is_told_when_it_was_asked_for(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StateError, match=rf"cannot be opened: {tmp_path}/file: (File exists|Not a directory)$"):
            opened(f"sqlite:///{tmp_path}/file/state.sqlite")

    def test_the_default_one_is_done_without(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        (tmp_path / "file").write_text("")
        assert isinstance(opened(None, {"XDG_STATE_HOME": str(tmp_path / "file")}), MemoryStore)
        assert "state is lost when this process ends" in caplog.text

    @pytest.mark.parametrize(
        ("environ", "path"),
        [
            ({"HOME": "/home/u"}, "/home/u/.local/state/tidegate/state.sqlite"),
            ({"HOME": "/home/u", "XDG_STATE_HOME": "/s"}, "/s/tidegate/state.sqlite"),
            ({"HOME": "/home/u", "STATE_DIRECTORY": "/var/lib/tidegate:/x"}, "/var/lib/tidegate/state.sqlite"),
        ],
    )
    def test_the_default_is_the_users_own_folder(self, environ: dict[str, str], path: str) -> None:
        assert default_url(environ) == f"sqlite:///{path}"


def test_documents_are_the_latest_and_records_are_all(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    store = SqliteStore(path)
    first, second = Record(NOW, "ann", "pause", "rollout of m", "lunch"), Record(NOW + 1, "bob", "resume", "m", "")
    store.save(Batch(NOW, documents=(Document("rollout", "m", "1"),), records=(first,), token=1))
    store.save(Batch(NOW + 1, documents=(Document("rollout", "m", "2"),), records=(second,), token=1))
    store.close()
    saved = SqliteStore(path).load(NOW + 2)
    assert saved.documents == (Document("rollout", "m", "2"),)
    assert saved.records == (first, second)
    later = SqliteStore(path)
    later.save(Batch(NOW + 91 * 86_400))
    assert later.load(NOW + 91 * 86_400).records == ()


def test_of_responses_the_latest_of_a_day_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    store = SqliteStore(path)
    many = tuple(Response(NOW, f"{number:x}", "gpu/e:1", "m", "v1", "acme", '"m"') for number in range(10_010))
    store.save(Batch(NOW, responses=many))
    assert store.load(NOW + 1).responses == many[-10_000:]
    store.save(Batch(NOW + 601.0))
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM responses").fetchone() == (10_000,)
    connection.close()
    assert store.load(NOW + 86_401.0).responses == ()
    store.save(Batch(NOW + 86_401.0))
    assert store.load(NOW + 1).responses == ()
    store.close()


def test_one_owner_leads_at_a_time_and_its_token_fences_off_whoever_led_before(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    old, new = SqliteStore(path), SqliteStore(path)
    assert old.lead("old", NOW, 5.0) == 1
    assert new.lead("new", NOW + 4.9, 5.0) == 0
    assert old.lead("old", NOW + 4.9, 5.0) == 1, "renewed"
    assert new.lead("new", NOW + 10.0, 5.0) == 2
    new.save(Batch(NOW, documents=(Document("rollout", "m", "new"),), token=2))
    old.save(Batch(NOW, documents=(Document("rollout", "m", "old"),), token=1))
    assert new.load(NOW).documents == (Document("rollout", "m", "new"),)
    assert old.lead("old", NOW + 11.0, 5.0) == 0
    old.resign("old")
    new.resign("new")
    assert old.lead("old", NOW + 11.0, 5.0) == 3
    assert MemoryStore().lead("any", NOW, 5.0) == 1


def test_a_file_of_the_first_version_gains_what_came_since(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    SqliteStore(path).close()
    with sqlite3.connect(path) as connection:
        for table in ("documents", "records", "lease", "counts"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute(
            "CREATE TABLE counts (kind TEXT, name TEXT, sli TEXT, width INTEGER, slot INTEGER, good INTEGER, "
            "bad INTEGER, PRIMARY KEY (kind, name, sli, width, slot)) WITHOUT ROWID"
        )
        connection.execute("INSERT INTO counts VALUES ('model', 'm', 'ttft', 60, ?, 5, 2)", (int(NOW // 60),))
        connection.execute("INSERT INTO ejections VALUES ('gpu/e:1', ?, ?, 'why')", (NOW, NOW + 30))
        connection.execute("PRAGMA user_version = 1")
    store = SqliteStore(path)
    assert store.lead("me", NOW, 5.0) == 1
    saved = store.load(NOW + 1)
    assert (len(saved.ejections), saved.documents) == (1, ())
    at = int(NOW // 60)
    assert saved.slots == (SlotCounts(SeriesKey("model", "m", "", "ttft"), 60, at, 5, 2, 60.0 * at, 60.0 * at + 60),)
    store.save(batch(NOW + 1, (series("m"), 1, 0, NOW)))
    assert len(store.load(NOW + 1).slots) == 1 + len(LASTING)
    store.close()


def test_a_file_of_the_release_before_is_read_whole(tmp_path: Path) -> None:
    """`version_2.sql` is the dump of a file that the release before issue 12 wrote over two hours."""
    path = tmp_path / "state.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript((Path(__file__).parent / "version_2.sql").read_text())
    store = SqliteStore(path)
    saved = store.load(NOW)
    of_model = [each for each in saved.slots if each.series == SeriesKey("model", "m", "", "availability")]
    assert sum(each.bad for each in of_model if each.width == 720) == 120
    assert all(each.first == each.slot * each.width < each.last for each in of_model)
    assert (len(saved.ejections), len(saved.documents), len(saved.records)) == (1, 1, 1)
    windows = Windows(NOW)
    for width in LASTING:
        windows.restore(
            width, {each.slot: (each.good, each.bad, each.first, each.last) for each in of_model if each.width == width}
        )
    assert windows.count(3600.0) == Counts(531, 59)
    assert windows.weight(3600.0) > 0.95
    assert windows.weight(6 * 3600.0) == pytest.approx(1 / 3, abs=0.05)
    store.close()
