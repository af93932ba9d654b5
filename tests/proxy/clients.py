"""A client's connection as the answering side sees it: what is written to it can be read."""

import msgspec

from gateway.wire.heads import status_line


class Page:
    """A client that keeps what it gets."""

    def __init__(self, *, keep_alive: bool = True) -> None:
        self.keep_alive = keep_alive
        self.peer = "192.0.2.7"
        self.out = b""
        self.ended = ""

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
