"""One pass over a long JSON body in short windows: where its top-level values stand, whatever they hold.

Every piece of work here yields after at most one window, so that a hostile body of 32 MiB costs others a millisecond at
a time. Nested values are skipped by counting brackets outside strings; their grammar is left to the engine, which reads
them anyway. A parser that accepts the body at all finds the same values.
"""

import re
from collections.abc import Generator
from itertools import accumulate
from typing import Final

import msgspec

from gateway.errors import InvalidJson, InvalidRequest
from gateway.wire.rope import Rope, Span
from gateway.wire.walk import COMPILED, MAX_DEPTH, Walk, string_end, too_deep, walk_over

MAX_KEYS: Final = 256
MAX_KEY: Final = 1024
WINDOW: Final = 16 * 1024
"""Bytes looked at between two yields; the worst of them cost 50 ns each."""
_SMALL: Final = 256
_SPACE: Final = b" \t\r\n"
_STRUCTURE: Final = re.compile(rb'["\[\]{}]')
_NOT_STRUCTURE: Final = bytes(set(range(256)) - set(b'"[]{}'))
_NOT_ITEMS: Final = bytes(set(range(256)) - set(b'",['))
_STEPS: Final = bytes.maketrans(b"[{]}", b"\1\1\xff\xff")
_SCALAR: Final = re.compile(
    rb"(?:-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null)(?![A-Za-z0-9.])"
)
_MAX_SCALAR: Final = 1024
_NOT_AN_OBJECT: Final = frozenset(b'["tfn-0123456789')
_decode_text: Final = msgspec.json.Decoder(str).decode

Steps = Generator[None, None, int]
"""Work that yields after each window, and returns where it got to."""


def check_depth(raw: bytes, by_bytes: bool = COMPILED) -> None:
    """Raise InvalidRequest where brackets of a short body nest deeper than 64: engines parse recursively.

    Nearly every body has fewer brackets than that.
    """
    if _count(raw, b"[") + _count(raw, b"{") <= MAX_DEPTH:
        return
    if by_bytes:
        walk_over(raw, Walk(most=MAX_DEPTH + 1))  # its depth begins where a nested value's does
        return
    outside = b"".join(_neutral(raw).translate(None, _NOT_STRUCTURE).split(b'"')[::2])
    if max(accumulate(memoryview(outside.translate(_STEPS)).cast("b")), default=0) > MAX_DEPTH:
        raise too_deep()


def _count(raw: bytes, mark: bytes) -> int:
    """Return how often one byte occurs, at most once more than MAX_DEPTH.

    A removal goes from one to the next at the speed of memchr; `bytes.count` takes five times as long.
    """
    return len(raw) - len(raw.replace(mark, b"", MAX_DEPTH + 1))


def top_level(rope: Rope, walk: Walk) -> Generator[None, None, dict[str, Span]]:
    """Locate every top-level value; `walk` is told what else was seen.

    Raises InvalidJson for what cannot be JSON at the top, and InvalidRequest for what cannot be a request: no object,
    a key twice, more than 256 keys, brackets nested deeper than 64.
    """
    spans: dict[str, Span] = {}
    at = yield from _skip_space(rope, 0)
    if (first := rope.read(at, at + 1)) != b"{":
        if first and first[0] in _NOT_AN_OBJECT:
            raise InvalidRequest("the body must be a JSON object")
        raise _broken(at)
    at = yield from _skip_space(rope, at + 1)
    ended = rope.read(at, at + 1) == b"}"
    while not ended:
        key, at = yield from _key(rope, at, walk)
        if key in spans:
            raise repeated_key()
        if len(spans) == MAX_KEYS:
            raise too_many_keys()
        end = yield from _value(rope, at, walk)
        spans[key] = at, end
        at = yield from _skip_space(rope, end)
        mark = rope.read(at, at + 1)
        ended = mark == b"}"
        if not ended:
            if mark != b",":
                raise _broken(at)
            at = yield from _skip_space(rope, at + 1)
        yield
    at = yield from _skip_space(rope, at + 1)
    if at < len(rope):
        raise _broken(at)
    return spans


def items_in(rope: Rope, span: Span) -> Steps:
    """Return how many items a list of strings or of lists has; of other values, 1, and 0 of empty ones."""
    at, end = span
    if rope.read(at, at + 1) != b"[":
        return 0 if rope.read(at, min(end, at + 5)) in {b"", b'""', b"null"} else 1
    first = yield from _skip_space(rope, at + 1)
    match rope.read(first, first + 1):
        case b"]":
            return 0
        case b'"':
            mark, count = b",", 1
        case b"[":
            mark, count = b"[", -1  # the list's own does not count
        case _:
            return 1
    in_string = False
    while at < end:
        window = _window(rope, at, min(WINDOW, end - at))
        parts = _neutral(window).translate(None, _NOT_ITEMS).split(b'"')
        count += b"".join(parts[in_string::2]).count(mark)
        in_string = in_string != (len(parts) % 2 == 0)
        at += len(window)
        yield
    return count


