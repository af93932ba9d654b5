"""Spans in OTLP's protobuf, written by hand: the SDK's objects and their encoding take ten times as long.

Field numbers are those of `opentelemetry/proto/trace/v1/trace.proto`. Fields are written in the order of their numbers,
as protobuf's own library does, so that a test can compare bytes.
"""

from collections.abc import Iterable
from struct import Struct
from typing import Final

INTERNAL: Final = 1
SERVER: Final = 2
CLIENT: Final = 3
OF_SPAN: Final = b"\x4a"
OF_RESOURCE: Final = b"\x0a"
UNSET: Final = b"\x7a\x00"
FAILED: Final = b"\x7a\x02\x18\x02"
LOCAL_PARENT: Final = b"\x85\x01\x00\x01\x00\x00"
REMOTE_PARENT: Final = b"\x85\x01\x00\x03\x00\x00"
_SPAN: Final = b"\x12"
_REMEMBERED: Final = 1000
_WORD: Final = (1 << 64) - 1
_NANOSECONDS: Final = 1e9
_times: Final = Struct("<BQBQ").pack
_moment: Final = Struct("<BBBQ").pack
_double: Final = Struct("<d").pack


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)


_FEW: Final = 1024
"""Most lengths are below. A start makes these, so there are no more."""
_VARINTS: Final[tuple[bytes, ...]] = tuple([_varint(value) for value in range(_FEW)])


def varint(value: int) -> bytes:
    """Return a number, of which 64 bits count, as protobuf writes whole numbers and lengths."""
    return _VARINTS[value] if 0 <= value < _FEW else _varint(value & _WORD)


def delimited(tag: bytes, content: bytes) -> bytes:
    """Return a field with its length: text, bytes or a message."""
    return tag + varint(len(content)) + content


_SCOPE: Final = delimited(b"\x0a", delimited(b"\x0a", b"tidegate"))


class Attribute:
    """Writes the attributes of one name: of spans and data points, where they are field 9, or of a resource."""

    __slots__ = ("_key", "_known", "_number", "_tag")

    def __init__(self, name: str, tag: bytes = OF_SPAN) -> None:
        self._tag = tag
        self._key: bytes = delimited(b"\x0a", name.encode()) + b"\x12"
        self._number: bytes = tag + varint(len(self._key) + 10) + self._key + b"\x09\x21"
        self._known: dict[str, bytes] = {}

    def text(self, value: str) -> bytes:
        """Return it with a text."""
        return self._field(delimited(b"\x0a", value.encode("utf-8", "replace")))

    def known(self, value: str) -> bytes:
        """Return it with a text that comes again and again, and is remembered."""
        known = self._known.get(value)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[value] = self.text(value)
        return known

    def whole(self, value: int) -> bytes:
        """Return it with a whole number."""
        return self._field(b"\x18" + varint(value))

    def real(self, value: float) -> bytes:
        """Return it with a floating-point number."""
        return self._number + _double(value)

    def _field(self, value: bytes) -> bytes:
        content = self._key + varint(len(value)) + value
        return self._tag + varint(len(content)) + content


class Moment:
    """Writes events of one name, which is short."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name: bytes = delimited(b"\x12", name.encode())

    def at(self, when: int) -> bytes:
        """Return the event at a time."""
        return _moment(0x5A, 9 + len(self._name), 9, when) + self._name


def trace(trace_id: int) -> bytes:
    """Return the id of a trace, and what comes before the id of one of its spans."""
    return b"\x0a\x10" + trace_id.to_bytes(16, "big") + b"\x12\x08"


def identity(span_id: int) -> bytes:
    """Return the id of a span."""
    return span_id.to_bytes(8, "big")


def below(parent: bytes) -> bytes:
    """Return the id of a span's parent."""
    return b"\x22\x08" + parent


def named(name: str, kind: int) -> bytes:
    """Return a span's name and kind."""
    return delimited(b"\x2a", name.encode("utf-8", "replace")) + b"\x30" + varint(kind)


def nanoseconds(seconds: float) -> int:
    """Return a time in seconds since the epoch as OTLP has it."""
    return int(seconds * _NANOSECONDS)


def lasting(start: int, end: int) -> bytes:
    """Return a span's times, in nanoseconds since the epoch."""
    return _times(0x39, start, 0x41, end)


def failed(why: str) -> bytes:
    """Return the status of what went wrong, with the reason."""
    if not why:
        return FAILED
    return delimited(b"\x7a", delimited(b"\x12", why.encode("utf-8", "replace")) + b"\x18\x02")


def span(parts: list[bytes]) -> bytes:
    """Return a span out of its fields: ids, name, times, attributes, events, status and flags."""
    return delimited(_SPAN, b"".join(parts))


def request(resource: bytes, parts: Iterable[bytes]) -> bytes:
    """Return an export request of spans, or of metrics, that share one resource."""
    return delimited(b"\x0a", resource + delimited(b"\x12", _SCOPE + b"".join(parts)))
