"""What the content events of one stream have in common: all but their text, which is how the next ones are known."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_extensions import i64

_QUOTE: Final = 0x22
_BACKSLASH: Final = 0x5C
_CONTROLS: Final = 0x20
_LONGEST: Final = 128
"""Bytes of text that are looked at singly; a token has few."""
_ATTEMPTS: Final = 8
_KEYS_BEHIND: Final = 8
"""Keys of numbers and nulls that may stand behind the text."""
_FINISH: Final = b'"finish_reason"'
_KEY_END: Final = b'":'


class EventShape:
    """An event in two pieces, between which the text of a token stands.

    An event of this shape is whole and says nothing but its text, as the one that it was learned from did: between the
    same pieces stand neither a quote, which would end the text, nor the end of a line.
    """

    __slots__ = ("_after", "_attempts", "_before")

    def __init__(self) -> None:
        self._before = self._after = b""
        self._attempts = _ATTEMPTS

    def __repr__(self) -> str:
        return f"<EventShape {self._before!r} ... {self._after!r}>"

    def has(self, event: bytes) -> bool:
        """Whether these bytes are one event of this shape, with a text that is neither empty nor long."""
        at: i64 = len(self._before)
        end: i64 = len(event) - len(self._after)
        if at == 0 or at >= end or end - at > _LONGEST:
            return False
        if not (event.startswith(self._before) and event.endswith(self._after)):
            return False
        while at < end:
            byte: i64 = event[at]
            if byte == _BACKSLASH:
                at += 1
                byte = event[at]  # a quote here does not end the text; behind it, it would go on beyond the event's end
                if at == end or byte < _CONTROLS:
                    return False
            elif byte == _QUOTE or byte < _CONTROLS:
                return False
            at += 1
        return True

    def learn(self, event: bytes, marker: bytes, at: int) -> None:
        """Take the shape of a whole event with the marker at `at`; lines end in LF, and it gives no finish reason.

        The text follows a marker that ends with the beginning of a string, and is the last string that is no key behind
        any other. A stream whose events are all different is given up.
        """
        if not self._attempts:
            return
        begin = at + len(marker)
        if marker.endswith((b':"', b': "')):
            end = event.find(b'"', begin)
        else:
            end = event.rfind(b'"')
            for _ in range(_KEYS_BEHIND):
                if end > begin and event.startswith(_KEY_END, end):
                    end = event.rfind(b'"', 0, event.rfind(b'"', 0, end))
            begin = max(begin, event.rfind(b'"', 0, end) + 1)
        if event.find(b"\\", begin - 2, end) >= 0:
            return  # one of the two quotes may be in the text
        self._attempts -= 1
        before, after = event[:begin], event[end:]
        # With some texts, those two would give a finish reason; a string that is empty here may be one.
        if begin < end and before.endswith(b'"') and not before.endswith(_FINISH) and not after.startswith(_KEY_END):
            self._before, self._after = before, after
