"""One timer for all deadlines of all connections: cheaper than a timer for each, and exact to a tenth of a second."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from gateway.clock import Clock, next_turn
from gateway.lateness import BEAT, Lateness
from gateway.wire.guarded import Ending, guarded
from gateway.wire.slices import Slices, Work

_log = logging.getLogger(__name__)
_TOGETHER = 32
"""Connections that are checked in one piece."""


class Checked(Ending, Protocol):
    """Anything with deadlines; one that breaks as it is checked is ended."""

    def check(self, now: float) -> None:
        """Act on deadlines that have passed."""


Groups = Callable[[], Iterable[Collection[Checked]]]
"""Returns the sets in which connections are as long as they are open."""


async def sweep(groups: Groups, clock: Clock, lateness: Lateness, slices: Slices, interval: float = BEAT) -> None:
    """Check every connection's deadlines until cancelled, in slices of the loop's time.

    After a pause of this process itself (stopped, or starved) what lies in the kernel is read before anyone is judged.
    """
    known = lateness.times
    while True:
        await next_turn(interval)
        lateness.beat(clock())
        if lateness.times > known:
            _log.warning(
                "the process was late: deadlines wait until what has come is read",
                extra={"seconds": round(lateness.seconds, 3)},
            )
            known = lateness.times
            await asyncio.sleep(interval)  # once, however late that ends: a process that is always late judges too
        await slices.do(_check(groups(), clock()))


def _check(groups: Iterable[Collection[Checked]], now: float) -> Work[None]:
    """Check each, some in one piece. What has closed since the round began is left out.

    All are judged by one time: if the process pauses in between, what has come then is read first.
    """
    for group in groups:
        waiting = list(group)
        while waiting:
            for _ in range(min(_TOGETHER, len(waiting))):
                connection = waiting.pop()
                if connection in group:
                    guarded(connection, connection.check, now)
            del connection
            yield
