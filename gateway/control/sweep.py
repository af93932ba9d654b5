"""One timer for all deadlines of all connections: cheaper than a timer for each, and exact to a tenth of a second."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from gateway.clock import Clock
from gateway.lateness import BEAT, Lateness
from gateway.wire.guarded import Ending, guarded

_log = logging.getLogger(__name__)


class Checked(Ending, Protocol):
    """Anything with deadlines; one that breaks as it is checked is ended."""

    def check(self, now: float) -> None:
        """Act on deadlines that have passed."""


async def sweep(
    connections: Callable[[], Iterable[Checked]], clock: Clock, lateness: Lateness, interval: float = BEAT
) -> None:
    """Check every connection's deadlines until cancelled.

    After a pause of this process itself (stopped, or starved) what lies in the kernel is read before anyone is judged.
    """
    known = lateness.times
    while True:
        await asyncio.sleep(interval)
        lateness.beat(clock())
        if lateness.times > known:
            _log.warning(
                "the process was late: deadlines wait until what has come is read",
                extra={"seconds": round(lateness.seconds, 3)},
            )
            known = lateness.times
            await asyncio.sleep(interval)  # once, however late that ends: a process that is always late judges too
        _check(connections(), clock())


def _check(connections: Iterable[Checked], now: float) -> None:
    """Check each; a function of its own, since between two rounds a variable would keep the last one in memory."""
    for connection in connections:
        guarded(connection, connection.check, now)
