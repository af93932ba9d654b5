"""The slots that the requests of one queue wait for, and the place among them that is kept for a large request."""

from collections.abc import Sequence
from math import inf
from typing import Final

from gateway.claim import Claim
from gateway.policy.admission.headroom import Holders
from gateway.policy.routing.health import Health

_TURN: Final = 0.005
"""Seconds after which a request sees again what other processes have of a backend: answers take longer."""


class AwaitedSlots:
    """The slots of every backend that a queue's requests may use: of `healths`, and `holders` are who has them.

    A request that is too large for what is free has a place kept for it. There is one such place: a request of a higher
    class takes it over. Several processes may have `shared` limits; `shows` says that this one shows them what waits.
    """

    __slots__ = ("_glanced_at", "_kept_by", "_looked", "healths", "holders", "shared", "shows")

    def __init__(self) -> None:
        self._glanced_at = -inf
        self.healths: Sequence[Health] = ()
        self.holders: Sequence[Holders] = ()
        self.shared = self.shows = False
        self._looked = 0
        self._kept_by: Holders | None = None

    def __repr__(self) -> str:
        return f"<AwaitedSlots of {len(self.healths)} backends, {self.in_flight} in use>"

    def follow(self, healths: Sequence[Health], holders: Sequence[Holders]) -> None:
        """Wait for the slots of these backends from now on, which these have."""
        self.healths, self.holders = healths, holders

    def look(self) -> None:
        """See what other processes have of them."""
        for health in self.healths:
            health.slots.look()

    def glance(self, now: float) -> None:
        """See what other processes have of one of them, in turn: a request that comes does not look at hundreds.

        Many requests look at none: each backend's turn comes after some milliseconds, if there are enough of them.
        """
        healths, count = self.healths, len(self.healths)
        if (now - self._glanced_at) * count >= _TURN:
            self._glanced_at = now
            self._looked = (self._looked + 1) % count
            healths[self._looked].slots.look()

    @property
    def in_flight(self) -> int:
        """How many are in use."""
        return sum(health.slots.in_flight for health in self.healths)

    @property
    def any_free(self) -> bool:
        """Whether a backend has fewer requests than it may have."""
        return any(health.slots.has_free for health in self.healths)

    @property
    def any_free_in_service(self) -> bool:
        """Whether a backend that can be reached, and is not ejected, has fewer requests than it may have.

        What that is was looked at up to a second ago.
        """
        return any(
            health.slots.has_free
            and not health.symptoms.signal.gone
            and (health.peers.panic or not health.outlier.ejection.out)
            for health in self.healths
        )

    def has_slot(self, claim: Claim) -> bool:
        """Whether a request could have one now."""
        return any(health.slots.has_slot(claim) for health in self.healths)

    def has_room(self, claim: Claim) -> bool:
        """Whether one is free that is large enough, also one that is kept for another."""
        return any(health.slots.has_free and health.slots.fits(claim.kv) for health in self.healths)

    def is_kept_for(self, claim: Claim) -> bool:
        """Whether the kept place is this request's."""
        return self._kept_by is not None and self._kept_by.kept_for is claim

    def keep(self, claim: Claim) -> None:
        """Keep a place for a request, at the backend whose slots hold the fewest tokens, if one may be kept now."""
        kept_for = self._kept_by.kept_for if self._kept_by is not None else None
        if kept_for is not None and kept_for.priority <= claim.priority:
            return
        if self.has_room(claim):
            return
        rows = list(zip(self.healths, self.holders, strict=True))
        kept_in = {health.peers.pool for health, holders in rows if holders.kept_for not in (None, kept_for)}
        open_ = [row for row in rows if row[0].peers.pool not in kept_in and not row[0].symptoms.signal.gone]
        if not open_:
            return
        if kept_for is not None:
            self.unkeep(kept_for)
        _, holders = min(open_, key=lambda row: row[0].slots.kv)
        holders.kept_for, holders.gently = claim, len(rows) == 1
        self._kept_by = holders

    def unkeep(self, claim: Claim) -> None:
        """Keep no place for this request any more."""
        if self._kept_by is not None and self._kept_by.kept_for is claim:
            self._kept_by.kept_for = None
            self._kept_by = None


def holders_of(health: Health) -> Holders:
    """Return who has the slots of a backend; from the first call on, admission's rules hold there."""
    rules = health.slots.rules
    if not isinstance(rules, Holders):
        rules = Holders()
        health.slots.rule_by(rules)
    return rules
