"""How late the event loop runs: when it lags, everything that the gateway measures is late by as much."""

import asyncio

from gateway.clock import Clock, until_next

INTERVAL = 0.1
_KEPT = 100


class LoopLag:
    """Watches a timer; `worst` is the longest delay in the last ten seconds, in seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._delays: list[float] = []

    @property
    def worst(self) -> float:
        """The longest delay of late."""
        return max(self._delays, default=0.0)

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            now = self._clock()
            pause = until_next(now, INTERVAL)
            await asyncio.sleep(pause)
            self._delays.append(max(0.0, self._clock() - now - pause))
            del self._delays[:-_KEPT]
