"""The chunk with token counts that the gateway asks for and takes out of the stream: its client did not ask for it."""

import re
from typing import Final

_ID: Final = re.compile(rb'"id"\s*+:\s*+"([^"]*+)"')
_FINGERPRINT: Final = re.compile(rb'"system_fingerprint"\s*+:\s*+"(?:[^"\\]|\\.)*+"')
_NO_CHOICES: Final = re.compile(rb'"choices"\s*+:\s*+\[\s*+\]')


def has_no_choices(data: bytes) -> bool:
    """Whether an event that has token counts has nothing else."""
    return data.find(b'"choices":[]') >= 0 or _NO_CHOICES.search(data) is not None


class UsageChunk:
    """Recognises the chunk, and keeps what the client is to get of it: vLLM puts `system_fingerprint` there."""

    __slots__ = ("_before", "_fingerprint")

    def __init__(self) -> None:
        self._before = b""
        self._fingerprint: re.Match[bytes] | None = None

    def __repr__(self) -> str:
        named = _ID.search(self._before)
        return f"<UsageChunk of {named[1].decode(errors='replace') if named is not None else 'any stream'}>"

    def follows(self, event: bytes) -> None:
        """Learn the id of the stream, from an event that gives a finish reason."""
        self._before = event

    def recognises(self, data: bytes) -> bool:
        """Whether a chunk with usage and without choices is the one that was asked for: it has the stream's id."""
        if not _begin_with_one_id(self._before, data):
            mine, its = _ID.search(self._before), _ID.search(data)
            if mine is not None and its is not None and mine[1] != its[1]:
                return False
        if data.find(b'"system_fingerprint"') >= 0:
            self._fingerprint = _FINGERPRINT.search(data)
        return True

    def stamp(self, event: bytes) -> bytes:
        """Return the last chunk of the output with the `system_fingerprint` of this one, unless it has its own."""
        fingerprint = self._fingerprint
        if fingerprint is None or event.find(b'"system_fingerprint"') >= 0 or event.find(b"{") < 0:
            return event
        return event.replace(b"{", b"{%b," % fingerprint[0], 1)


def _begin_with_one_id(event: bytes, data: bytes) -> bool:
    """Whether an event and the data of another begin with the same field, which is their id."""
    end = data.find(b",") + 1
    beginning = data[:end]
    return beginning.startswith(b'{"id":"') and beginning.endswith(b'",') and event[6 : 6 + end] == beginning
