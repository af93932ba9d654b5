"""One request's place at a backend."""

from typing import TYPE_CHECKING

from gateway.claim import Claim
from gateway.policy.routing.fit import predict

if TYPE_CHECKING:
    from gateway.policy.routing.health import Health


class Lease:
    """One request's place at a backend. Releasing it is the only way to give it back, and happens once.

    `tokens` are the prompt tokens to prefill until its first token, others' ahead of it included; `in_flight` the
    requests that it found there, `beside` those of them that are this gateway's; `turn` tells what the backend had
    refused by then. `ttft` is in seconds, 0.0 while there is no first token.
    """

    __slots__ = (
        "_begun",
        "_claim",
        "_health",
        "_kv",
        "_model",
        "_own",
        "_slots",
        "beside",
        "era",
        "in_flight",
        "is_probe",
        "tokens",
        "ttft",
        "turn",
    )

    def __init__(self, health: "Health", tokens: int, claim: Claim, now: float) -> None:
        self._health: Health | None = health
        self._own = tokens
        self.tokens = health.prefilling + tokens
        self.in_flight = float(health.in_flight)
        self.beside, self.turn = health.in_flight, health.bearing.turn
        if foreign := health.foreign:
            self.tokens += int(foreign * tokens)
            self.in_flight += foreign
        self._model = health.fit.coefficients
        self.ttft = 0.0
        self.is_probe = health.standing.out and health.wants_probe
        if self.is_probe:
            health.probing = True
        self.era = health.era
        self._claim, self._kv, self._slots = claim, claim.kv, health.slots
        health.kv += claim.kv
        if self._slots is not None:
            self._slots.took(claim, now)
        if not health.in_flight:
            health.activity.asked_at = now
        health.in_flight += 1
        health.peak = max(health.peak, health.in_flight)
        health.prefilling += tokens
        health.unbegun += 1
        self._begun = False

    @property
    def predicted(self) -> float:
        """Its TTFT in seconds, as predicted when it was taken."""
        return predict(self._model, self.tokens, self.in_flight)

    def prefilled(self) -> None:
        """Its first token is there: nothing of its prompt is ahead of others any more."""
        health = self._health
        if health is not None and not self._begun:
            self._begun = True
            health.prefilling -= self._own
            health.unbegun -= 1

    def release(self) -> None:
        """Give the place back; further calls do nothing."""
        self.prefilled()
        health, self._health = self._health, None
        if health is not None:
            health.in_flight -= 1
            if not health.in_flight:
                health.activity.rested()
            health.kv -= self._kv
            if self._slots is not None:
                self._slots.released(self._claim)
