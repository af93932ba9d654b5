"""One request to a collector: tried again when it may be, within its time, over TLS and compressed as is asked for."""

import gzip
import logging
import ssl
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest

from gateway.telemetry.otlp_client import TRIES, OtlpClient
from gateway.telemetry.otlp_settings import OtlpSettings
from tests.e2e.certificates import sign
from tests.telemetry.collectors import Collector
from tests.waiting import HandClock


class Pauses:
    """Passes the time between tries at once, and remembers it."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.seconds: list[float] = []
        self.stopping = False

    def __call__(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        self.clock.advance(seconds)
        return self.stopping


@contextmanager
def client(
    collector: Collector, pauses: Pauses | None = None, settings: OtlpSettings | None = None
) -> Iterator[OtlpClient]:
    """Run the collector, and connect to it."""
    pauses = pauses or Pauses()
    with collector.running():
        made = OtlpClient(collector.url, settings or OtlpSettings(), pauses, pauses.clock, lambda: 1_790_000_000.0)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_what_is_taken_is_sent_once_on_one_connection() -> None:
    collector = Collector()
    with client(collector, settings=OtlpSettings({"x-key": "k"})) as sending:
        assert [sending.send(b"1", 10.0), sending.send(b"2", 10.0)] == ["", ""]
    assert collector.bodies == [b"1", b"2"]
    assert len(collector.ports) == 1
    head = collector.heads[0]
    assert (head["content-type"], head["x-key"]) == ("application/x-protobuf", "k")
    assert "content-encoding" not in head
    assert head["user-agent"].startswith("tidegate/")


@pytest.mark.parametrize(("compression", "unpack"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_it_is_compressed_where_that_is_asked_for(compression: str, unpack: Callable[[bytes], bytes]) -> None:
    collector = Collector()
    with client(collector, settings=OtlpSettings(compression=compression)) as sending:
        assert sending.send(b"spans" * 1000, 10.0) == ""
    assert unpack(collector.bodies[0]) == b"spans" * 1000
    assert collector.heads[0]["content-encoding"] == compression
    assert len(collector.bodies[0]) < 1000


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_it_is_tried_again_after_the_time_that_the_collector_says(status: int) -> None:
    collector, pauses = Collector((status, {"retry-after": "3"}), (200, {})), Pauses()
    with client(collector, pauses) as sending:
        assert sending.send(b"1", 10.0) == ""
    assert collector.bodies == [b"1", b"1"]
    assert pauses.seconds == [3.0]


@pytest.mark.parametrize(
    ("later", "seconds"),
    [
        (formatdate(1_790_000_004, usegmt=True), 4.0),
        (formatdate(1_780_000_000, usegmt=True), 0.0),
        ("-7", 0.0),
        ("0.5", 0.5),
    ],
)
def test_a_date_and_a_fraction_are_understood(later: str, seconds: float) -> None:
    collector, pauses = Collector((503, {"retry-after": later}), (200, {})), Pauses()
    with client(collector, pauses) as sending:
        assert sending.send(b"1", 10.0) == ""
    assert pauses.seconds == [seconds]


@pytest.mark.parametrize("later", [{}, {"retry-after": "soon"}, {"retry-after": "nan"}])
def test_without_a_time_each_pause_is_twice_as_long(later: dict[str, str]) -> None:
    collector, pauses = Collector((503, later)), Pauses()
    with client(collector, pauses) as sending:
        assert sending.send(b"1", 1000.0) == "status 503"
    assert len(collector.bodies) == TRIES
    assert [round(pause / 2**again, 9) for again, pause in enumerate(pauses.seconds)] == [
        pytest.approx(1.0, abs=0.2) for _ in range(TRIES - 1)
    ]


def test_a_pause_that_would_not_fit_is_not_made() -> None:
    collector, pauses = Collector((429, {"retry-after": "11"})), Pauses()
    with client(collector, pauses) as sending:
        assert sending.send(b"1", 10.0) == "status 429"
    assert (len(collector.bodies), pauses.seconds) == (1, [])


def test_a_stop_ends_the_pause_and_the_tries() -> None:
    collector, pauses = Collector((429, {"retry-after": "1"})), Pauses()
    pauses.stopping = True
    with client(collector, pauses) as sending:
        assert sending.send(b"1", 10.0) == "status 429"
    assert len(collector.bodies) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500, 302])
def test_what_would_fail_again_is_not_tried_again(status: int) -> None:
    collector = Collector((status, {"location": "http://127.0.0.1:9/"}))
    with client(collector) as sending:
        assert sending.send(b"1", 10.0) == f"status {status}"
    assert len(collector.bodies) == 1


def test_a_collector_that_is_down_is_tried_again_and_why_is_told() -> None:
    collector, pauses = Collector(), Pauses()
    with client(collector, pauses) as sending:
        pass
    why = sending.send(b"1", 6.0)
    sending.close()
    assert why == "ConnectError: [Errno 111] Connection refused"
    assert len(pauses.seconds) in {2, 3}, "as chance lengthens them"
    assert sum(pauses.seconds) < 6.0


def test_nothing_secret_is_in_what_is_told() -> None:
    collector, pauses = Collector(), Pauses()
    with client(collector, pauses, OtlpSettings({"authorization": "secret\n"})) as sending:
        assert sending.send(b"1", 10.0) == "LocalProtocolError"
    assert pauses.seconds == []


def test_cookies_are_not_kept() -> None:
    collector = Collector((200, {"set-cookie": "a=b"}))
    with client(collector) as sending:
        assert [sending.send(b"1", 10.0), sending.send(b"2", 10.0)] == ["", ""]
    assert all("cookie" not in head for head in collector.heads)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    sign(folder)
    return folder


@pytest.fixture
def tls(files: Path) -> Collector:
    """A collector that wants its clients to have certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "server.pem", files / "server.key")
    context.load_verify_locations(files / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return Collector(tls=context)


def test_both_sides_show_certificates(files: Path, tls: Collector) -> None:
    ours = OtlpSettings(
        certificate=str(files / "ca.pem"),
        client_certificate=str(files / "client.pem"),
        client_key=str(files / "client.key"),
    )
    with client(tls, settings=ours) as sending:
        assert sending.send(b"1", 10.0) == ""
    assert tls.bodies == [b"1"]


def test_a_collector_of_an_unknown_authority_gets_nothing(tls: Collector) -> None:
    with client(tls) as sending:
        assert "certificate verify failed" in sending.send(b"1", 0.5)
    assert tls.bodies == []


def test_a_certificate_that_is_missing_is_told_and_read_once_it_is_there(files: Path, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "server.pem", files / "server.key")
    roots = tmp_path / "ca.pem"
    with client(Collector(tls=context), settings=OtlpSettings(certificate=str(roots))) as sending:
        words = f"the file or folder of authorities {roots} cannot be used: No such file or directory"
        assert sending.send(b"1", 10.0) == words
        roots.write_bytes((files / "ca.pem").read_bytes())
        assert sending.send(b"1", 10.0) == ""


def test_a_client_certificate_that_cannot_be_used_is_told(files: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.pem").write_text("nonsense")
    ours = OtlpSettings(certificate=str(files / "ca.pem"), client_certificate=str(tmp_path / "mine.pem"))
    with client(Collector(), settings=ours) as sending:
        told = sending.send(b"1", 10.0)
    assert told.startswith(f"the client certificate or key {tmp_path}/mine.pem cannot be used: ")


def test_no_address_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    collector = Collector()
    with caplog.at_level(logging.WARNING), client(collector) as sending:
        assert sending.send(b"1", 10.0) == ""
    assert caplog.records == []
