"""One request's place at a backend."""

from typing import Final

from gateway.claim import Claim
from gateway.policy.routing.latency_model import LatencySample
from gateway.policy.routing.vitals import Vitals

_NONE: Final = -1


class Lease(LatencySample):
    """One request's place at a backend. Releasing it is the only way to give it back, and happens once.

    It was taken `at` a time in seconds. `beside` are the requests that it found there which are this gateway's; `turn`
    tells what the backend had refused by then, `era` under which limit it was let in. `is_probe` says that it is to see
    whether the backend can return.
    """

    __slots__ = ("_began", "_claim", "_own", "_rules", "_vitals", "at", "beside", "era", "is_probe", "turn")

    def __init__(self, vitals: Vitals, tokens: int, claim: Claim, now: float, *, is_probe: bool) -> None:
        slots, latency = vitals.slots, vitals.latency
        self._vitals: Vitals | None = vitals
        self._own = tokens
        self.at = now
        self.beside = slots.in_flight
        ahead, in_flight = latency.prefilling + tokens, float(self.beside)
        if foreign := latency.foreign:
            ahead += int(foreign * tokens)
            in_flight += foreign
        super().__init__(ahead, in_flight, latency.ttft.coefficients)
        self.is_probe = is_probe
        if is_probe:
            vitals.outlier.probe()
        self.era, self.turn = slots.evidence.era, slots.evidence.bearing.turn
        self._claim = claim
        self._rules = slots.take(claim, now)
        if slots.shared is not None:
            vitals.costs.look(slots.in_flight - slots.own, now)
        self._began = vitals.costs.begin(now)
        if slots.own == 1:
            vitals.activity.asked(now)
        latency.sent(tokens)

    def prefilled(self) -> None:
        """Its first token is there: nothing of its prompt is ahead of others any more."""
        own, self._own = self._own, _NONE
        if own != _NONE and self._vitals is not None:
            self._vitals.latency.prefilled(own)

    def release(self, now: float = 0.0) -> float:
        """Give the place back, and return what it cost to hold it; further calls do nothing."""
        self.prefilled()
        vitals, self._vitals = self._vitals, None
        if vitals is None:
            return 0.0
        if vitals.slots.give_back(self._claim, self._rules):
            vitals.activity.rested()
        return vitals.costs.end(self._began, now)
