"""One timer for all deadlines of all connections: cheaper than a timer for each, and exact to a tenth of a second."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from gateway.clock import Clock

_log = logging.getLogger(__name__)
INTERVAL = 0.1


class Checked(Protocol):
    """Anything with deadlines."""

    def check(self, now: float) -> None:
        """Act on deadlines that have passed."""


async def sweep(connections: Callable[[], Iterable[Checked]], clock: Clock, interval: float = INTERVAL) -> None:
    """Check every connection's deadlines until cancelled."""
    while True:
        await asyncio.sleep(interval)
        now = clock()
        for connection in connections():
            try:
                connection.check(now)
            except Exception:
                _log.exception("a deadline could not be held")
