"""Kinds of requests, by endpoint, class and `max_tokens`: how long they hold a slot, and how long their answers are."""

from bisect import bisect_right
from math import ceil

SAMPLES = 256
FEWEST = 5
"""Holding times below which nothing is said about a kind."""
FEWEST_ANSWERS = 50
"""Answers below which `max_tokens` is believed."""
SHARE = 0.9
_FRESH = 0.05
_STALE = 8
"""Samples since the last sorting that make another one worth it."""


class Kind:
    """Requests that hold a slot for about as long as each other. Learning is O(1); sorting waits until it is asked."""

    __slots__ = ("_answers", "_changed", "_ended", "_longest", "_new_answers", "_sorted", "_times", "mean")

    def __init__(self) -> None:
        self.mean = 0.0
        self._times: list[float] = []
        self._ended = 0
        self._sorted: list[float] = []
        self._changed = 0
        self._answers: list[int] = []
        self._new_answers = 0
        self._longest: int | None = None

    def __repr__(self) -> str:
        return f"<Kind held for {self.mean:.2f} s, answers up to {self.longest}>"

    @property
    def is_known(self) -> bool:
        """Whether enough have ended."""
        return self._ended >= FEWEST

    def ended(self, seconds: float) -> None:
        """Learn that one held its slot for so long."""
        self.mean += (seconds - self.mean) * (_FRESH if self._ended else 1.0)
        if self._ended < SAMPLES:
            self._times.append(seconds)
        else:
            self._times[self._ended % SAMPLES] = seconds
        self._ended += 1
        self._changed += 1

    def answered(self, tokens: int) -> None:
        """Learn how many tokens an answer had."""
        self._answers.append(tokens)
        self._new_answers += 1
        if len(self._answers) >= 2 * SAMPLES:
            del self._answers[:SAMPLES]

    @property
    def longest(self) -> int | None:
        """The answer that nine in ten do not exceed, in tokens; None while fewer than 50 are known."""
        if self._new_answers >= _STALE and len(self._answers) >= FEWEST_ANSWERS:
            latest = sorted(self._answers[-SAMPLES:])
            self._longest = latest[ceil(SHARE * len(latest)) - 1]
            self._new_answers = 0
        return self._longest

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
        if self._changed >= _STALE or len(self._sorted) < min(self._ended, FEWEST):
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
        key = endpoint, service_class, min(size, 16)
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = Kind()
        return kind
