"""Stopping without harm: say not ready, stop accepting, let streams finish, then end the rest."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import Draining, GatewayError

_log = logging.getLogger(__name__)
_CLOSE_SECONDS = 2.0
_HURRIED_SECONDS = 0.5


class Connection(Protocol):
    """A client's connection, as far as stopping goes."""

    @property
    def busy(self) -> bool:
        """Whether a request of it is open."""

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
    is_open = sum(connection.busy for connection in connections())
    requests = "1 request" if is_open == 1 else f"{is_open} requests"
    _log.info("draining, %s open", requests, extra={"delay": times.delay, "timeout": times.timeout})
    await _either(hurry, times.delay)
    closing = asyncio.ensure_future(close_listener())
    waited = asyncio.ensure_future(_either(hurry, times.timeout))
    await asyncio.wait({closing, waited}, return_when=asyncio.FIRST_COMPLETED)
    waited.cancel()
    left = list(connections())
    if left and not closing.done():
        _log.warning("drain timeout reached", extra={"connections": len(left)})
        for connection in left:
            connection.give_up(Draining("the gateway is stopping"))
        await asyncio.wait({closing}, timeout=_CLOSE_SECONDS)
    if closing.done():
        await closing


async def closed(closing: Awaitable[object], what: str, hurry: asyncio.Event) -> None:
    """Wait until something is closed, for two seconds at most, or half a second once `hurry` is set."""
    task = asyncio.ensure_future(closing)
    hurried = asyncio.ensure_future(hurry.wait())
    await asyncio.wait({task, hurried}, timeout=_CLOSE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if hurried.done():
        await asyncio.wait({task}, timeout=_HURRIED_SECONDS)
    hurried.cancel()
    if not task.done():
        _log.warning("not closed in time: the process exits anyway", extra={"what": what})
    elif task.exception() is not None:
        _log.error("could not be closed", extra={"what": what}, exc_info=task.exception())


async def _either(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
