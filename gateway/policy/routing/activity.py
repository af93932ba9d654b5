"""Whether a backend is at work."""

from typing import Final

from gateway.policy.routing.backoff import Backoff

RECENT: Final = 10.0
"""Seconds for which an answer, or a token, shows that a backend works; at least twice as long as an answer takes."""
MEMORY: Final = 30.0
"""Seconds after which the quickest first token begins to be forgotten; at twice as many it is."""
_FRESH: Final = 0.1
"""What the latest answer weighs in how long one takes."""


class QuickestTtft:
    """The shortest TTFT of late, in `seconds`; infinite before the first."""

    __slots__ = ("_before", "_latest", "_since")

    def __init__(self) -> None:
        self._before = self._latest = float("inf")
        self._since = float("-inf")

    def __repr__(self) -> str:
        return f"<QuickestTtft {self.seconds:.3f} s>"

    @property
    def seconds(self) -> float:
        """The shortest in seconds."""
        return min(self._before, self._latest)

    def add(self, now: float, ttft: float) -> None:
        """Learn of a first token, after so many seconds."""
        if now - self._since >= MEMORY:
            self._before, self._latest, self._since = self._latest, ttft, now
        elif ttft < self._latest:
            self._latest = ttft


class VainWait:
    """For how long requests that were given up have waited for a backend since it was last seen to work.

    Beside it goes how many answers the whole pool completed meanwhile.
    """

    __slots__ = ("_answers_before", "_seconds", "_until")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._until = float("-inf")
        self._answers_before = 0

    def __repr__(self) -> str:
        return f"<VainWait {self._seconds:.1f} s>"

    def add(self, since: float, now: float, *, worked_at: float, answers: int) -> tuple[float, int]:
        """Learn that a request which was sent at `since` was given up now; return for how long such requests waited.

        In seconds since it was last seen to work, at `worked_at`; and how many of the pool's `answers` came meanwhile.
        """
        if worked_at >= self._until:
            self._seconds, self._answers_before = 0.0, answers
        self._seconds += max(0.0, now - max(since, worked_at, self._until))
        self._until = now
        return self._seconds, max(0, answers - self._answers_before)


class Activity:
    """When one backend last showed that it works, and its `backoff` after refusals.

    `answers` counts those it completed. `asked_at` is when it last got a request while it had none; `worked_at` when
    the last first token or answer came; `woke_at` when it last did so after a stall; `seconds` how long an answer
    takes, of late; `quickest` is its shortest TTFT of late, `vain` the wait of requests that were given up. Times are
    seconds of the caller's clock.
    """

    __slots__ = (
        "_refused_all",
        "answers",
        "asked_at",
        "backoff",
        "quickest",
        "seconds",
        "vain",
        "woke_at",
        "worked_at",
    )

    def __init__(self) -> None:
        self.backoff = Backoff()
        self.quickest = QuickestTtft()
        self.vain = VainWait()
        self.worked_at = self.woke_at = self.asked_at = float("-inf")
        self.seconds = 0.0
        self.answers = 0
        self._refused_all = False

    def __repr__(self) -> str:
        return f"<Activity at {self.worked_at:.1f}, {self.backoff}>"

    def answered(self, now: float, seconds: float) -> None:
        """Learn that it completed an answer, and how long that took."""
        self.seconds += (seconds - self.seconds) * (_FRESH if self.seconds else 1.0)
        self.worked_at = now
        self.answers += 1
        self.backoff.reset()

    def began(self, now: float, ttft: float) -> None:
        """Learn of a first token, after so many seconds."""
        self.worked_at = now
        self.backoff.reset()
        self.quickest.add(now, ttft)

    def asked(self, now: float) -> None:
        """Learn of a request while it had none."""
        self.asked_at = now

    def worked(self, at: float) -> None:
        """Learn that it produced something then."""
        self.worked_at = max(self.worked_at, at)

    def woke(self, at: float) -> None:
        """Learn that it produced something after a stall."""
        self.woke_at = at

    @property
    def has_worked(self) -> bool:
        """Whether it ever produced anything."""
        return self.worked_at > float("-inf")

    def works(self, now: float) -> bool:
        """Whether it produced something recently enough to be called busy, not sick, when it refuses work."""
        return now - self.worked_at <= max(RECENT, 2 * self.seconds)

    def rested(self) -> None:
        """Learn that it has no request any more."""
        self._refused_all = self.worked_at < self.asked_at <= self.backoff.refused_at

    def begins(self, now: float) -> bool:
        """Whether it was idle until just now, and did not refuse all that it was asked for the last time.

        A burst that is more than it takes is refused before the rest of it can show that it works.
        """
        return not self._refused_all and now - self.asked_at <= RECENT

    def works_despite(self, silence: float, now: float) -> bool:
        """Whether it is at work although it is silent to probes: it produced something after the first had no answer.

        One that is stopped or hangs is silent to everyone at once.
        """
        return self.worked_at > silence and self.works(now)
