"""An event longer than most, which comes in several reads: gathered without copying it for each of them."""

import re
from typing import Final

LONG: Final = 64 * 1024
"""Bytes from which on an event is gathered here."""
MAX_EVENT: Final = 8 * 1024 * 1024
_END: Final = re.compile(rb"\n\n|\r")
_LOOKED_AT: Final = 16 * 1024
_NEAR: Final = 3 * 1024


class EventTooLarge(Exception):
    """One event is over the limit: holding it would let memory grow without bound."""

    def __init__(self, most: int) -> None:
        super().__init__(f"one event is over the {most} bytes that the gateway holds (--max-event)")


class LongEvent:
    """The start of an event, in pieces; only what is new is searched for its end."""

    __slots__ = ("_most", "_pieces", "_size")

    def __init__(self, start: bytes, most: int) -> None:
        self._pieces = [start]
        self._size = len(start)
        self._most = most

    def add(self, piece: bytes) -> bool:
        """Take more; return whether the end may have come. Raises EventTooLarge."""
        edge = self._pieces[-1][-1:]
        self._pieces.append(piece)
        self._size += len(piece)
        if _END.search(edge + piece[:1]) or _END.search(piece):
            return True
        if self._size > self._most:
            raise EventTooLarge(self._most)
        return False

    def whole(self) -> bytes:
        """Return everything."""
        return b"".join(self._pieces)


def abridged(block: bytes, start: int, end: int) -> bytes:
    """Return an event of a block; of a long one its beginning, its end, and where token counts may stand."""
    if end - start <= LONG:
        return block[start:end]
    parts = [block[start : start + _LOOKED_AT]]
    counts = block.rfind(b'"usage"', start + _LOOKED_AT, end - _LOOKED_AT)
    if counts >= 0:
        parts.append(block[counts : min(counts + _NEAR, end - _LOOKED_AT)])
    return b"".join((*parts, block[end - _LOOKED_AT : end]))
