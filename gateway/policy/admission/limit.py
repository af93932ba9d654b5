"""How many requests an engine takes at once before all of them suffer: found by trying, as TCP finds its window.

Additive increase while the limit is in use and all is well; multiplicative decrease when the engine queues by itself or
first tokens come late. Jacobson and Karels, "Congestion Avoidance and Control" (1988).
"""

from dataclasses import dataclass
from typing import Final

FIRST: Final = 32
"""A start that few engines suffer from. It doubles with each round of first tokens while it is in use and on time."""
BY_WORD: Final = 256
"""Up to here it also doubles where no first token has come since it is in use, and the engine says that it runs them
all and none waits: first tokens may take long."""
LEAST: Final = 2
MOST: Final = 4096
STEP: Final = 1.0
"""What a limit in use grows by at each tick, four times a second."""
DECREASE: Final = 0.9
PAUSE: Final = 1.0
"""Seconds between two decreases."""
IN_USE: Final = 0.9
QUEUED_SCRAPES: Final = 2
"""Looks at an engine in a row that found requests waiting inside it: one alone may be a passing moment."""
JUDGED: Final = 5
"""First tokens that must have come since the last change before their lateness counts."""
LATE: Final = 0.1
LOADED: Final = 2.0
"""Times an idle engine's latency from which load is to blame for one that is late."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What happened since the last tick: most `in_flight` at once, and first tokens, `late` ones among them.

    `queued` is how many looks in a row found the engine's own queue filled; `borne` the fewest in flight beside a
    request that it refused because it is busy, None where it refused none. `worked_at` is when the engine last gave a
    first token or completed an answer, on the clock of the ticks. `running` is how many requests the engine said since
    that it works on while none waits in it; 0 where it said no such thing.
    """

    in_flight: int
    queued: int = 0
    begun: int = 0
    late: int = 0
    borne: int | None = None
    worked_at: float = float("inf")
    running: float = 0.0


def is_late(seconds: float, threshold: float, idle: float) -> bool:
    """Whether a latency is late because of the load: beyond its threshold, and far beyond that of an `idle` engine.

    An engine that is slow with nothing else to do is not overloaded: it would be as slow under any limit.
    """
    return seconds > threshold and seconds > LOADED * idle


class AdaptiveLimit:
    """The limit of one backend, in requests at once; `reason` says what moved it last."""

    __slots__ = ("_awaits", "_begun", "_changed", "_clear", "_due", "_is_new", "_late", "most", "reason", "value")

    def __init__(self, value: float = FIRST, *, most: int = MOST) -> None:
        self.most = most
        self.value = min(float(value), most)
        self.reason = "not tried yet"
        self._changed = self._clear = float("-inf")
        self._begun = self._late = 0
        self._is_new = self._awaits = True
        self._due = self.value

    def __repr__(self) -> str:
        return f"<AdaptiveLimit {self.value:.1f}: {self.reason}>"

    def tick(self, seen: Seen, now: float) -> None:
        """Take what was seen since the last tick; `now` in seconds.

        A limit that was lowered is judged again only once no more requests are in flight than it allows: what still
        runs beyond it was let in before.
        """
        if seen.borne is not None:
            self._fall(min(self.value, seen.borne), f"the engine was busy beside {seen.borne} requests", now)
            return
        if not seen.queued:
            self._clear = now
        if seen.in_flight > self.value + 1:
            return
        self._begun += seen.begun
        self._late += seen.late
        in_use = seen.in_flight >= IN_USE * self.value
        if seen.in_flight > self.value / 2:  # beside as many as before the last doubling
            self._due -= seen.begun - seen.late
        self._awaits = not in_use or (self._awaits and not seen.begun)
        why = self._congestion(seen)
        if why:
            if now - self._changed >= PAUSE:
                self._fall(min(self.value, 2.0 * max(seen.in_flight, LEAST)) * DECREASE, why, now)
        elif in_use and not seen.queued:
            self.value = min(float(self.most), self.value + self._step(seen))
            self.reason = "in use, and all is well"
            if self._begun >= JUDGED:
                self._begun = self._late = 0

    def _step(self, seen: Seen) -> float:
        # Before the first congestion it doubles once as many went well as the last doubling let in.
        if not self._is_new:
            return STEP
        runs_them = self._awaits and self.value < BY_WORD and seen.running >= IN_USE * self.value
        if self._due > 0 and not runs_them:
            return STEP
        self._due = self.value
        return self.value

    def _congestion(self, seen: Seen) -> str:
        # An engine that queues because it is stalled would do so under any limit.
        if seen.queued >= QUEUED_SCRAPES and seen.worked_at > max(self._clear, self._changed):
            return "the engine queues requests itself"
        if self._begun >= JUDGED and self._late >= LATE * self._begun:
            return f"{self._late} of {self._begun} first tokens came late"
        return ""

    def _fall(self, value: float, why: str, now: float) -> None:
        self.value = float(min(self.most, max(LEAST, value)))
        self.reason = why
        self._changed = now
        self._is_new = False
        self._begun = self._late = 0
