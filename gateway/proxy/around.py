"""A client's connection with something about its answers changed."""

import msgspec

from gateway.wire.service import Writer


class Around(Writer):
    """Passes everything on to a client; subclasses change what they have to."""

    def __init__(self, client: Writer) -> None:
        self._client = client

    @property
    def keep_alive(self) -> bool:
        """Whether the connection outlives the answer."""
        return self._client.keep_alive

    @property
    def peer(self) -> str:
        """The address of the client."""
        return self._client.peer

    def write(self, data: bytes) -> None:
        """Write a piece of the answer; the first one begins with its head."""
        self._client.write(data)

    def reply(self, status: int, head: bytes, body: bytes) -> None:
        """Write a whole answer."""
        self._client.reply(status, head, body)

    def reply_json(self, status: int, head: bytes, value: object) -> None:
        """Write a whole answer in JSON."""
        self.reply(status, head + b"content-type: application/json\r\n", msgspec.json.encode(value))

    def finish(self) -> None:
        """End the answer."""
        self._client.finish()

    def break_off(self) -> None:
        """End an answer that cannot be completed."""
        self._client.break_off()
