"""Slots of a backend that stay free for higher classes, and a place that is kept for one large request."""

from math import ceil, sqrt
from typing import Final

from gateway.claim import Claim, SlotRules

MEMORY: Final = 60.0
"""Seconds for which a class that was seen at a backend counts."""
SHEDDABLE: Final = 2.0
OTHERS: Final = 1.0
"""Standard deviations of the higher classes' requests in flight that are kept free from a lower one."""
LONGER: Final = 10.0
"""How many times longer than a higher class one that is not sheddable must hold its slots to be kept from some."""
SMALL: Final = 4
"""Up to this limit one slot is kept free at most."""
ALWAYS: Final = 0.05
"""The part of the limit that lower classes may use in any case."""
HALF_LIFE: Final = 5.0
SLOW_HALF_LIFE: Final = 60.0
"""Seconds by which half of how many are in flight, and of how many come, is forgotten."""
_FRESH: Final = 0.05


class _Class:
    """Requests of one priority at one backend.

    Their number now and usually, how many come per second, and how long they hold a slot.
    """

    __slots__ = ("held", "holding", "rate", "seen", "smoothed", "taken")

    def __init__(self) -> None:
        self.held = self.taken = 0
        self.smoothed = self.rate = 0.0
        self.holding = 0.0
        self.seen = 0.0


class Holders(SlotRules):
    """Who holds the slots of one backend. `held` maps each claim to when it got its slot (seconds).

    `kept_for` is a request too large for what is free: a place is kept for it, against every newcomer, or `gently`,
    where there is no other backend, against those of its own and lower classes. `wanted` says that a lower class was
    denied a free slot since the last look.
    """

    __slots__ = ("_classes", "_kept_free", "gently", "held", "kept_for", "mixed", "wanted")

    def __init__(self) -> None:
        self.held: dict[Claim, float] = {}
        self.kept_for: Claim | None = None
        self.gently = False
        self.mixed = False
        self.wanted = False
        self._classes: dict[int, _Class] = {}
        self._kept_free: dict[tuple[int, bool], int] = {}

    def __repr__(self) -> str:
        return f"<Holders { ({priority: each.held for priority, each in sorted(self._classes.items())}) }>"

    @property
    def is_strict(self) -> bool:
        """Whether some requests may not have a free slot."""
        return self.mixed or self.kept_for is not None

    def allows(self, claim: Claim, in_flight: int, limit: int) -> bool:
        """Whether a request may have one of the free slots (there is at least one)."""
        kept_for = self.kept_for
        if kept_for is not None and kept_for is not claim and not (self.gently and claim.priority < kept_for.priority):
            return False
        if not self.mixed:
            return True
        free = self.kept_free(claim)
        if limit <= SMALL:
            free = min(free, 1)
        if limit - in_flight > free:
            return True
        lower = sum(each.held for priority, each in self._classes.items() if priority >= claim.priority)
        if lower < max(1.0, ALWAYS * limit):
            return True
        self.wanted = True
        return False

    def kept_free(self, claim: Claim) -> int:
        """Return how many slots stay free of such requests for higher classes."""
        key = claim.priority, claim.sheddable
        free = self._kept_free.get(key)
        if free is None:
            free = self._kept_free[key] = self._reckoned(claim)
        return free

    @property
    def priorities(self) -> set[int]:
        """The classes that were seen here of late."""
        return set(self._classes)

    def holds_below(self, priority: int) -> bool:
        """Whether a request of a lower class has a slot here."""
        return any(each.held for other, each in self._classes.items() if other > priority)

    def took(self, claim: Claim, now: float) -> None:
        """Count a request that got a slot."""
        self.held[claim] = now
        if self.kept_for is claim:
            self.kept_for = None
        each = self._classes.get(claim.priority)
        if each is None:
            each = self._classes[claim.priority] = _Class()
            self.mixed = len(self._classes) > 1
            self._kept_free.clear()
        each.held += 1
        each.taken += 1
        each.seen = now
        if seconds := claim.kind.mean:
            each.holding += (seconds - each.holding) * (_FRESH if each.holding else 1.0)

    def released(self, claim: Claim) -> None:
        """Count a request that gave its slot back."""
        self.held.pop(claim, None)
        self._classes[claim.priority].held -= 1

    def tick(self, now: float, elapsed: float) -> None:
        """Let time pass; called a few times a second."""
        self.wanted = False
        self._kept_free.clear()
        if not self._classes:
            return
        fresh, slowly = 1.0 - 0.5 ** (elapsed / HALF_LIFE), 1.0 - 0.5 ** (elapsed / SLOW_HALF_LIFE)
        for priority, each in list(self._classes.items()):
            each.smoothed += (each.held - each.smoothed) * fresh
            if elapsed:
                each.rate += (each.taken / elapsed - each.rate) * slowly
                each.taken = 0
            if each.held:
                each.seen = now
            elif now - each.seen > MEMORY:
                del self._classes[priority]
        self.mixed = len(self._classes) > 1

    def _reckoned(self, claim: Claim) -> int:
        higher = [each for priority, each in self._classes.items() if priority < claim.priority]
        if not higher:
            return 0
        smoothed = sum(each.smoothed for each in higher)
        if claim.sheddable:
            return ceil(SHEDDABLE * sqrt(smoothed + 1))
        own = self._classes.get(claim.priority)
        shortest = min(each.holding for each in higher)
        if own is None or not shortest or own.holding < LONGER * shortest:
            return 0
        # Kept free from one of these, a slot serves so many of them; where that is less than one, it serves fewer.
        saved = smoothed + sum(each.rate for each in higher) * own.holding
        return min(ceil(OTHERS * sqrt(smoothed + 1)), int(saved))
