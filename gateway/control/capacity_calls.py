"""Where requests wait for the first replica of a pool: told to the gateway that leads, and heard there."""

import json
from collections.abc import Iterable
from math import nan

from gateway.clock import Clock
from gateway.state.store import WAKING, Document

CALLED = 5.0
"""Seconds after which it is told again that requests wait, as long as they do."""
CALLS_FOR = 3 * CALLED
"""Seconds for which that counts."""
_OLD = 300.0


class CapacityCalls:
    """What gateways that do not lead tell of requests that wait there; a pool is in it while some do elsewhere."""

    def __init__(self, clock: Clock, epoch: Clock) -> None:
        self._clock = clock
        self._epoch = epoch
        self._told: dict[str, float] = {}
        self._heard: dict[str, float] = {}
        self._until: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<CapacityCalls of {', '.join(each for each in self._until if each in self)}>"

    def __contains__(self, pool: str) -> bool:
        return self._until.get(pool, 0.0) > self._clock()

    def documents(self, waiting: Iterable[str]) -> list[Document]:
        """Return what is to be told of pools for which requests wait here."""
        now = self._clock()
        calls = [each for each in waiting if each not in self._told or now - self._told[each] >= CALLED]
        self._told |= dict.fromkeys(calls, now)
        return [Document(WAKING, pool, json.dumps({"at": self._epoch()})) for pool in calls]

    def hear(self, call: Document) -> None:
        """Take what another gateway tells, unless it is old: an emptied store gets back what it had.

        Clocks may differ. So a call counts, too, that is later than the last one, and none that is heard again.
        """
        try:
            at = float(json.loads(call.body)["at"])
        except (KeyError, TypeError, ValueError):
            return
        before, self._heard[call.name] = self._heard.get(call.name, nan), at
        if at != before and (at > before or self._epoch() - at < _OLD):
            self._until[call.name] = self._clock() + CALLS_FOR
