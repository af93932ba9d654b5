"""Whether a failed attempt is followed by another, and when. SRE book, chapter 21; finagle's RetryBudget."""

from typing import Final

from gateway.policy.routing.pick import Chance

MAX_RETRIES: Final = 2
SHARE: Final = 0.2
AT_LEAST: Final = 3.0
"""Retries per second that are always allowed, so that a quiet gateway retries too."""
WINDOW: Final = 10
FIRST_PAUSE: Final = 0.025
LONGEST_PAUSE: Final = 1.0
_MOST_DOUBLINGS: Final = 20


def may_retry(*, worth: bool, attempts: int, committed: bool, time_left: float) -> bool:
    """Return whether to try another backend after `attempts` tries.

    `worth` says that another backend may do better. Never once part of the answer has gone to the client (`committed`),
    nor without time left (seconds).
    """
    return worth and not committed and attempts <= MAX_RETRIES and time_left > 0


def pause(retries: int, rng: Chance, longest: float = LONGEST_PAUSE) -> float:
    """Return seconds to wait before retry number `retries` (from 1): exponential, and anything up to that by chance."""
    return min(longest, FIRST_PAUSE * 2.0 ** min(retries - 1, _MOST_DOUBLINGS)) * rng.random()


class RetryBudget:
    """Retries may be a fifth of the requests of the last ten seconds, or three a second: no outage is multiplied.

    `requests` and `retries` are of those ten seconds, `refused` counts since the start.
    """

    __slots__ = ("_requests", "_retries", "_second", "refused", "requests", "retries")

    def __init__(self) -> None:
        self.requests = 0
        self.retries = 0
        self.refused = 0
        self._requests = [0] * WINDOW
        self._retries = [0] * WINDOW
        self._second = 0

    def __repr__(self) -> str:
        return f"<RetryBudget {self.retries} retries of {self.requests} requests in {WINDOW} s>"

    def request(self, now: float) -> None:
        """Count a request at `now` (seconds)."""
        second = int(now)
        if second != self._second:
            self._advance(second)
        self._requests[second % WINDOW] += 1
        self.requests += 1

    def allows(self, now: float) -> bool:
        """Return whether one more retry fits at `now` (seconds)."""
        self._advance(int(now))
        return self.retries < max(SHARE * self.requests, AT_LEAST * WINDOW)

    def take(self, now: float) -> bool:
        """Return whether one more retry fits at `now` (seconds), and count it when it does."""
        if not self.allows(now):
            self.refused += 1
            return False
        self._retries[self._second % WINDOW] += 1
        self.retries += 1
        return True

    def _advance(self, second: int) -> None:
        for passing in range(max(self._second + 1, second - WINDOW + 1), second + 1):
            at = passing % WINDOW
            self.requests -= self._requests[at]
            self.retries -= self._retries[at]
            self._requests[at] = self._retries[at] = 0
        self._second = max(self._second, second)
