"""Stopping without harm: say not ready, stop accepting, let streams finish, then end the rest."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import Draining, GatewayError

_log = logging.getLogger(__name__)


class Connection(Protocol):
    """A client's connection, as far as stopping goes."""

    def give_up(self, error: GatewayError) -> None:
        """End at once, telling the client why."""


@dataclass(frozen=True, slots=True)
class DrainTimes:
    """`delay` before the listener closes, so that load balancers see `/ready` first; `timeout` for open streams (s)."""

    delay: float = 0.0
    timeout: float = 30.0


async def drain(
    times: DrainTimes,
    connections: Callable[[], Iterable[Connection]],
    close_listener: Callable[[], Awaitable[None]],
    hurry: asyncio.Event,
) -> None:
    """Carry out a stop whose beginning has been announced; `hurry` cuts every wait short."""
    await _either(hurry, times.delay)
    closing = asyncio.ensure_future(close_listener())
    waited = asyncio.ensure_future(_either(hurry, times.timeout))
    await asyncio.wait({closing, waited}, return_when=asyncio.FIRST_COMPLETED)
    waited.cancel()
    left = list(connections())
    if left and not closing.done():
        _log.warning("time to drain is over", extra={"connections": len(left)})
        for connection in left:
            connection.give_up(Draining("the gateway is stopping"))
    await closing


async def _either(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
