"""How far a streamed answer has got, by what its events say: output, finish reasons, tokens, an error, the end."""

import re
from typing import Final

from gateway.exchange import Dialect
from gateway.wire.error_status import error_code
from gateway.wire.given_up import event_given_up, gives_up, has_aborted_choice
from gateway.wire.grammars import GRAMMARS
from gateway.wire.usage import Usage, find_usage

DONE: Final = b"[DONE]"
_FINISH: Final = re.compile(rb'"finish_reason"\s*+:\s*+"(?!")')
_INDEX: Final = re.compile(rb'"index"\s*+:\s*+(\d{1,9}+)')
_MAY_BE_ERROR: Final = re.compile(rb'"error"|"error_type"|"type"\s*+:\s*+"response\.failed"')


class AnswerAborted(Exception):
    """The engine gave the answer up before its end."""


class AnswerProgress:
    """What the events of one answer have said so far. Its methods are given the data of one event at a time.

    `begun`: something has come that is no preamble. `finished`: choices seen to give a finish reason.
    `done`: the terminator, or an error, came. `error`: an error event's data, `error_code` its HTTP status (500 where
    it names none). `usage`: token counts seen. A `stored` answer may be a broken one.
    """

    __slots__ = (
        "_closed",
        "_given_up",
        "_grammar",
        "_judged_as",
        "_seen",
        "begun",
        "choices",
        "done",
        "error",
        "error_code",
        "finished",
        "usage",
    )

    def __init__(self, dialect: Dialect, *, choices: int = 1, stored: bool = False) -> None:
        self._grammar = GRAMMARS[dialect]
        self._judged_as = Dialect.PLAIN if stored else dialect
        self._seen: set[bytes] | None = set() if choices > 1 else None
        """The choices of which something has come, where there are several."""
        self._given_up = False
        self._closed = False
        self.choices: Final = choices
        self.begun = False
        self.finished = 0
        self.done = False
        self.error: bytes | None = None
        self.error_code = 0
        self.usage: Usage | None = None

    def __repr__(self) -> str:
        state = "failed" if self.error is not None else "done" if self.done else "begun" if self.begun else "waiting"
        return f"<AnswerProgress {state} finished {self.finished} of {self.choices}>"

    @property
    def all_finished(self) -> bool:
        """Whether every choice has given a finish reason."""
        return self.finished >= self.choices

    @property
    def complete(self) -> bool:
        """Whether the answer is whole: its terminator came, or a finish reason for every choice.

        An engine that knows no `n` gives one choice of those that were asked for.
        """
        if self.done or self.all_finished:
            return True
        return self._seen is not None and 0 < len(self._seen) <= self.finished

    @property
    def missing_end(self) -> bytes:
        """The end that a whole answer's clients wait for and its engine left out, as transformers serve does."""
        return b"" if self.done else self._grammar.terminator

    def look(self, data: bytes) -> re.Match[bytes] | None:
        """Take an event that is not known at first sight; return where its output is, None where it has none.

        Raises AnswerAborted.
        """
        content = self._grammar.content.search(data)
        if self._seen is not None:
            self._seen.update(_INDEX.findall(data))
        if content is not None:
            self.begun = True
        if _FINISH.search(data):
            self.finish(data)
        if content is None:
            self._without_output(data)
        return content

    def finish(self, event: bytes, reason: int = 0) -> None:
        """Count a finish reason. Raises AnswerAborted.

        `reason` is where it begins, behind its quotation mark, where that is known; 0 where it is not.
        """
        if gives_up(event, reason) if reason and self.choices == 1 else has_aborted_choice(event):
            raise AnswerAborted
        self.finished += 1
        self.begun = True

    def note_usage(self, data: bytes) -> bool:
        """Take the token counts of an event; return whether it has any."""
        usage = find_usage(data)
        if usage is None:
            return False
        self.usage = usage if self.usage is None else self.usage.updated(usage)
        return True

    def end(self) -> None:
        """Note that nothing more follows: the terminator has come, or an error."""
        self.done = self._closed = self.begun = True

    def may_follow(self, data: bytes) -> bool:
        """Whether this may follow the end: nothing but a `[DONE]` behind a dialect's own end event."""
        if self._closed or data != DONE:
            return False
        self._closed = True
        return True

    def _without_output(self, data: bytes) -> None:
        grammar = self._grammar
        if _MAY_BE_ERROR.search(data) and (code := error_code(data)):
            # Whatever an engine still says (vLLM says `[DONE]`), the answer has failed and ends here.
            self.error, self.error_code = data, code
            self.end()
        elif grammar.end is not None and grammar.end.search(data):
            if self._given_up or event_given_up(self._judged_as, data, begun=self.begun):
                raise AnswerAborted
            self.done = self.begun = True
        elif grammar.preamble is not None and not grammar.preamble.search(data):
            self._given_up = event_given_up(self._judged_as, data, begun=self.begun)
            self.begun = self.begun or not self._given_up
