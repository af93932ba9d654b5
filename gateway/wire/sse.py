"""Reading a stream of server-sent events as it passes: bytes in, whole events out, counted and classified.

The hot path of the gateway. After the first content event nothing is parsed: an event counts as content when it holds
the same marker (such as `"content":"`) followed by something other than the closing quote. A raw quote cannot stand
inside a JSON string, so a marker found in the bytes is never a piece of somebody's text. Only whole events are handed
on; the start of an event stays here until its end has come, so that an error event can always be put between two
events, and a usage chunk taken out. Framing is that of the HTML standard, section 9.2.6.
"""

import re
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.exchange import Dialect
from gateway.wire.answer_progress import DONE, AnswerProgress
from gateway.wire.event_shape import EventShape
from gateway.wire.grammars import GRAMMARS, Marker
from gateway.wire.long_event import LONG, MAX_EVENT, EventTooLarge, LongEvent, abridged
from gateway.wire.usage_chunk import UsageChunk, has_no_choices

if TYPE_CHECKING:
    from mypy_extensions import i64

_QUOTE: Final = 0x22
_LF: Final = 0x0A
_SPACE: Final = 0x20
_DONE_EVENT: Final = b"data: [DONE]\n\n"
_BOM: Final = b"\xef\xbb\xbf"
_LAST_EVENTS: Final = 3
_MOST_ODD: Final = 8
"""Chunks of a read that are looked at singly, although they hold no event like those before."""
_NEEDLE: Final = 100
_FRAMING: Final = re.compile(rb"(?:\r\n|\r(?!\n)|\n)(?:\r\n|\r(?!\n)|\n)")
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_NO_MARKER: Final = Marker(b"\n\n\n", 2)
"""What no event has. Events of several choices are all looked at closely, for which of them they are."""


