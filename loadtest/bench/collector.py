"""An OTLP collector that forgets what it is sent."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class _Collector(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(server: ThreadingHTTPServer, poll: float = 0.5) -> Iterator[str]:
    """Run a server in a thread, which looks every `poll` seconds whether it is to end; gives its URL."""
    thread = Thread(target=server.serve_forever, args=(poll,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def collecting() -> Iterator[str]:
    """Run it on the cores of the thread that asks; gives its URL."""
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), _Collector)) as url:
        yield url
