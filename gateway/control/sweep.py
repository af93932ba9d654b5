"""One timer for all deadlines of all connections: cheaper than a timer for each, and exact to a tenth of a second."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from gateway.clock import Clock

_log = logging.getLogger(__name__)
INTERVAL = 0.1
LATE = 1.0
"""Seconds by which a single sweep is late when the process itself has paused."""


class Checked(Protocol):
    """Anything with deadlines."""

    def check(self, now: float) -> None:
        """Act on deadlines that have passed."""


async def sweep(connections: Callable[[], Iterable[Checked]], clock: Clock, interval: float = INTERVAL) -> None:
    """Check every connection's deadlines until cancelled.

    After a pause of this process itself (stopped, or starved) what lies in the kernel is read before anyone is judged.
    """
    due = clock() + interval
    while True:
        await asyncio.sleep(interval)
        now = clock()
        late, due = now - due, now + interval
        if late > LATE:
            _log.warning("the process was late: deadlines wait until what has come is read", extra={"seconds": late})
            continue
        for connection in connections():
            try:
                connection.check(now)
            except Exception:
                _log.exception("a deadline could not be held")
