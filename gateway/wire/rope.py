"""A long body as the pieces that it came in: read in short windows and changed by splicing, never copied as a whole.

Joining 32 MiB would hold the event loop for tens of milliseconds, and so would a copy for each edit or attempt.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

BLOCK: Final = 64 * 1024
"""Bytes up to which short pieces are gathered into one."""
SHORT: Final = 64 * 1024
"""Bytes of a body up to which it is in one piece, and read in one go: at worst that takes two milliseconds."""

Span = tuple[int, int]
Edit = tuple[int, int, bytes]
"""Replace [start:end] by these bytes."""


class Rope:
    """Bytes in pieces. `append` is for filling it; after that it does not change."""

    __slots__ = ("_blocks", "_ends", "_size")

    def __init__(self, blocks: Iterable[bytes | memoryview] = ()) -> None:
        self._blocks: list[bytes | bytearray | memoryview] = []
        self._ends: list[int] = []
        self._size = 0
        for block in blocks:
            self._add(block)

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"<Rope {self._size} bytes in {len(self._blocks)} blocks>"

    def append(self, piece: bytes) -> None:
        """Add a piece at the end; short ones are gathered, so that a byte costs a byte."""
        if not self._blocks or len(piece) + len(self._blocks[-1]) > BLOCK:
            self._add(piece)
            return
        last = self._blocks[-1]
        if not isinstance(last, bytearray):
            last = self._blocks[-1] = bytearray(last)
        last += piece
        self._size += len(piece)
        self._ends[-1] = self._size

    def read(self, start: int, end: int) -> bytes:
        """Return a copy of [start:end], which stops where the rope ends."""
        place = bisect_right(self._ends, start)
        if place == len(self._blocks):
            return b""
        block = self._blocks[place]
        offset = self._ends[place] - len(block)
        first = bytes(block[start - offset : end - offset])
        if end <= self._ends[place] or place + 1 == len(self._blocks):
            return first
        parts = [first]
        for block, until in zip(self._blocks[place + 1 :], self._ends[place + 1 :], strict=True):
            parts.append(bytes(block[: max(0, len(block) - (until - end))]))
            if until >= end:
                break
        return b"".join(parts)

    def blocks(self) -> Iterator[bytes | bytearray | memoryview]:
        """Return the pieces, in order."""
        return iter(self._blocks)

    def spliced(self, edits: Iterable[Edit]) -> "Rope":
        """Return a rope with non-overlapping edits applied, in whatever order they are given; it shares the pieces."""
        blocks: list[bytes | memoryview] = []
        at = 0
        for start, end, replacement in sorted(edits):
            blocks += self._between(at, start)
            blocks.append(replacement)
            at = end
        blocks += self._between(at, self._size)
        return Rope(blocks)

    def _between(self, start: int, end: int) -> Iterator[memoryview]:
        for place in range(bisect_right(self._ends, start), len(self._blocks)):
            block, until = self._blocks[place], self._ends[place]
            offset = until - len(block)
            if offset >= end:
                return
            yield memoryview(block)[max(0, start - offset) : end - offset]

    def _add(self, block: bytes | memoryview) -> None:
        if len(block):
            self._blocks.append(block)
            self._size += len(block)
            self._ends.append(self._size)


def longer(body: bytes | Rope, piece: bytes) -> Rope:
    """Return a body that has begun to come, with one more piece."""
    rope = body if isinstance(body, Rope) else Rope((body,))
    rope.append(piece)
    return rope


def complete(body: bytes | Rope) -> bytes | Rope:
    """Return a body that has come: up to 64 KiB in one piece, a longer one as a rope."""
    if isinstance(body, bytes):
        return body if len(body) <= SHORT else Rope((body,))
    return body.read(0, SHORT) if len(body) <= SHORT else body
