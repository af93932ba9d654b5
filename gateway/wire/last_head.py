"""The head that a connection carried last: clients send the same one with nearly every request."""

from typing import TYPE_CHECKING, Final

import httptools

from gateway.wire import guard
from gateway.wire.guard import Head, Limits
from gateway.wire.heads import Headers

if TYPE_CHECKING:
    from mypy_extensions import i64

_LENGTH: Final = b"content-length"
_ZERO: Final = 0x30
_NINE: Final = 0x39
_MOST_DIGITS: Final = 9
_ATTEMPTS: Final = 8
_KEEP_ALIVE: Final = frozenset((b"keep-alive",))
"""What many clients name in every Connection field, although HTTP/1.1 stays open without it."""


class LastHead:
    """Recognises a head that differs from the last in nothing but how long the body is.

    Only a head of HTTP/1.1 that asks for nothing special is remembered. It holds its client's key as long as the
    connection lives, and no other connection sees it.

    `learn` takes its bytes from a read that was one whole request; `body_in` then finds the body of the next such read,
    which no parser has to see. A client whose heads are all different is given up. While it `is_over`, the last read
    was such a request, so that the parser stands between two.
    """

    __slots__ = ("_after", "_attempts", "_before", "_place", "_size", "fields", "head", "is_over", "method", "target")

    def __init__(self) -> None:
        self.head: Head | None = None
        self.fields: Headers = []
        self.method = self.target = b""
        self._before = self._after = b""
        """The bytes of the head up to the length of the body, and from there on; none before they are learned."""
        self._place = self._size = 0
        self._attempts = _ATTEMPTS
        self.is_over = False

    def __repr__(self) -> str:
        return f"<LastHead of {len(self.fields)} fields>"

    def check(
        self, parser: httptools.HttpRequestParser, method: bytes, target: bytes, fields: Headers, limits: Limits
    ) -> Head:
        """Return the head that a parser has read to its end; raises as `guard.check` does."""
        known = self.same(method, target, fields, limits)
        # Without a Connection field only HTTP/1.1 is kept alive: that costs less to ask than the text of the version.
        is_kept = known is not None and parser.should_keep_alive()
        if known is not None and is_kept and (not known.connection or parser.get_http_version() == "1.1"):
            self.fields, self._size = fields, 0
            return known
        head = guard.check(method, target, parser.get_http_version(), fields, limits)
        self.note(method, target, fields, head)
        return head

    def same(self, method: bytes, target: bytes, fields: Headers, limits: Limits) -> Head | None:
        """Return the last head where this is one like it, and None otherwise.

        That its version is 1.1 is still to be seen. Raises RequestTooLarge, as the guard does.
        """
        known = self.fields
        count = len(fields)
        if self.head is None or count != len(known) or target != self.target or method != self.method:
            return None
        for index in range(count):
            field, last = fields[index], known[index]
            if field != last:
                # Whether the client waits for a `100 Continue` depends on whether there is a body.
                if field[0] != _LENGTH or last[0] != _LENGTH or int(last[1]) == 0:
                    return None
                guard.check_length(field[1], limits)
        return self.head

    def note(self, method: bytes, target: bytes, fields: Headers, head: Head) -> None:
        """Remember a head that has passed the guard."""
        stays = not head.connection or head.connection == _KEEP_ALIVE
        plain = head.refusal is None and not head.expects_continue and stays
        self.head = head if plain and not head.http10 else None
        self.method, self.target, self.fields = method, target, fields
        self._before = b""

    def learn(self, data: bytes) -> bool:
        """Learn from a read in which a request with this head began and ended, as a parser has found.

        Return whether it was that request and nothing else: the head as most clients write it, and the body.
        """
        if self.head is None or not self._attempts:
            return False
        self._attempts -= 1
        written = b"%b %b HTTP/1.1\r\n" % (self.method, self.target)
        place = begin = size = 0
        for index in range(len(self.fields)):
            name, value = self.fields[index]
            if name == _LENGTH:
                place, begin, size = index, len(written) + len(name) + 2, int(value)
                if value != b"%d" % size:
                    return False
            elif name == b"transfer-encoding":
                return False
            written += b"%b: %b\r\n" % (name, value)
        written += b"\r\n"
        raw = data[: len(written)]
        if not size or len(data) != len(written) + size or raw.lower() != written.lower():
            return False
        self._place, self._size = place, size
        self._before, self._after = raw[:begin], raw[begin + len(self.fields[place][1]) :]
        return True

    def body_in(self, data: bytes, limits: Limits) -> bytes:
        """Return the body in a read that is one whole request with this head, b"" for any other.

        `fields` are those of that request then.
        """
        if not self._before or not data.startswith(self._before):
            return b""
        begin: i64 = len(self._before)
        at: i64 = begin
        total: i64 = len(data)
        size: i64 = 0
        while at < total and at - begin < _MOST_DIGITS:
            digit: i64 = data[at]
            if not _ZERO <= digit <= _NINE:
                break
            size = 10 * size + digit - _ZERO
            at += 1
        after: i64 = at + len(self._after)
        if at == begin or data[begin] == _ZERO or after + size != total or size > limits.body:
            return b""
        if after > limits.head or data[at:after] != self._after:
            return b""
        self._attempts = _ATTEMPTS
        if size != self._size:
            self._size = size
            self.fields = self.fields.copy()
            self.fields[self._place] = (_LENGTH, data[begin:at])
        return data[after:]