class Scanner:
    """Follows one stream. `feed` returns what may be passed on; what the events say is in `progress`.

    `content`: content events in the last feed. `surplus`: what still comes is dropped: there were bytes after the end,
    or the answer failed.
    """

    __slots__ = (
        "_kept",
        "_long",
        "_marker",
        "_most",
        "_shape",
        "_strips_usage",
        "_tail",
        "_usage_chunk",
        "content",
        "progress",
        "surplus",
    )

    def __init__(
        self,
        dialect: Dialect,
        *,
        strip_usage: bool = False,
        choices: int = 1,
        max_event: int = MAX_EVENT,
        stored: bool = False,
    ) -> None:
        self.progress: Final = AnswerProgress(dialect, choices=choices, stored=stored)
        self._strips_usage: Final = strip_usage
        self._usage_chunk: UsageChunk | None = None  # made near the end: most of the time a stream has none
        self._tail = b""
        self._kept = 0
        """How much of the tail is the last event of the output, which waits for the usage chunk."""
        self._long: LongEvent | None = None
        self._most: Final = max_event
        self._marker = GRAMMARS[dialect].marker if choices == 1 else _NO_MARKER
        self._shape: EventShape | None = None
        self.content = 0
        self.surplus = False

    def __repr__(self) -> str:
        return f"<Scanner {len(self._tail)} bytes held, {self.progress!r}>"

    def knows(self, piece: bytes) -> bool:
        """Whether this is one content event like those before, which may be passed on without being fed."""
        shape = self._known_shape()
        return shape is not None and shape.has(piece)

    def feed(self, data: bytes) -> bytes:
        """Take bytes as they were read and return those to pass on: whole events, unchanged.

        Raises EventTooLarge and AnswerAborted.
        """
        if self.knows(data):
            self.content = 1
            return data
        self.content = 0
        return self._take(data)

    def feed_all(self, pieces: list[bytes]) -> list[bytes]:
        """Take what was read, as its engine had cut it, and return what to pass on: the same as from all of it in one.

        Most engines send each event in a chunk of its own. Raises EventTooLarge and AnswerAborted.
        """
        if len(pieces) == 1:
            out = self.feed(pieces[0])
            return pieces if out is pieces[0] else [out] if out else []
        self.content = known = odd = 0
        passed: list[bytes] = []
        shape = self._known_shape()
        for at, piece in enumerate(pieces):
            if shape is not None and shape.has(piece):
                known += 1
                passed.append(piece)
            elif odd < _MOST_ODD and at < len(pieces) - _LAST_EVENTS:
                odd += 1
                if out := self._take(piece):
                    passed.append(out)
                shape = self._known_shape()
            else:
                if out := self._feed(b"".join(pieces[at:])):
                    passed.append(out)
                break
        self.content += known
        return passed

    def flush(self) -> bytes:
        """Return what is left when the framing has ended; an engine may leave out the last blank line.

        It is put in where something is to follow, and half an event is dropped: no client could read it.
        """
        last, self.content = self.release(), 0
        if self._long is None and not self._tail:
            return self._stamped(last)
        rest = self._tail if self._long is None else self._long.whole()
        self._tail, self._long = b"", None
        if not _is_whole(_data(rest)) or self._event(abridged(rest, 0, len(rest))):
            return self._stamped(last)
        return self._stamped(last) + rest + (b"" if self.progress.done else b"\n\n")

    def release(self) -> bytes:
        """Return the last event of the output, if it is kept back until the usage chunk comes."""
        kept, self._kept = self._kept, 0
        out, self._tail = self._tail[:kept], self._tail[kept:]
        return out

    def _known_shape(self) -> EventShape | None:
        """Return what content events look like, as long as a read may begin with one."""
        return self._shape if len(self._tail) == 0 and not self.progress.done else None

    def _take(self, data: bytes) -> bytes:
        """Look first whether this is a content event, as most reads are."""
        if not self._tail and data.endswith(b"\n\n"):
            marker = self._marker.text
            at = data.find(marker)
            whole = at > 0 and _end_of_event(data, 0) == len(data) and data.find(b"\r") < 0
            if whole and data[at + len(marker)] != _QUOTE and not self.progress.done:
                return self._take_content(data, at)
        return self._feed(data)

    def _take_content(self, event: bytes, at: int) -> bytes:
        """Take a content event with the marker at `at`, the only event of its read."""
        self.content += 1
        reason = self._finish_reason(event)
        if not reason:
            if self._shape is None:
                self._shape = EventShape()  # the first event has the role too, and those of an idle stream have no next
            else:
                self._shape.learn(event, self._marker.text, at)
            return event
        self._finished(event, reason)
        if self._strips_usage and self.progress.all_finished:
            self._tail, self._kept = event, len(event)
            return b""
        return event

    def _feed(self, data: bytes) -> bytes:
        if self._long is None:
            buffer = self._tail + data if self._tail else data
        elif self._long.add(data):
            buffer, self._long = self._long.whole(), None
        else:
            return b""
        if buffer.find(b"\r") >= 0:
            ends = [match.end() for match in _FRAMING.finditer(buffer)]
            if ends and ends[-1] == len(buffer) and buffer.endswith(b"\r") and buffer.find(b"\n") >= 0:
                ends.pop()  # this CR may be half of a CRLF; where lines end in CR alone the event is whole
            end = ends[-1] if ends else 0
        else:
            ends = None
            last = buffer.rfind(b"\n\n")
            end = last + 2 if last >= 0 else 0
        self._tail = buffer[end:]
        if len(self._tail) > self._most:
            raise EventTooLarge(self._most)
        if len(self._tail) > LONG and (end or not self._kept):
            self._long = LongEvent(self._tail, self._most)
        kept, self._kept = self._kept, 0
        return self._walk(buffer[:end], ends, kept) if end else b""

    def _walk(self, block: bytes, ends: list[int] | None, kept: int) -> bytes:
        """Classify every event of a block of whole events; `ends` where framing is not LF alone. Return what stays.

        The first `kept` bytes have been classified. Where the usage chunk is to be taken out, the last event of the
        output waits for it: vLLM puts `system_fingerprint` into the last chunk, and a client that did not ask for usage
        gets it there.
        """
        dropped: list[tuple[int, int]] = []
        progress, at, size, runs, nth = self.progress, kept, len(block), ends is None, 0
        last = 0 if kept else -1
        while at < size:
            if runs and at and not progress.done:
                at = self._run(block, at)
                runs = False
            if ends is None:
                end = _end_of_event(block, at)
            else:
                while ends[nth] <= at:
                    nth += 1
                end = ends[nth]
            if end <= at:
                end = size  # a lone LF is left where a block ends in three of them
            if end - at > self._most:
                raise EventTooLarge(self._most)
            whole = progress.all_finished
            if self._event(abridged(block, at, end)):
                dropped.append((at, end))
            elif self._strips_usage and not whole and progress.all_finished:
                last = at
            at = end
        if last >= 0:
            return self._without_usage(block, last, dropped)
        return _without(block, dropped, 0, size) if dropped else block

    def _without_usage(self, block: bytes, last: int, dropped: list[tuple[int, int]]) -> bytes:
        """Return what may go out of a block whose event at `last` ended the output: all, or what came before it."""
        before = _without(block, dropped, 0, last)
        if not (self.progress.done or any(start >= last for start, _ in dropped)):
            self._tail, self._kept = block[last:] + self._tail, len(block) - last
            return before
        return before + self._stamped(_without(block, dropped, last, len(block)))

    def _run(self, block: bytes, at: int) -> int:
        """Count a long run of plain content events at once and return where it ends: `at` when there is none.

        A run is plain when it has as many markers as its lines make events. The first event of a block and the last few
        are left out, since a stream's special events stand there.
        """
        stop = len(block)
        if stop - at < _LAST_EVENTS * at or self.progress.choices > 1:
            # As far as the first event tells, few follow; or finish reasons may stand anywhere, several in an event.
            return at
        for _ in range(_LAST_EVENTS):
            stop = block.rfind(b"\n\n", at, stop - 2) + 2
            if stop <= at + 1:
                return at
        if block.find(b"\n\n\n", stop - 2) >= 0:
            return at  # blank lines stand for some of the last events
        marker = block.rfind(self._marker.text, at, stop)
        if marker < 0:
            return at
        last = marker + len(self._marker.text)
        # The bytes before the output repeat too, and a longer needle is found faster.
        begin = max(at, last - _NEEDLE)
        needle = block[begin:last]
        events = block.count(needle, at, stop)
        if events * self._marker.lines != block.count(b"\n", at, stop) or block.find(needle + b'"', at, stop) >= 0:
            return at
        if block.find(self._marker.finish, begin, stop) < 0:  # else the output ends here, and more than usual follows
            self.content += events
            at = stop
        return at

    def _event(self, event: bytes) -> bool:
        """Classify one event and tell whether it is to be dropped."""
        progress = self.progress
        if progress.done:
            return self._after_the_end(event)
        marker, ends = self._marker.text, event == _DONE_EVENT
        at = -1 if ends else event.find(marker)
        if at >= 0 and event[at + len(marker) : at + len(marker) + 1] != b'"':
            self.content += 1
            if reason := self._finish_reason(event):
                self._finished(event, reason)
            return False
        data = DONE if ends else _data(event)
        if not data:
            return False
        if data == DONE:
            progress.end()
            return False
        if progress.note_usage(data) and has_no_choices(data):
            return self._strips_usage and self._awaited().recognises(data)
        self._look(event, data)
        return False

    def _after_the_end(self, event: bytes) -> bool:
        if self.progress.may_follow(_data(event)):
            return False
        self.surplus = True
        return True

    def _finish_reason(self, event: bytes) -> int:
        """Return where the finish reason of a whole content event begins, behind its quotation mark; 0 without one."""
        finish = self._marker.finish
        at = event.find(finish)
        if at < 0:
            return 0
        at += len(finish)
        return at if at < len(event) and event[at] != _QUOTE else 0

    def _finished(self, event: bytes, reason: int) -> None:
        """Take a content event with a finish reason that begins there; some engines tell the usage beside it."""
        self.progress.finish(event, reason)
        self.progress.note_usage(event)
        if self._strips_usage:
            self._awaited().follows(event)

    def _look(self, event: bytes, data: bytes) -> None:
        """Look closely at an event, and learn from the first content how the next is known at first sight."""
        progress = self.progress
        finished = progress.finished
        content = progress.look(data)
        if content is not None:
            self.content += 1
            if content[0] in event and progress.choices == 1:
                self._marker, self._shape = Marker(content[0], event.count(b"\n")), None
        if self._strips_usage and progress.finished > finished:
            self._awaited().follows(data)
        if progress.error is not None:
            self.surplus = True

    def _awaited(self) -> UsageChunk:
        """Return what knows the chunk that is to be taken out."""
        chunk = self._usage_chunk
        if chunk is None:
            chunk = self._usage_chunk = UsageChunk()
        return chunk

    def _stamped(self, last: bytes) -> bytes:
        """Return the last event of the output as its client gets it."""
        return self._usage_chunk.stamp(last) if self._usage_chunk is not None else last


