"""Clients of HTTP/1.0 that ask to keep their connection: it lasts while answers say how long they are."""

from gateway.proxy.around import Around
from gateway.wire.service import Writer


class Kept(Around):
    """An HTTP/1.0 client that sent `connection: keep-alive`.

    An answer with a length is told to keep the connection; one that only closing ends closes it.
    """

    def __init__(self, client: Writer) -> None:
        super().__init__(client)
        self._begun = self._closes = False

    def write(self, data: bytes) -> None:
        """Write a piece of the answer; the first one begins with its head."""
        if not self._begun:
            self._begun = True
            line, _, rest = data.partition(b"\r\n")
            self._closes = b"\r\ncontent-length:" not in data.partition(b"\r\n\r\n")[0].lower()
            if self.keep_alive:
                data = b"%b\r\nconnection: %b\r\n%b" % (line, b"close" if self._closes else b"keep-alive", rest)
        self._client.write(data)

    def reply(self, status: int, head: bytes, body: bytes) -> None:
        """Write a whole answer."""
        self._client.reply(status, head + b"connection: keep-alive\r\n" if self.keep_alive else head, body)

    def finish(self) -> None:
        """End the answer; where nothing else tells that it is over, by closing."""
        if self._closes:
            self._client.break_off()
        else:
            self._client.finish()