def _key(rope: Rope, at: int, walk: Walk) -> Generator[None, None, tuple[str, int]]:
    """Read a key; return it and where its value begins."""
    if rope.read(at, at + 1) != b'"':
        raise _broken(at)
    end = yield from _skip_string(rope, at, walk)
    if end - at > MAX_KEY:
        raise InvalidRequest(f"a key at the top of the body is over {MAX_KEY} bytes")
    quoted = rope.read(at, end)
    walk.ended(quoted[:-1])
    try:
        key = _decode_text(quoted)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _broken(at) from None
    at = yield from _skip_space(rope, end)
    if rope.read(at, at + 1) != b":":
        raise _broken(at)
    return key, (yield from _skip_space(rope, at + 1))


def _value(rope: Rope, at: int, walk: Walk) -> Steps:
    """Return where the value that begins at `at` ends."""
    match rope.read(at, at + 1):
        case b'"':
            return (yield from _skip_string(rope, at, walk))
        case b"[" | b"{":
            return (yield from _walk_nested(rope, at, walk) if walk.by_bytes else _skip_nested(rope, at))
        case _:
            scalar = _SCALAR.match(rope.read(at, at + _MAX_SCALAR))
            if scalar is None:
                raise _broken(at)
            return at + scalar.end()


def _skip_space(rope: Rope, at: int) -> Steps:
    size = 64
    while True:
        window = rope.read(at, at + size)
        rest = len(window.lstrip(_SPACE))
        at += len(window) - rest
        if rest or not window:
            return at
        size = WINDOW
        yield


def _skip_string(rope: Rope, at: int, walk: Walk) -> Steps:
    """Return where the string ends whose opening quote is at `at`."""
    at, size = at + 1, _SMALL
    while window := _window(rope, at, size):
        found = string_end(window) if walk.by_bytes else _neutral(window).find(b'"')
        if found >= 0:
            return at + found + 1
        at += len(window)
        size = min(2 * size, WINDOW)
        yield
    raise _broken(at)


def _walk_nested(rope: Rope, at: int, walk: Walk) -> Steps:
    """Return where the array or object ends that begins at `at`, byte by byte."""
    size = _SMALL
    walk.begin()
    while window := _window(rope, at, size):
        end = walk_over(window, walk)
        if end >= 0:
            return at + end
        at += len(window)
        size = min(2 * size, WINDOW)
        yield
    raise _broken(at)


def _skip_nested(rope: Rope, at: int) -> Steps:
    """Return where the array or object ends that begins at `at`, by whole windows.

    Windows grow while the value goes on; the one in which it ends is halved until it is small enough for a close look.
    """
    depth, in_string, size, growth = 1, False, _SMALL, 2
    while window := _window(rope, at, size):
        neutral = _neutral(window)
        parts = neutral.translate(None, _NOT_STRUCTURE).split(b'"')
        track = _levels(b"".join(parts[in_string::2]), depth)
        if 1 in track[1:]:
            if len(window) <= _SMALL:
                return at + _end(neutral, depth, in_string)
            size, growth = len(window) // 2, 1
        else:
            at += len(window)
            depth = track[-1]
            in_string = in_string != (len(parts) % 2 == 0)
            size = min(growth * size, WINDOW)
        yield
    raise _broken(at)


def _levels(brackets: bytes, depth: int) -> list[int]:
    """Return how deep each bracket leads, from `depth` on, up to the end of the value; 1 is the body's own level."""
    opening = brackets.count(b"[") + brackets.count(b"{")
    if depth - (len(brackets) - opening) > 1 and depth + opening <= MAX_DEPTH:
        return [depth, depth + 2 * opening - len(brackets)]
    track = list(accumulate(memoryview(brackets.translate(_STEPS)).cast("b"), initial=depth))
    if 1 in track[1:]:
        track = track[: track.index(1, 1) + 1]
    if max(track) > MAX_DEPTH:
        raise too_deep()
    return track


def _end(neutral: bytes, depth: int, in_string: bool) -> int:
    """Return where in a window the value ends."""
    for mark in _STRUCTURE.finditer(neutral):
        if mark[0] == b'"':
            in_string = not in_string
        elif not in_string:
            depth += 1 if mark[0] in b"[{" else -1
            if depth == 1:
                return mark.end()
    raise AssertionError("the value ends in this window")


def _window(rope: Rope, at: int, size: int) -> bytes:
    """Return bytes from `at` on that do not end within an escape."""
    window = rope.read(at, at + size)
    if window.endswith(b"\\") and (len(window) - len(window.rstrip(b"\\"))) % 2:
        window += rope.read(at + len(window), at + len(window) + 1)
    return window


def _neutral(window: bytes) -> bytes:
    """Return a window without escapes, as long as it was."""
    if b"\\" not in window:
        return window
    return window.replace(b"\\\\", b"..").replace(b'\\"', b"..")


def _broken(at: int) -> InvalidJson:
    return InvalidJson(f"the body is not valid JSON: it breaks off or goes wrong at byte {at}")


def too_many_keys() -> InvalidRequest:
    """Return what to say of a body whose top level is no request's."""
    return InvalidRequest(f"the body has more than {MAX_KEYS} keys at its top")


def repeated_key() -> InvalidRequest:
    """Return what to say of a body in which a key at the top comes twice."""
    return InvalidRequest(
        "a key appears twice at the top of the body: which one holds is anybody's guess, so none does"
    )
