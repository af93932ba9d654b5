"""One request's place at a backend."""

from typing import TYPE_CHECKING

from gateway.claim import Claim
from gateway.policy.routing.fit import predict

if TYPE_CHECKING:
    from gateway.policy.routing.health import Health

_NONE = -1


class Lease:
    """One request's place at a backend. Releasing it is the only way to give it back, and happens once.

    `tokens` are the prompt tokens to prefill until its first token, others' ahead of it included; `in_flight` the
    requests that it found there, `beside` those of them that are this gateway's; `turn` tells what the backend had
    refused by then, `era` under which limit it was let in. `ttft` is in seconds, 0.0 while there is no first token.
    """

    __slots__ = (
        "_claim",
        "_health",
        "_model",
        "_own",
        "_rules",
        "beside",
        "era",
        "in_flight",
        "is_probe",
        "tokens",
        "ttft",
        "turn",
    )

    def __init__(self, health: "Health", tokens: int, claim: Claim, now: float) -> None:
        slots, latency = health.slots, health.latency
        self._health: Health | None = health
        self._own = tokens
        self.tokens = latency.prefilling + tokens
        self.beside = slots.in_flight
        self.in_flight = float(self.beside)
        if foreign := latency.foreign:
            self.tokens += int(foreign * tokens)
            self.in_flight += foreign
        self._model = latency.ttft.coefficients
        self.ttft = 0.0
        self.is_probe = health.outlier.ejection.out and health.wants_probe
        if self.is_probe:
            health.outlier.probe()
        self.era, self.turn = slots.evidence.era, slots.evidence.bearing.turn
        self._claim = claim
        self._rules = slots.take(claim, now)
        if not self.beside:
            health.activity.asked(now)
        latency.sent(tokens)

    @property
    def predicted(self) -> float:
        """Its TTFT in seconds, as predicted when it was taken."""
        return predict(self._model, self.tokens, self.in_flight)

    def prefilled(self) -> None:
        """Its first token is there: nothing of its prompt is ahead of others any more."""
        own, self._own = self._own, _NONE
        if own != _NONE and self._health is not None:
            self._health.latency.prefilled(own)

    def release(self) -> None:
        """Give the place back; further calls do nothing."""
        self.prefilled()
        health, self._health = self._health, None
        if health is not None and health.slots.give_back(self._claim, self._rules):
            health.activity.rested()
