"""How long requests of one queue wait for a slot: their patience, their chances, and when to ask again."""

from dataclasses import dataclass
from math import inf
from typing import Final

from gateway.claim import HoldingTimes
from gateway.policy.admission import chance as chances
from gateway.policy.admission.classes import ServiceClass
from gateway.policy.admission.decide import predicted_wait, retry_after
from gateway.policy.admission.expected import Expected
from gateway.proxy.awaited_slots import AwaitedSlots

_FRESH: Final = 0.05
"""What the latest request weighs in how long one takes."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """How it looks for a request that came now: how many are `ahead`, and a bound of its chance to get a slot in time.

    `why` says what the bound rests on.
    """

    ahead: int
    chance: float
    why: str


class WaitForecast:
    """Reckons by who has the slots that a queue waits for, and by how long slots are held.

    `seconds` is how long a request holds its slot, of late; 0.0 unknown.
    """

    __slots__ = ("_expected", "_slots", "seconds")

    def __init__(self, slots: AwaitedSlots) -> None:
        self._slots = slots
        self._expected = Expected()
        self.seconds = 0.0

    def __repr__(self) -> str:
        return f"<WaitForecast {self.rate:.1f} slots/s>"

    @property
    def rate(self) -> float:
        """Slots that come free in a second (Little's law): requests in flight over how long one takes; 0.0 unknown."""
        return self._slots.in_flight / self.seconds if self.seconds else 0.0

    def held(self, seconds: float) -> None:
        """Learn that a slot was held for so many seconds."""
        self.seconds += (seconds - self.seconds) * (_FRESH if self.seconds else 1.0)

    def patience(
        self,
        service_class: ServiceClass,
        kind: HoldingTimes,
        threshold: float,
        prompt: int,
        *,
        cautious: bool,
    ) -> float:
        """Return for how many seconds a request waits; `threshold` is that of its TTFT, infinite where it has none.

        A short queue gets the time that the engine is likely to leave, by a TTFT with a margin if it is `cautious`.
        """
        ttft = 0.0
        if threshold < inf:
            ttft = min(
                (
                    health.predicted(prompt) * (health.latency.ttft.caution if cautious else 1.0)
                    for health in self._slots.healths
                ),
                default=0.0,
            )
        return chances.patience(service_class.max_queue_wait, kind.mean, threshold, ttft)

    def outlook(self, ahead: int, holding: float, priority: int, patience: float, now: float) -> Outlook:
        """Return how it looks for a request of this priority that came now and would wait so long.

        So many are `ahead` of it, which will hold slots for `holding` seconds each.
        """
        slots, expected = self._slots, self._expected
        if slots.any_free_in_service:
            return Outlook(ahead, 1.0, "a slot is free")
        if any(holders.holds_below(priority) for holders in slots.holders):
            return Outlook(ahead, 1.0, "lower classes hold slots")
        expected.look(slots.holders, now)
        if not expected.is_known:
            return Outlook(ahead, 1.0, "too little is known of how long slots are held")
        bound = chances.chance(ahead, holding, patience, expected)
        if bound < chances.LEAST:
            # Slots that have been held for long make a slow spell as well as a load: only the latter is lasting.
            bound = max(bound, chances.at_least(ahead + 1, expected.pace * patience))
        return Outlook(ahead, bound, "by how long slots have been held")

    def retry_after(self, ahead: int, chance: float) -> int:
        """Return in how many seconds one with so many `ahead` may ask again; `chance` spreads out those that do."""
        return retry_after(predicted_wait(ahead, self.rate), chance)
