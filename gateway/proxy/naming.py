"""The name of the model in answers: clients read the name that they asked for, not the engine's."""

import re
from typing import Final, Protocol

MODEL: Final = b'"model"'
_MODEL: Final = re.compile(rb'"model"\s*+:\s*+("(?:[^"\\]|\\.)*+")')

Renaming = tuple[bytes, bytes]
"""What stands in an answer, and what takes its place."""


class Namer(Protocol):
    """Says how the model is named in an answer."""

    def renaming(self, beginning: bytes) -> Renaming | None:
        """Return what has to be replaced in an answer that begins so; None where nothing has to. Asked once."""


class Naming:
    """Puts the name that a client asked for, `asked`, in the place of the engine's, `served`: both quoted, as in JSON.

    Some engines put a suffix behind theirs. A raw `"model"` is never a piece of somebody's text, but may be a key of
    metadata that the client sent; there it is left alone unless it holds the engine's name too.
    """

    __slots__ = ("_asked", "_is_right", "_served", "_usual")

    def __init__(self, asked: bytes, served: bytes) -> None:
        self._asked = asked
        self._usual = b'"model":' + asked
        self._served = served[:-1]
        self._is_right = asked.startswith(self._served)

    def renaming(self, beginning: bytes) -> Renaming | None:
        """Return what has to be replaced in an answer that begins so; None where nothing has to."""
        # Nearly always the client names the model as the engine does, and its name is the first. An alias that stands
        # first may be in metadata.
        at = beginning.find(MODEL) if self._is_right else -1
        if at >= 0 and beginning[at : at + len(self._usual)] == self._usual:
            return None
        for match in _MODEL.finditer(beginning):
            if match[1].startswith(self._served):
                return None if match[1] == self._asked else (match[0], match[0][: -len(match[1])] + self._asked)
        return None
