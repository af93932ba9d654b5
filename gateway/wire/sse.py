"""Reading a stream of server-sent events as it passes: bytes in, whole events out, counted and classified.

The hot path of the gateway. After the first content event nothing is parsed: an event counts as content when it holds
the same marker (such as `"content":"`) followed by something other than the closing quote. A raw quote cannot stand
inside a JSON string, so a marker found in the bytes is never a piece of somebody's text. Only whole events are handed
on; the start of an event stays here until its end has come, so that an error event can always be put between two
events, and a usage chunk taken out. Framing is that of the HTML standard, section 9.2.6.
"""

import re

from gateway.exchange import Dialect
from gateway.wire.error_status import error_code
from gateway.wire.given_up import ABORTED, event_given_up
from gateway.wire.grammars import GRAMMARS, Grammar
from gateway.wire.long_event import LONG, MAX_EVENT, EventTooLarge, LongEvent, abridged
from gateway.wire.usage import Usage, find_usage

_QUOTE = 0x22
_BOM = b"\xef\xbb\xbf"
_LAST_EVENTS = 3
_NEEDLE = 100
_FRAMING = re.compile(rb"(?:\r\n|\r(?!\n)|\n)(?:\r\n|\r(?!\n)|\n)")
_LINE_END = re.compile(rb"\r\n|\r|\n")
_DONE = b"[DONE]"
_DONE_EVENT = b"data: [DONE]\n\n"
_END_WITH_DONE = frozenset((Dialect.CHAT, Dialect.COMPLETIONS))
_FINISH = re.compile(rb'"finish_reason"\s*+:\s*+"')
_ID = re.compile(rb'"id"\s*+:\s*+"([^"]*+)"')
_FINGERPRINT = re.compile(rb'"system_fingerprint"\s*+:\s*+"(?:[^"\\]|\\.)*+"')
_INDEX = re.compile(rb'"index"\s*+:\s*+(\d{1,9}+)')
_NO_MARKER = b"\n\n\n"
"""What no event has. Events of several choices are all looked at closely, for which of them they are."""
_NO_CHOICES = re.compile(rb'"choices"\s*+:\s*+\[\s*+\]')
_MAY_BE_ERROR = re.compile(rb'"error"|"error_type"|"type"\s*+:\s*+"response\.failed"')


class AnswerAborted(Exception):
    """The engine gave the answer up before its end."""


