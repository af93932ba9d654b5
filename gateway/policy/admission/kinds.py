"""Kinds of requests, by endpoint, class and `max_tokens`: how long they hold a slot, and how long their answers are."""

from bisect import bisect_right
from collections import deque
from math import ceil
from typing import Final

SAMPLES: Final = 256
FEWEST: Final = 20
"""Holding times below which nothing is said about a kind: the mean of five is off by half as often as not."""
BLOCK: Final = 16
"""Holding times in a row whose mean tells a slow spell from the usual."""
FEWEST_ANSWERS: Final = 50
"""Answers from which on it is known how long nine in ten are."""
AMPLE: Final = 4
"""Times the model's mean answer that an answer of an unknown kind may come to: few are longer."""
SHARE: Final = 0.9
_FRESH: Final = 0.05
_STALE: Final = 8
_ANSWERS_STALE: Final = 16
"""Holding times, and answers, since the last sorting that make another one worth it."""
_FADING: Final = 0.99
"""What is left, after each answer, of what the slowest one took."""


class Kind:
    """Requests that hold a slot for about as long as each other, `mean` seconds.

    `longest` is the answer that nine in ten do not exceed, in tokens; None while fewer than 50 are known. Both are
    learnt and read with every request, so they are kept ready; holding times are sorted only when they are asked for.
    """

    __slots__ = (
        "_answers",
        "_block",
        "_blocks",
        "_changed",
        "_completed",
        "_due",
        "_slowest",
        "_so_far",
        "_sorted",
        "_times",
        "longest",
        "mean",
    )

    def __init__(self) -> None:
        self.mean = 0.0
        self.longest: int | None = None
        self._completed = 0
        self._slowest = 0.0
        self._times: deque[float] = deque(maxlen=SAMPLES)
        self._block: list[float] = []
        self._blocks: deque[float] = deque(maxlen=SAMPLES // BLOCK)
        self._sorted: list[float] = []
        self._changed = 0
        self._answers: list[int] = []
        self._so_far = 0
        self._due = FEWEST_ANSWERS

    def __repr__(self) -> str:
        return f"<Kind held for {self.mean:.2f} s, answers up to {self.longest}>"

    @property
    def usual(self) -> float:
        """How long they hold a slot while all is well: the lowest mean of a few in a row, of late; 0.0 unknown."""
        return min(self._blocks, default=self.mean)

    @property
    def is_known(self) -> bool:
        """Whether enough have ended."""
        return len(self._times) >= FEWEST

    def ended(self, seconds: float) -> None:
        """Learn that one held its slot for so long."""
        times = self._times
        self.mean += (seconds - self.mean) * max(_FRESH, 1.0 / (len(times) + 1))
        times.append(seconds)
        self._changed += 1
        self._block.append(seconds)
        if len(self._block) == BLOCK:
            self._blocks.append(sum(self._block) / BLOCK)
            self._block.clear()

    def answered(self, tokens: int) -> None:
        """Learn how many tokens an answer had."""
        answers = self._answers
        answers.append(tokens)
        self._so_far = max(self._so_far, tokens)
        if len(answers) >= self._due:
            del answers[:-SAMPLES]
            self.longest = sorted(answers)[ceil(SHARE * len(answers)) - 1]
            self._due = len(answers) + _ANSWERS_STALE

    def room(self, most: int, usual: int) -> int:
        """Return how many tokens to keep free for an answer of at most `most`; the model's mean answer is `usual`.

        As many as nine in ten need. Of an unknown kind not `most`, which clients state far above what they use, so that
        an idle engine would turn requests away until it is known: the longest so far, or four times what is usual.
        """
        return min(most, self.longest or max(self._so_far, AMPLE * usual))

    def completed(self, seconds: float) -> None:
        """Learn that an answer in one piece was whole after so many seconds at one backend."""
        self._completed += 1
        self._slowest = max(seconds, self._slowest * _FADING)

    @property
    def slowest(self) -> float | None:
        """What the slowest of these answers took of late, in seconds; None while fewer than 50 are known."""
        return self._slowest if self._completed >= FEWEST_ANSWERS else None

    def ends_within(self, age: float, seconds: float) -> float:
        """Return the chance that a request which has held its slot for `age` seconds gives it back within `seconds`.

        The share among those seen that lasted longer; beyond what was seen, a tail that gets the heavier with age:
        what has taken long goes on for long.
        """
        times = self._in_order()
        beyond = len(times) - (younger := bisect_right(times, age))
        if beyond < FEWEST:
            return 1.0 - (age / (age + seconds)) ** 1.5 if seconds > 0 else 0.0
        return (bisect_right(times, age + seconds) - younger) / beyond

    def _in_order(self) -> list[float]:
        if self._changed >= _STALE or len(self._sorted) < min(len(self._times), FEWEST):
            self._sorted = sorted(self._times)
            self._changed = 0
        return self._sorted


class Kinds:
    """The kinds of one model; there are as many as endpoints, classes and sixteen sizes of `max_tokens` make."""

    __slots__ = ("_kinds",)

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str, int], Kind] = {}

    def of(self, endpoint: str, service_class: str, max_tokens: int | None) -> Kind:
        """Return the kind of a request; `max_tokens` counts in steps of four."""
        size = 0 if max_tokens is None else (max_tokens.bit_length() + 1) // 2
        key = endpoint, service_class, size if size < 16 else 16
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = Kind()
        return kind
