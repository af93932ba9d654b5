"""The head that a connection carried last: clients send the same one with nearly every request."""

from typing import Final

import httptools

from gateway.wire import guard
from gateway.wire.guard import Head, Limits
from gateway.wire.heads import Headers

_LENGTH: Final = b"content-length"


class LastHead:
    """Recognises a head that differs from the last in nothing but how long the body is.

    Only a head of HTTP/1.1 that asks for nothing special is remembered. It holds its client's key as long as the
    connection lives, and no other connection sees it.
    """

    __slots__ = ("_fields", "_head", "_method", "_target")

    def __init__(self) -> None:
        self._head: Head | None = None
        self._fields: Headers = []
        self._method = self._target = b""

    def __repr__(self) -> str:
        return f"<LastHead of {len(self._fields)} fields>"

    def check(
        self, parser: httptools.HttpRequestParser, method: bytes, target: bytes, fields: Headers, limits: Limits
    ) -> Head:
        """Return the head that a parser has read to its end; raises as `guard.check` does."""
        known = self.same(method, target, fields, limits)
        # Without a Connection field only HTTP/1.1 is kept alive: that costs less to ask than the text of the version.
        if known is not None and parser.should_keep_alive():
            return known
        head = guard.check(method, target, parser.get_http_version(), fields, limits)
        self.note(method, target, fields, head)
        return head

    def same(self, method: bytes, target: bytes, fields: Headers, limits: Limits) -> Head | None:
        """Return the last head where this is one like it, and None otherwise.

        That its version is 1.1 is still to be seen. Raises RequestTooLarge, as the guard does.
        """
        known = self._fields
        count = len(fields)
        if self._head is None or count != len(known) or target != self._target or method != self._method:
            return None
        for index in range(count):
            field, last = fields[index], known[index]
            if field != last:
                # Whether the client waits for a `100 Continue` depends on whether there is a body.
                if field[0] != _LENGTH or last[0] != _LENGTH or int(last[1]) == 0:
                    return None
                guard.check_length(field[1], limits)
        return self._head

    def note(self, method: bytes, target: bytes, fields: Headers, head: Head) -> None:
        """Remember a head that has passed the guard."""
        plain = head.refusal is None and not head.expects_continue and not head.connection
        self._head = head if plain and not head.http10 else None
        self._method, self._target, self._fields = method, target, fields
