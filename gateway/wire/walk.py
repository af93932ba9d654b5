"""A walk over a long JSON body byte by byte, which pays where it is compiled: there a byte costs a nanosecond or two.

Interpreted, a byte costs fifty, and `scan.py` looks at whole windows with what the interpreter has in C. Both find the
same in what is JSON.
"""

from typing import TYPE_CHECKING, Final

from gateway.errors import InvalidRequest
from gateway.native import is_compiled

if TYPE_CHECKING:
    from mypy_extensions import i64

MAX_DEPTH: Final = 64
COMPILED: Final = is_compiled()
_QUOTE: Final = 0x22
_BACKSLASH: Final = 0x5C
_OPENS_OR_CLOSES: Final = 2
_BRACKETS: Final = bytes(1 if byte in b"[{" else 3 if byte in b"]}" else 0 for byte in range(256))
"""1 where a value opens, 3 where it closes: how much deeper it leads, taken from 2."""
_FEW: Final = 96
"""Bytes of a string that are looked at singly before the next quote is searched for."""
_DATA: Final = b"data"
_IMAGES: Final[tuple[bytes, ...]] = (b"image", b"image_url")
_LONGEST: Final = 16
"""More bytes than any of these endings has."""
_BEFORE_LAST: Final = bytes({0x61: 0x74, 0x65: 0x67, 0x6C: 0x72}.get(byte, 0) for byte in range(256))
"""The letters before the last one of these endings, by the last one: ta, ge and rl."""


class Walk:
    """Where a walk is, and what it has seen on its way.

    Brackets may nest `most` deep. `data` and `images` say whether some string ended in `data`, as keys of base64 do, or
    as the type of an image does; of what is not walked over byte by byte, both are said to be so.
    """

    __slots__ = ("before_last", "by_bytes", "data", "depth", "images", "in_string", "most", "tail")

    def __init__(self, by_bytes: bool = COMPILED, most: int = MAX_DEPTH) -> None:
        self.by_bytes: Final = by_bytes
        self.most: i64 = most
        self.data = not by_bytes
        self.images = not by_bytes
        self.before_last = _BEFORE_LAST
        self.begin()

    def begin(self) -> None:
        """Stand before a nested value at the top of the body."""
        self.depth: i64 = 1
        self.in_string = False
        self.tail = b""

    def ended(self, ending: bytes) -> None:
        """Note a string that ends like this; what has been seen is looked for no more."""
        if ending.endswith(_DATA):
            self.data = True
            self.before_last = self.before_last.replace(b"t", b"\0")
        elif ending.endswith(_IMAGES):
            self.images = True
            self.before_last = self.before_last.replace(b"g", b"\0").replace(b"r", b"\0")


def walk_over(window: bytes, walk: Walk) -> int:
    """Go on through a nested value; return where it ends in this window, or -1. No window ends within an escape.

    Raises InvalidRequest where brackets nest too deep.
    """
    size: i64 = len(window)
    at: i64 = 0
    depth: i64 = walk.depth
    most: i64 = walk.most
    brackets, before_last = _BRACKETS, walk.before_last
    if walk.in_string:
        at = _out_of_string(window, walk)
    while at < size:
        byte: i64 = window[at]
        at += 1
        if byte == _QUOTE:
            begun: i64 = at
            at = _closing(window, at)
            if at >= size:
                walk.in_string = True
                break
            if at - begun > 1 and before_last[window[at - 1]] == window[at - 2]:
                walk.ended(window[max(begun, at - _LONGEST) : at])
                before_last = walk.before_last
            at += 1
            continue
        bracket: i64 = brackets[byte]
        if bracket:
            depth += _OPENS_OR_CLOSES - bracket
            if depth == 1:
                return at
            if depth > most:
                raise too_deep()
    walk.depth = depth
    walk.tail = (walk.tail + window if size < _LONGEST else window)[-_LONGEST:]
    return -1


def _out_of_string(window: bytes, walk: Walk) -> "i64":
    """Return where a string of earlier windows is over, which may be after this one."""
    end: i64 = _closing(window, 0)
    if end < len(window):
        walk.ended(walk.tail + window[:end][-_LONGEST:])
        walk.in_string = False
    return end + 1


def string_end(window: bytes) -> int:
    """Return where the quote is that ends a string, of which the window has the rest or a part; -1 for a part."""
    end: i64 = _closing(window, 0)
    return end if end < len(window) else -1


def _closing(window: bytes, at: "i64") -> "i64":
    """Return where the quote is that ends the string within which `at` is; the window's size if it has none.

    Bytes are looked at singly at first, since most strings are short; then the next quote is searched for.
    """
    size: i64 = len(window)
    while True:
        begun: i64 = at
        until: i64 = min(at + _FEW, size)
        while at < until and window[at] != _QUOTE:
            at += 1
        if at == size:
            return size
        if at == until:
            at = window.find(b'"', at)
            if at < 0:
                return size
        before: i64 = at
        while before > begun and window[before - 1] == _BACKSLASH:
            before -= 1
        if (at - before) & 1 == 0:
            return at
        at += 1


def too_deep() -> InvalidRequest:
    """Return what to say of a body that nests too deep: engines parse recursively."""
    return InvalidRequest(f"the body is nested deeper than {MAX_DEPTH} levels")
