"""A client's connection as the answering side sees it: what is written to it can be read."""

import msgspec

from gateway.wire.heads import status_line
from gateway.wire.service import Writer


class Page(Writer):
    """A client that keeps what it gets."""

    def __init__(self, *, keep_alive: bool = True) -> None:
        self._keep_alive = keep_alive
        self.out = b""
        self.ended = ""

    @property
    def keep_alive(self) -> bool:
        return self._keep_alive

    @property
    def peer(self) -> str:
        return "192.0.2.7"

    def write(self, data: bytes) -> None:
        self.out += data

    def reply(self, status: int, head: bytes, body: bytes) -> None:
        self.write(b"%b%bcontent-length: %d\r\n\r\n%b" % (status_line(status), head, len(body), body))

    def reply_json(self, status: int, head: bytes, value: object) -> None:
        self.reply(status, head + b"content-type: application/json\r\n", msgspec.json.encode(value))

    def finish(self) -> None:
        self.ended = "finished"

    def break_off(self) -> None:
        self.ended = "broken off"

    def took(self) -> bytes:
        """Return what came since the last call."""
        out, self.out = self.out, b""
        return out
