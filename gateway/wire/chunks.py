"""Chunks of the chunked coding (RFC 9112 section 7.1), as most engines write them, and as the gateway does."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_extensions import i64

_USUAL_SIZES: Final = 2048
_SIZES: Final = [b"%x\r\n" % size for size in range(_USUAL_SIZES)]
_LEAST: Final = 16
_TWO_DIGITS: Final = 6
_THREE_DIGITS: Final = 7
"""Bytes around the data of a chunk whose size is written in so many digits."""
_END: Final = b"\r\n"
_CR: Final = 0x0D
_LF: Final = 0x0A
_NO_DIGIT: Final = -100_000


def size_line(size: int) -> bytes:
    """Return the line before so many bytes."""
    # A size in hexadecimal cannot be compiled; those of nearly all chunks are made beforehand.
    return _SIZES[size] if size < _USUAL_SIZES else b"%x\r\n" % size


def only_chunk(data: bytes) -> bytes:
    """Return what is in the one whole chunk of a usual size that these bytes are; nothing where they are anything else.

    They are known to begin between two chunks.
    """
    total = len(data)
    size = total - _TWO_DIGITS if total < 0x100 + _TWO_DIGITS else total - _THREE_DIGITS
    if not _LEAST <= size < _USUAL_SIZES:
        return b""
    line = _SIZES[size]
    if not data.startswith(line) or not data.endswith(_END):
        return b""
    begin = len(line)
    return data[begin : begin + size] if begin + size + len(_END) == total else b""


def is_only_chunk(data: bytes, piece: bytes) -> bool:
    """Whether these bytes are one whole chunk, `piece` being all that a parser found in them.

    Then the parser stands between two chunks now, wherever it stood before: a piece that begins with the bytes of its
    own size line could also be the rest of another chunk.
    """
    return only_chunk(data) == piece and len(piece) > 0 and not piece.startswith(_SIZES[len(piece)])


def take_chunks(data: bytes, begin: "i64", pieces: list[bytes]) -> "i64":
    """Append what is in the whole chunks of 16 to 4,095 bytes that stand at `begin`; return where the last one ends.

    It is known that a chunk begins there. Whatever is written otherwise than `size_line` does is left to a parser, and
    so is a chunk of which only a part is there.
    """
    total: i64 = len(data)
    at: i64 = begin
    while at + _LEAST + _TWO_DIGITS <= total:
        size: i64 = _digit(data[at]) * 16 + _digit(data[at + 1])
        if size < _LEAST:
            break
        start: i64 = at + 2
        byte: i64 = data[start]
        if byte != _CR:
            size = size * 16 + _digit(byte)
            start += 1
            byte = data[start]
        start += 2
        end: i64 = start + size
        if byte != _CR or size < _LEAST or end + 2 > total:
            break
        if data[start - 1] != _LF or data[end] != _CR or data[end + 1] != _LF:
            break
        pieces.append(data[start:end])
        at = end + 2
    return at


def _digit(byte: "i64") -> "i64":
    """Return the value of a hexadecimal digit; a number that makes no usual size for every other byte."""
    if 0x30 <= byte <= 0x39:
        return byte - 0x30
    return byte - 0x57 if 0x61 <= byte <= 0x66 else _NO_DIGIT
