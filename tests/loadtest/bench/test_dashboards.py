"""Dashboards that are open while a gateway is measured: they read on, ask again, and leave."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from loadtest.bench import peers
from loadtest.bench.collector import serving
from loadtest.bench.dashboards import open_dashboards
from tests.waiting import until


class Streams(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"data: {}\n\n" * 2)

    def log_message(self, *_: object) -> None:
        pass


def test_they_count_events_and_ask_again_for_a_stream_that_has_ended() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Streams)
    with serving(server, 0.01), open_dashboards(server.server_port, 3) as opened:
        until(lambda: all(each.events > 2 for each in opened), "a second stream for each")


def test_only_tidegate_has_an_admin_listener_to_open_them_at() -> None:
    assert peers.admin_port(["nginx", "-c", "nginx.conf"]) is None
    assert peers.admin_port(["tidegate", "serve", "routes.yaml", "--admin-port", "9000"]) == 9000
    with open_dashboards(None, 10) as opened:
        assert opened == ()
