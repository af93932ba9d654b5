"""Chunks of the chunked coding (RFC 9112 section 7.1), as most engines write them, and as the gateway does."""

from typing import Final

_USUAL_SIZES: Final = 2048
_SIZES: Final = [b"%x\r\n" % size for size in range(_USUAL_SIZES)]
_LEAST: Final = 16
_TWO_DIGITS: Final = 6
_THREE_DIGITS: Final = 7
"""Bytes around the data of a chunk whose size is written in so many digits."""
_END: Final = b"\r\n"


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
