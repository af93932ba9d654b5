"""How much of a JSON body is not text: images, audio and files, written out in base64.

In data URLs (`"data:image/png;base64,..."`), or as the value of `data` (Anthropic's sources, OpenAI's `input_audio`) or
`file_data`.
"""

import re
from typing import Final

from gateway.wire.rope import Rope, Span
from gateway.wire.scan import WINDOW, Steps
from gateway.wire.slices import Work, finish

SMALL: Final = 8 * 1024
"""Bytes of a body up to which it is all taken for text: the error is a few hundred tokens, and looking costs time."""
_DATA_URL: Final = b";base64,"
_KEY: Final = b'data"'
_BASE64: Final = re.compile(
    rb'(?:;base64,|data"[ \t\r\n]{0,64}+:[ \t\r\n]{0,64}+")(?=(?:[A-Za-z0-9+/=_-]|\\/){64})',
)
_IMAGE: Final = re.compile(rb'"type"[ \t\r\n]{0,64}+:[ \t\r\n]{0,64}+"(?:image|image_url|input_image)"')
_OVERLAP: Final = 512
"""More than any of these patterns spans."""


def media_size(raw: bytes) -> int:
    """Return how many bytes of a short JSON body are base64."""
    return 0 if len(raw) <= SMALL else finish(media_in(Rope((raw,))))


def media_in(rope: Rope, *, may_have_data: bool = True) -> Steps:
    """Return how many bytes of a JSON body are base64, a window at a time; `may_have_data` says if keys may end so."""
    size = at = 0
    while at < len(rope):
        window = rope.read(at, at + WINDOW + _OVERLAP)
        here = end = 0
        # A single byte is found ten times as fast, and a semicolon is rare in text.
        if (b";" in window and _DATA_URL in window) or (may_have_data and _KEY in window):
            while end >= 0 and (hit := _BASE64.search(window, here)) and hit.start() < WINDOW:
                end = window.find(b'"', hit.end())
                here = end + 1 if end >= 0 else len(window)
                size += here - hit.end() - (end >= 0)
        at += max(WINDOW, here)
        yield
        if end < 0:
            until = yield from _next_quote(rope, at)
            size += until - at
            at = until
    return size


def _next_quote(rope: Rope, at: int) -> Steps:
    while window := rope.read(at, at + WINDOW):
        found = window.find(b'"')
        if found >= 0:
            return at + found
        at += len(window)
        yield
    return at


def images_in(rope: Rope, spans: dict[str, Span]) -> Work[bool]:
    """Return whether messages hold images: parts whose type says so, in any of the dialects."""
    for start, end in (spans[key] for key in ("messages", "input") if key in spans):
        for at in range(start, end, WINDOW):
            if _IMAGE.search(rope.read(at, min(end, at + WINDOW + _OVERLAP))):
                return True
            yield
    return False