def _end_of_event(block: bytes, at: int) -> int:
    """Return where the event that begins at `at` ends, in lines that end in LF; 1 where a blank line is missing."""
    # Most events have one line. One byte is looked for ten times as fast as two.
    end = block.find(b"\n", at) + 1
    if end > 0 and end < len(block) and block[end] == _LF:
        return end + 1
    return block.find(b"\n\n", at) + 2


def _without(block: bytes, dropped: list[tuple[int, int]], start: int, end: int) -> bytes:
    """Return the bytes from `start` to `end` less the ranges that are dropped."""
    parts: list[bytes] = []
    at = start
    for begin, stop in dropped:
        if start <= begin < end:
            parts.append(block[at:begin])
            at = stop
    parts.append(block[at:end])
    return b"".join(parts)


def _data(event: bytes) -> bytes:
    """Return an event's data; empty for a comment or a ping."""
    if event.startswith(b"data:") and event.find(b"\n") >= len(event) - 2 and event.find(b"\r") < 0:
        return _stripped(event)
    lines = _LINE_END.split(event.removeprefix(_BOM))
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))


def _is_whole(data: bytes) -> bool:
    """Whether there is data, and it is not half of what it seems to be."""
    if not data.startswith((b"{", b"[")) or data == DONE:
        return len(data) > 0
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except (ValueError, RecursionError):
        return False
    return True


def _stripped(event: bytes) -> bytes:
    """Return what follows `data:` in an event of one line, less the space around it."""
    begin: i64 = 5
    end: i64 = len(event)
    while end > begin and (event[end - 1] == _LF or event[end - 1] == _SPACE):
        end -= 1
    while begin < end and (event[begin] == _LF or event[begin] == _SPACE):
        begin += 1
    return event[begin:end]