class Scanner:
    """Follows one stream. `feed` returns what may be passed on and leaves its findings in the attributes.

    `content`: content events in the last feed. `begun`: something that is neither preamble nor output has come.
    `finished`: choices seen to give a finish reason. `done`: the terminator, or an error, came. `error`: an error
    event's data, `error_code` its HTTP status (500 where it names none). `usage`: token counts seen. `surplus`: what
    still comes is dropped: there were bytes after the end, or the answer failed. A `stored` answer may be a broken one.
    """

    __slots__ = (
        "_begun",
        "_choices",
        "_closed",
        "_ends_with_done",
        "_fingerprint",
        "_finish",
        "_given_up",
        "_grammar",
        "_id",
        "_judged_as",
        "_kept",
        "_lines",
        "_long",
        "_marker",
        "_most",
        "_strip_usage",
        "_tail",
        "begun",
        "content",
        "done",
        "error",
        "error_code",
        "finished",
        "surplus",
        "usage",
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
        self._grammar = grammar = GRAMMARS[dialect]
        self._strip_usage = strip_usage
        self._tail = b""
        self._long: LongEvent | None = None
        self._most = max_event
        self._marker = grammar.marker if choices == 1 else _NO_MARKER
        self._finish = b'"finish_reason":"'
        self._lines = grammar.lines
        self._choices = choices
        self._begun: set[bytes] | None = set() if choices > 1 else None
        self._ends_with_done = dialect in _END_WITH_DONE
        self._judged_as = Dialect.PLAIN if stored else dialect
        self._given_up = False
        self._closed = False
        self._kept = 0
        self._id: re.Match[bytes] | None = None
        self._fingerprint: re.Match[bytes] | None = None
        self.content = 0
        self.begun = False
        self.finished = 0
        self.done = False
        self.error: bytes | None = None
        self.error_code = 0
        self.usage: Usage | None = None
        self.surplus = False

    def feed(self, data: bytes) -> bytes:
        """Take bytes as they were read and return those to pass on: whole events, unchanged.

        Raises EventTooLarge and AnswerAborted.
        """
        marker = self._marker
        if not self._tail and data[-2:] == b"\n\n" and data.find(b"\n\n") == len(data) - 2:
            at = data.find(marker)
            if at > 0 and data[at + len(marker)] != _QUOTE and b"\r" not in data and not self.done:
                self.content = 1
                if self._finish in data:
                    self._finished(data)
                    if self._strip_usage and self.finished >= self._choices:
                        self._tail, self._kept = data, len(data)
                        return b""
                return data
        self.content = 0
        return self._feed(data)

    @property
    def complete(self) -> bool:
        """Whether the answer is whole: its terminator came, or a finish reason for every choice.

        An engine that knows no `n` gives one choice of those that were asked for.
        """
        if self.done or self.finished >= self._choices:
            return True
        return self._begun is not None and 0 < len(self._begun) <= self.finished

    @property
    def missing_end(self) -> bytes:
        """The end that a whole answer's clients wait for and its engine left out, as transformers serve does."""
        return b"" if self.done or not self._ends_with_done else _DONE_EVENT

    def flush(self) -> bytes:
        """Return what is left when the framing has ended; an engine may leave out the last blank line."""
        last, self.content = self.release(), 0
        rest = self._tail if self._long is None else self._long.whole()
        self._tail, self._long = b"", None
        dropped = not rest or self._event(abridged(rest, 0, len(rest)))
        return (_stamped(last, self._fingerprint) if last else b"") + (b"" if dropped else rest)

    def release(self) -> bytes:
        """Return the last event of the output, if it is kept back until the usage chunk comes."""
        kept, self._kept = self._kept, 0
        out, self._tail = self._tail[:kept], self._tail[kept:]
        return out

    def _feed(self, data: bytes) -> bytes:
        if self._long is None:
            buffer = self._tail + data if self._tail else data
        elif self._long.add(data):
            buffer, self._long = self._long.whole(), None
        else:
            return b""
        if b"\r" in buffer:
            ends = [match.end() for match in _FRAMING.finditer(buffer)]
            if ends and ends[-1] == len(buffer) and buffer.endswith(b"\r") and b"\n" in buffer:
                ends.pop()  # this CR may be half of a CRLF; where lines end in CR alone the event is whole
            end = ends[-1] if ends else 0
        else:
            ends = None
            end = buffer.rfind(b"\n\n") + 2 if b"\n\n" in buffer else 0
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
        at, size, runs = kept, len(block), ends is None
        last = 0 if kept else -1
        remaining = (each for each in ends or () if each > kept)
        while at < size:
            if runs and at and not self.done:
                at = self._run(block, at)
                runs = False
            end = block.find(b"\n\n", at) + 2 if ends is None else next(remaining)
            if end <= at:
                end = size  # a lone LF is left where a block ends in three of them
            if end - at > self._most:
                raise EventTooLarge(self._most)
            whole = self.finished >= self._choices
            if self._event(abridged(block, at, end)):
                dropped.append((at, end))
            elif self._strip_usage and not whole and self.finished >= self._choices:
                last = at
            at = end
        if last >= 0:
            return self._without_usage(block, last, dropped)
        return _without(block, dropped, 0, size) if dropped else block

    def _without_usage(self, block: bytes, last: int, dropped: list[tuple[int, int]]) -> bytes:
        """Return what may go out of a block whose event at `last` ended the output: all, or what came before it."""
        before = _without(block, dropped, 0, last)
        if not (self.done or any(start >= last for start, _ in dropped)):
            self._tail, self._kept = block[last:] + self._tail, len(block) - last
            return before
        return before + _stamped(_without(block, dropped, last, len(block)), self._fingerprint)

    def _run(self, block: bytes, at: int) -> int:
        """Count a long run of plain content events at once and return where it ends: `at` when there is none.

        A run is plain when it has as many markers as its lines make events. The first event of a block and the last few
        are left out, since a stream's special events stand there.
        """
        if self._choices > 1:
            return at  # finish reasons may stand anywhere, and an event may hold several choices
        stop = len(block)
        for _ in range(_LAST_EVENTS):
            stop = block.rfind(b"\n\n", at, stop - 2) + 2
            if stop <= at + 1:
                return at
        if block.find(b"\n\n\n", stop - 2) >= 0:
            return at  # blank lines stand for some of the last events
        marker = block.rfind(self._marker, at, stop)
        if marker < 0:
            return at
        last = marker + len(self._marker)
        # The bytes before the output repeat too, and a longer needle is found faster.
        needle = block[max(at, last - _NEEDLE) : last]
        events = block.count(needle, at, stop)
        if events * self._lines != block.count(b"\n", at, stop) or block.find(needle + b'"', at, stop) >= 0:
            return at
        self.content += events
        return stop

    def _event(self, event: bytes) -> bool:
        """Classify one event and tell whether it is to be dropped."""
        if self.done:
            return self._after_the_end(event)
        marker = self._marker
        at = event.find(marker)
        if at >= 0 and event[at + len(marker) : at + len(marker) + 1] != b'"':
            self.content += 1
            if self._finish in event:
                self._finished(event)
            return False
        data = _data(event)
        if not data:
            return False
        if data == _DONE:
            self.done = self._closed = self.begun = True
            return False
        if self._note_usage(data) and _NO_CHOICES.search(data) is not None:
            return self._strip_usage and self._is_of_this_stream(data)
        self._look_closely(event, data)
        return False

    def _finished(self, event: bytes) -> None:
        """Count a finish reason; some engines tell the usage beside it."""
        if ABORTED.search(event):
            raise AnswerAborted
        self.finished += 1
        self._note_usage(event)
        if self._strip_usage:
            self._id = _ID.search(event)

    def _is_of_this_stream(self, usage: bytes) -> bool:
        """Whether a chunk with usage and without choices is the one that was asked for: it has the stream's id."""
        mine, its = self._id, _ID.search(usage)
        if mine is not None and its is not None and mine[1] != its[1]:
            return False
        self._fingerprint = _FINGERPRINT.search(usage)
        return True

    def _note_usage(self, data: bytes) -> bool:
        usage = find_usage(data)
        if usage is None:
            return False
        self.usage = usage if self.usage is None else self.usage.updated(usage)
        return True

    def _after_the_end(self, event: bytes) -> bool:
        """Only a `[DONE]` may follow a dialect's own end event."""
        if not self._closed and _data(event) == _DONE:
            self._closed = True
            return False
        self.surplus = True
        return True

    def _look_closely(self, event: bytes, data: bytes) -> None:
        grammar = self._grammar
        content = grammar.content.search(data)
        if self._begun is not None:
            self._begun.update(_INDEX.findall(data))
        if content is not None:
            self.content += 1
            self.begun = True
            if content[0] in event and self._choices == 1:
                self._marker = content[0]
                self._lines = event.count(b"\n")
                self._finish = b'"finish_reason": "' if b": " in content[0] else b'"finish_reason":"'
        if _FINISH.search(data):
            if ABORTED.search(data):
                raise AnswerAborted
            self.finished += 1
            self.begun = True
            if self._strip_usage:
                self._id = _ID.search(data)
        if content is None:
            self._without_output(grammar, data)

    def _without_output(self, grammar: Grammar, data: bytes) -> None:
        if _MAY_BE_ERROR.search(data) and (code := error_code(data)):
            # Whatever an engine still says (vLLM says `[DONE]`), the answer has failed and ends here.
            self.error, self.error_code = data, code
            self.done = self._closed = self.begun = self.surplus = True
        elif grammar.end is not None and grammar.end.search(data):
            if self._given_up or event_given_up(self._judged_as, data, begun=self.begun):
                raise AnswerAborted
            self.done = self.begun = True
        elif grammar.preamble is not None and not grammar.preamble.search(data):
            self._given_up = event_given_up(self._judged_as, data, begun=self.begun)
            self.begun = self.begun or not self._given_up


def _without(block: bytes, dropped: list[tuple[int, int]], start: int, end: int) -> bytes:
    """Return the bytes from `start` to `end` less the ranges that are dropped."""
    inside = [each for each in dropped if start <= each[0] < end]
    starts, ends = [start, *(stop for _, stop in inside)], [*(begin for begin, _ in inside), end]
    return b"".join([block[a:b] for a, b in zip(starts, ends, strict=True)])


def _stamped(event: bytes, fingerprint: re.Match[bytes] | None) -> bytes:
    """Return a chunk with the `system_fingerprint` that stood in the usage chunk, unless it has its own."""
    if fingerprint is None or b'"system_fingerprint"' in event or b"{" not in event:
        return event
    return event.replace(b"{", b"{%b," % fingerprint[0], 1)


def _data(event: bytes) -> bytes:
    """Return an event's data; empty for a comment or a ping."""
    if event.startswith(b"data:") and event.find(b"\n") >= len(event) - 2 and b"\r" not in event:
        return event[5:].strip(b" \n")
    lines = _LINE_END.split(event.removeprefix(_BOM))
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
