"""A pool without a ready engine whose requests wait until one is woken: when to wake it, and for how long to hope."""

from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil, inf
from typing import Final

PAUSE: Final = 30.0
"""Seconds after a wake in vain in which requests are refused at once, before one of them has the pool woken again.

Also those for which an engine that took no connection is not taken for ready, whatever its probes say.
"""
LONGEST_RETRY_AFTER: Final = 60
_NEARLY: Final = 1.0
"""Seconds before its end in which a wake counts as one in vain: what looks at it comes after its first requests."""
LONGEST_BACKOFF: Final = 10.0
"""Seconds after which a request that is held is sent at the latest to an engine that took no connection before."""


class Way(StrEnum):
    """How an engine is woken: by what reads the want of one, by vLLM's `/wake_up`, or by a webhook."""

    CAPACITY = "capacity"
    ENGINES = "engines"
    WEBHOOK = "webhook"


@dataclass(frozen=True, slots=True)
class ScaleFromZero:
    """How a pool holds requests while none of its engines is ready.

    At most `max_held` of them wait, in each process, for `hold` seconds at most. `warm_up` is how long an engine takes
    to start, in seconds, as far as the routes say.
    """

    max_held: int = 200
    hold: float = 300.0
    way: Way = Way.CAPACITY
    webhook: str = field(default="", repr=False)
    warm_up: float = 0.0


FROM_ZERO: Final = ScaleFromZero()
"""What holds where a pool does not say."""


class Waking:
    """What is known of one pool's cold starts.

    `held` requests wait for an engine. The pool is being woken since `since`, None while it is not. `begun` counts the
    wakes, `served` and `failed` how they ended, `refused` the requests that were not held because too many were. `took`
    is how long the last wake took that served, in seconds, 0.0 before the first. A request that can use one backend
    alone has that one `preferred`, "" where any will do.
    """

    __slots__ = (
        "_refused_at",
        "_rests_until",
        "begun",
        "failed",
        "held",
        "preferred",
        "refused",
        "served",
        "settings",
        "since",
        "took",
    )

    def __init__(self, settings: ScaleFromZero) -> None:
        self.settings = settings
        self.held = 0
        self.since: float | None = None
        self.took = 0.0
        self.begun = self.served = self.failed = self.refused = 0
        self.preferred = ""
        self._refused_at = self._rests_until = -inf

    def __repr__(self) -> str:
        return f"<Waking {self.held} held{'' if self.since is None else f' since {self.since:.1f}'}>"

    @property
    def is_full(self) -> bool:
        """Whether as many requests are held as may be."""
        return self.held >= self.settings.max_held

    def rests(self, now: float) -> bool:
        """Whether the last wake was in vain a moment ago, so that another would most likely be."""
        return now < self._rests_until

    def hold(self, preferred: str = "") -> None:
        """Hold one more request."""
        self.held += 1
        self.preferred = preferred or self.preferred

    def no_connection(self, now: float) -> None:
        """Learn that an engine took no connection of a request, which is held again."""
        self._refused_at = now

    def let_go(self) -> None:
        """Hold one request less: it has an engine, or waits no more."""
        self.held -= 1

    def tick(self, now: float, *, ready: bool) -> bool:
        """Let time pass; return whether an engine is wanted. `ready` says that the pool has one, by its probes.

        The first request that is held has the pool woken, unless an engine is ready and only took no connection. One
        is wanted for a while even if nobody waits any more: clients that come again would never see one otherwise. A
        wake that brings none in time is in vain; requests that are held still have another one begin.
        """
        since = self.since
        if since is not None:
            if ready and now - self._refused_at >= PAUSE:
                self.served, self.took = self.served + 1, now - since
            elif now - since <= self.settings.hold:
                return True
            else:
                self.failed, self._rests_until = self.failed + 1, now + PAUSE
            self.since = None
        if ready or not self.held:
            self.preferred = ""
            return False
        self.begun, self.since = self.begun + 1, now
        return True

    def retry_after(self, now: float) -> int:
        """Return in how many seconds a request that is not held may come again.

        A wake is expected to take as long as the last one, and one that takes longer as long again by half.
        """
        left = self.took or self.settings.warm_up
        if self.rests(now):
            left = self._rests_until - now
        elif self.since is not None:
            passed = now - self.since
            to_go = self.settings.hold - passed
            left = to_go + PAUSE if to_go <= _NEARLY else max(left - passed, passed / 2)
        return max(1, min(LONGEST_RETRY_AFTER, ceil(left)))
