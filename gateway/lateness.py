"""When this process itself was late (stopped, starved, stuck): time in which no other party can be judged."""

from collections import deque
from math import inf
from typing import Final

BEAT: Final = 0.1
"""Seconds between two signs of life."""
LATE: Final = 1.0
"""Seconds by which a single sign of life is late when the process itself has paused."""
MOST: Final = 3
PERIOD: Final = 60.0
"""How many latenesses excuse others within how many seconds: a process that is late all the time must still judge."""


class Lateness:
    """The latest latenesses of this process. Times are seconds of the monotonic clock.

    `times` counts all of them, `seconds` is how long the last one was. `until` is when the last one ended that excuses
    what others were late with meanwhile; as far as that has been noted already.
    """

    __slots__ = ("_beat", "_excusing", "seconds", "times", "until")

    def __init__(self) -> None:
        self._beat = inf
        self._excusing: deque[tuple[float, float]] = deque(maxlen=MOST)
        self.times = 0
        self.seconds = 0.0
        self.until = -inf

    def __repr__(self) -> str:
        return f"<Lateness {self.times} times, the last of {self.seconds:.1f} s>"

    def beat(self, now: float) -> None:
        """Give a sign of life; to be called every `BEAT` seconds."""
        due, self._beat = self._beat + BEAT, now
        if now - due <= LATE:
            return
        self.times += 1
        self.seconds = now - due
        if len(self._excusing) < MOST or now - self._excusing[0][1] >= PERIOD:
            self._excusing.append((due, now))
            self.until = now

    def overlaps(self, since: float, now: float) -> bool:
        """Whether this process was late at some time between two; meant for a `now` that is now."""
        if now - self._beat > BEAT + LATE:
            self.beat(now)  # it has just gone on, and the caller is the first to run
        return self.until > since

    def excuse(self, since: float, now: float) -> float:
        """Return the seconds between two times in which this process was late."""
        if not self.overlaps(since, now):
            return 0.0
        return sum(max(0.0, min(end, now) - max(start, since)) for start, end in self._excusing)

    def has_passed(self, seconds: float, since: float, now: float) -> bool:
        """Whether it is longer ago than so many seconds, without those in which this process was late."""
        return now - since > seconds and now - since - self.excuse(since, now) > seconds
