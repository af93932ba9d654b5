"""Collectors of traces that take what they are sent in a thread, and answer as a test says."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event

from loadtest.bench.collector import serving

Answer = tuple[int, dict[str, str]]


class Collector:
    """Answers as it is told, the last way for good, or not at all while it runs.

    `bodies` and `heads` are what came, `ports` from where.
    """

    def __init__(self, *answers: Answer, tls: ssl.SSLContext | None = None, silent: bool = False) -> None:
        self._over = Event()
        self.answers = list(answers) or [(200, {})]
        self.bodies: list[bytes] = []
        self.heads: list[dict[str, str]] = []
        self.ports: set[int] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                collector.ports.add(self.client_address[1])
                collector.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                collector.heads.append({name.lower(): value for name, value in self.headers.items()})
                if silent:
                    collector._over.wait()
                    self.close_connection = True
                    return
                answers = collector.answers
                status, fields = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(status)
                for name, value in ({"content-length": "0"} | fields).items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self._server.server_port}/v1/traces"

    @contextmanager
    def running(self) -> Iterator["Collector"]:
        with serving(self._server, poll=0.01):
            try:
                yield self
            finally:
                self._over.set()
