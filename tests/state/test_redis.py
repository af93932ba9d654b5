"""What is of Redis alone: its URLs, how it has to be set up, and what is said when it fails."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.state.fleet_counts import FleetCounts
from gateway.state.redis_client import redacted
from gateway.state.redis_store import RedisStore
from gateway.state.store import Batch, Saved, StateError, UnusableState
from gateway.state.url import loaded, open_store
from loadtest.bench.peers import free_port
from loadtest.store_faults.link import in_thread
from tests.e2e.certificates import sign
from tests.redis_server import RedisServer, redis_server
from tests.state.counts import slots
from tests.state.test_contract import M
from tests.waiting import until

ROOT = Path(__file__).parents[2]
NOW = float(int(time.time()))
BATCH = Batch(NOW, slots(M, 1, 0, NOW), incarnation="one", sequence=1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as started:
        yield started


@pytest.fixture
def store(server: RedisServer) -> Iterator[RedisStore]:
    opened = RedisStore(server.url)
    yield opened
    opened.close()


def counts(store: Any) -> int:
    return sum(each.good for each in store.load(NOW).slots if each.width == 60.0)


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("redis://me:secret@h:1/0?prefix=x", "redis://me@h:1/0"),
            ("rediss://:secret@h:1/0", "rediss://h:1/0"),
            ("redis+sentinel://:secret@a,b:2/primary/0", "redis+sentinel://a,b:2/primary/0"),
            ("redis+unix://me:secret@/run/s?db=0", "redis+unix://me@/run/s"),
            ("redis://:sec/r#t@h:1/0", "redis://h:1/0"),
        ],
    )
    def test_a_password_is_never_shown(self, url: str, shown: str) -> None:
        assert redacted(url) == shown

    @pytest.mark.parametrize(
        "url", ["redis://h:x/0", "redis://[h/0", "redis+sentinel://h:26379", "redis://h?prefix={a}"]
    )
    def test_one_that_cannot_be_is_refused(self, url: str) -> None:
        with pytest.raises(StateError, match=r"is no URL of Redis"):
            open_store(url)

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("redis://h:1/0?prefx=a", r"`prefx` is not an option; known options: client_name, .*prefix"),
            ("redis://h:1/zero", "the path ends with the number of a database, such as /0"),
            ("redis+cluster://h:1/zero", "the path ends with the number of a database"),
            ("redis+sentinel://h:1/primary/zero", "the path ends with the number of a database"),
            ("redis://h:1?ssl_ca_certs=a", "`ssl_ca_certs` needs TLS: begin with rediss://"),
            ("valkey+sentinel://h:1/p?ssl_ca_certs=a", r"needs TLS: begin with valkeys\+sentinel://"),
            ("redis+unix:///s?ssl_ca_certs=a", "`ssl_ca_certs` needs TLS$"),
            ("redis://h:1?db=zero", "Invalid value for 'db'"),
            *((f"redis://:{each}@h:1/0", "write / as %2F") for each in ("sec/ret", "123/secret", "1?secret=2", "s#x")),
        ],
    )
    def test_one_that_would_fail_later_is_refused_with_what_to_write(self, url: str, words: str) -> None:
        with pytest.raises(UnusableState, match=words) as refused:
            open_store(url)
        assert "sec" not in str(refused.value)

    @pytest.mark.parametrize("tail", ["", "/", "/3", "?db=3&socket_timeout=2&client_name=a", "/?prefix=b"])
    def test_what_the_documentation_allows_is_not_refused(self, server: RedisServer, tail: str) -> None:
        store = open_store(f"redis://:@127.0.0.1:{server.port}{tail}")
        store.save(BATCH)
        assert counts(store) == 1
        store.close()

    @pytest.mark.parametrize("scheme", ["redis", "valkey"])
    def test_one_server_by_either_name(self, server: RedisServer, scheme: str) -> None:
        store = open_store(server.url.replace("redis", scheme, 1))
        store.save(BATCH)
        assert repr(store) == f"<RedisStore {scheme}://127.0.0.1:{server.port}/0>"
        assert counts(store) == 1
        store.close()

    def test_two_prefixes_are_two_stores(self, server: RedisServer) -> None:
        one, two = open_store(f"{server.url}?prefix=one"), open_store(f"{server.url}?prefix=two")
        one.save(BATCH)
        assert (counts(one), counts(two)) == (1, 0)
        assert all(key.startswith("{one}") for key in server.client().scan_iter("*rows*"))
        one.close()
        two.close()

    def test_a_socket(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        with redis_server(tmp_path / "redis", "--unixsocket", str(path)):
            store = open_store(f"redis+unix://{path}?db=1")
            store.save(BATCH)
            assert counts(store) == 1
            store.close()

    def test_tls(self, tmp_path: Path) -> None:
        sign(tmp_path, names=("server",))
        port, files = free_port(), {name: tmp_path / f"server.{name}" for name in ("pem", "key")}
        tls = ("--tls-port", str(port), "--tls-cert-file", str(files["pem"]), "--tls-key-file", str(files["key"]))
        authority = tmp_path / "ca.pem"
        known = ("--tls-ca-cert-file", str(authority), "--tls-auth-clients", "no")
        with redis_server(tmp_path / "redis", *tls, *known):
            store = open_store(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority}")
            store.save(BATCH)
            assert counts(store) == 1
            store.close()
            unknown = open_store(f"rediss://127.0.0.1:{port}/0")
            with pytest.raises(StateError, match="cannot be reached"):
                unknown.save(BATCH)
            unknown.close()

    def test_a_cluster(self, tmp_path: Path) -> None:
        with redis_server(tmp_path / "redis", "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as server:
            server.client().execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            until(lambda: server.client().execute_command("CLUSTER INFO")["cluster_state"] == "ok", "the cluster")
            store = open_store(f"redis+cluster://127.0.0.1:{server.port}")
            assert store.lead("one", NOW, 5.0) == 1
            store.save(BATCH)
            assert counts(store) == 1
            assert abs(store.ahead(store.wall())) < 60.0
            store.close()

    def test_behind_a_sentinel(self, server: RedisServer, tmp_path: Path) -> None:
        configuration = tmp_path / "sentinel.conf"
        configuration.write_text(f"sentinel monitor primary 127.0.0.1 {server.port} 1\n")
        with redis_server(tmp_path / "sentinel", before=(str(configuration), "--sentinel")) as sentinel:
            store = open_store(f"redis+sentinel://127.0.0.1:{sentinel.port}/primary/0")
            store.save(BATCH)
            assert counts(store) == 1
            store.close()


class TestSetUp:
    def test_a_server_that_drops_keys_is_refused_with_what_to_do(self, server: RedisServer, store: RedisStore) -> None:
        server.client().config_set("maxmemory-policy", "allkeys-lru")
        for call in (lambda: store.load(NOW), lambda: store.lead("me", NOW, 5.0), lambda: store.save(BATCH)):
            with pytest.raises(UnusableState, match="run `CONFIG SET maxmemory-policy noeviction`"):
                call()
        with pytest.raises(UnusableState):
            loaded(store, NOW)
        server.client().config_set("maxmemory-policy", "noeviction")
        store.save(BATCH)
        assert counts(store) == 1

    def test_a_wrong_password_is_no_outage(self, server: RedisServer) -> None:
        server.client().config_set("requirepass", "right")
        store = RedisStore(server.url.replace("//", "//:wrong@"))
        with pytest.raises(UnusableState, match="refuses the user name or password"):
            loaded(store, NOW)
        store.close()
        without = RedisStore(server.url)
        with pytest.raises(UnusableState, match=r"password of the URL \(//USER:PASSWORD@HOST\)$"):
            loaded(without, NOW)
        without.close()

    def test_the_rights_that_the_documentation_names_are_enough(self, server: RedisServer) -> None:
        rights = "~{tidegate}* +@read +@write +@scripting +time +info +ping"
        assert rights in (ROOT / "docs/fleet.md").read_text()
        server.client().execute_command(f"ACL SETUSER gateway reset on >secret {rights}")
        store = RedisStore(server.url.replace("//", "//gateway:secret@"))
        token = store.lead("one", NOW, 5.0)
        store.save(BATCH)
        assert (token, counts(store), store.settle("one", token, NOW)) == (1, 1, 0)
        store.resign("one")
        store.close()

    def test_scripts_that_are_forbidden_are_named(self, server: RedisServer, store: RedisStore) -> None:
        server.client().execute_command("ACL SETUSER default -@scripting")
        with pytest.raises(StateError, match="allow this user EVAL"):
            store.save(BATCH)
        assert loaded(store, NOW) == Saved()
        server.client().execute_command("ACL SETUSER default +@scripting")
        store.save(BATCH)
        server.client().script_flush()
        assert counts(store) == 1


class TestOutages:
    def test_one_that_is_away_is_done_without_until_it_is_back(self, server: RedisServer, store: RedisStore) -> None:
        server.stop()
        with pytest.raises(StateError, match=r"cannot be reached \(Connection refused\)$"):
            store.save(BATCH)
        assert loaded(store, NOW) == Saved()
        assert abs(store.wall() - time.time()) < 60.0
        server.start()
        store.save(BATCH)
        assert counts(store) == 1

    def test_a_process_learns_how_far_its_time_is_from_the_servers_once_that_is_told(
        self, server: RedisServer, store: RedisStore
    ) -> None:
        server.client().execute_command("ACL SETUSER default -time")
        assert abs(store.wall() - time.time()) < 60.0
        counts = FleetCounts(store)
        with pytest.raises(StateError, match="allow this user EVAL"):
            counts.save(BATCH)
        server.client().execute_command("ACL SETUSER default +time")
        assert store.ahead(time.time() + 3600.0) == pytest.approx(3600.0, abs=30.0)
        assert counts.save(Batch(time.time() - 3600.0, slots(M, 1, 0, NOW))).saved
        assert counts.ahead == pytest.approx(-3600.0, abs=30.0)

    def test_one_that_is_silent_holds_a_call_up_for_a_second(self, server: RedisServer, store: RedisStore) -> None:
        store.save(BATCH)
        server.pause()
        with pytest.raises(StateError, match="does not answer in time"):
            store.save(Batch(NOW, slots(M, 2, 0, NOW), incarnation="one", sequence=2))
        server.go_on()
        store.save(Batch(NOW, slots(M, 3, 0, NOW), incarnation="one", sequence=3))
        until(lambda: counts(store) == 3, "what was saved last")

    def test_one_whose_every_answer_is_late_is_waited_for(
        self, server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.state.redis_client.TIMEOUT", 0.05)
        with in_thread(server.port) as link:
            store = RedisStore(link.url)
            link.delay = 0.2

            def is_saved() -> bool:
                with suppress(StateError):
                    store.save(BATCH)
                    return True
                return False

            until(is_saved, "a save that takes longer")
            assert counts(RedisStore(server.url)) == 1
            link.delay = 0.0
            store.save(Batch(NOW, slots(M, 2, 0, NOW), incarnation="one", sequence=2))
            store.close()

    def test_one_that_is_full_says_what_to_do(self, server: RedisServer, store: RedisStore) -> None:
        store.save(BATCH)
        server.client().config_set("maxmemory", "1")
        with pytest.raises(StateError, match="raise its maxmemory"):
            store.save(Batch(NOW, slots(M, 2, 0, NOW), incarnation="one", sequence=2))


def test_keys_expire_and_none_is_without_an_end_but_the_few_that_stay(server: RedisServer, store: RedisStore) -> None:
    store.save(BATCH)
    client = server.client()
    forever = {key for key in client.scan_iter() if client.ttl(key) == -1}
    assert forever == {"{tidegate}:store", "{tidegate}:incarnations", "{tidegate}:changes"}
