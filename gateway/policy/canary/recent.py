"""Good and bad of the last minutes, and what two versions' last minutes say at once."""

from typing import Final

from gateway.policy.canary.bounds import divergence

MINUTE: Final = 60.0
LONG: Final = 5 * MINUTE
GUARD_EVENTS: Final = 20
BEYOND_CHANCE: Final = 13.8
"""Nats: what the absolute guard has seen would happen by chance once in a million times, if both were equal."""
_WIDTH: Final = 5.0
_SLOTS: Final = int(LONG / _WIDTH)


class Recent:
    """Good and bad events of the last five minutes, in slots of five seconds."""

    __slots__ = ("_bad", "_good", "_when")

    def __init__(self) -> None:
        self._good = [0] * _SLOTS
        self._bad = [0] * _SLOTS
        self._when = [-_SLOTS] * _SLOTS

    def __repr__(self) -> str:
        return f"<Recent {sum(self._good)} good {sum(self._bad)} bad>"

    def add(self, now: float, good: int, bad: int) -> None:
        """Count events that happened now (seconds)."""
        when = int(now / _WIDTH)
        slot = when % _SLOTS
        if self._when[slot] != when:
            self._when[slot] = when
            self._good[slot] = self._bad[slot] = 0
        self._good[slot] += good
        self._bad[slot] += bad

    def count(self, now: float, window: float) -> tuple[int, int]:
        """Return good and bad of the last `window` seconds, to within a slot."""
        newest = int(now / _WIDTH)
        good = bad = 0
        for when in range(newest - int(window / _WIDTH) + 1, newest + 1):
            slot = when % _SLOTS
            if self._when[slot] == when:
                good += self._good[slot]
                bad += self._bad[slot]
        return good, bad


def guard(
    sli: str, candidate: Recent, stable: Recent, now: float, *, budget: float, factor: float
) -> tuple[str | None, bool]:
    """Say that a candidate burns at page rate (`factor`), None while it does not, and whether it has to go for that.

    It has to where its share of bad events and stable's, over the same minutes, cannot be the same one: the likelihood
    ratio of two shares over one common share. Without stable's traffic there is nothing to compare with.
    """
    long, short = candidate.count(now, LONG), candidate.count(now, MINUTE)
    m, short_total = sum(long), sum(short)
    if m < GUARD_EVENTS or not short_total:
        return None, False
    p = long[1] / m
    burns = (p / budget, short[1] / short_total / budget)
    if min(burns) < factor:
        return None, False
    theirs = stable.count(now, LONG)
    n = sum(theirs)
    said = (
        f"{sli} burns at {burns[0]:.1f} over 5 m and {burns[1]:.1f} over 1 m (limit {factor:.1f}): "
        f"{long[1]:,} of {m:,} missed, {theirs[1]:,} of {n:,} of stable's"
    )
    if n < GUARD_EVENTS:
        return said, False
    q = theirs[1] / n
    if p <= q:
        return None, False
    both = (long[1] + theirs[1]) / (m + n)
    return (said, True) if m * divergence(p, both) + n * divergence(q, both) >= BEYOND_CHANCE else (None, False)
