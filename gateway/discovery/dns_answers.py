"""What answers of DNS mean for the targets of a name, one answer at a time: pure, with the time as an argument."""

from collections.abc import Hashable, Iterable
from typing import Final, Generic, TypeVar

T = TypeVar("T", bound=Hashable)

SHORTEST: Final = 1.0
LONGEST: Final = 60.0
"""Seconds between two questions, within which the TTL decides."""
AGAIN: Final = 5.0
"""Seconds until a name is asked for again that could not be, or does not exist, at most."""
ANSWERS: Final = 3
"""Answers in a row without an address by which it is gone: one answer may hold a part of them."""
MOST_ANSWERS: Final = 48
REMEMBERED: Final = 600.0
"""Seconds within which an address that comes back shows that its absence meant nothing."""
NOTHING_FOR: Final = 30.0
"""Seconds for which a name has to have no address, in ANSWERS answers or more, until it is believed."""


def until_next(ttl: float) -> float:
    """Return in how many seconds to ask again."""
    return min(max(ttl, SHORTEST), LONGEST)


def until_retry(failures: int) -> float:
    """Return in how many seconds to ask again after so many failures in a row."""
    return min(SHORTEST * 2.0 ** min(failures - 1, 8), AGAIN)


class AnswerHistory(Generic[T]):
    """The addresses of a name, of whatever kind, by its answers so far.

    An address is gone that was missing from three answers in a row. Where one comes back that was gone, answers hold
    only a part of all: from then on twice as many are needed.
    """

    def __init__(self) -> None:
        self._missing: dict[T, int] = {}
        self._gone: dict[T, float] = {}
        self._needed = ANSWERS
        self._nothing_since: float | None = None
        self._nothing = 0

    def __repr__(self) -> str:
        return f"<AnswerHistory of {len(self._missing)} addresses, gone after {self._needed} answers>"

    @property
    def addresses(self) -> frozenset[T]:
        """Those that count as there."""
        return frozenset(self._missing)

    def take(self, answer: Iterable[T], now: float) -> frozenset[T]:
        """Take the addresses of an answer, at least one; return all that count as there."""
        self._nothing_since, self._nothing = None, 0
        present = set(answer)
        self._gone = {each: since for each, since in self._gone.items() if now - since < REMEMBERED}
        if any(each in self._gone for each in present):
            self._needed = min(2 * self._needed, MOST_ANSWERS)
        for each in present:
            self._missing[each] = 0
            self._gone.pop(each, None)
        for each in self._missing.keys() - present:
            self._missing[each] += 1
            if self._missing[each] >= self._needed:
                del self._missing[each]
                self._gone[each] = now
        return self.addresses

    def take_nothing(self, now: float) -> bool:
        """Take an answer that says that there is no address; return whether that is to be believed by now."""
        self._nothing_since = now if self._nothing_since is None else self._nothing_since
        self._nothing += 1
        if self._nothing < ANSWERS or now - self._nothing_since < NOTHING_FOR:
            return False
        self._gone.update(dict.fromkeys(self._missing, now))
        self._missing.clear()
        return True
