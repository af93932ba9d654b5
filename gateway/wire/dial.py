"""Connecting to one of several addresses: the next one is tried when one takes long (RFC 8305, "Happy Eyeballs")."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

NEXT_AFTER = 0.25
"""Seconds after which the next address is tried beside those before (RFC 8305 section 5)."""

T = TypeVar("T")


async def first_of(
    addresses: Sequence[str], dial: Callable[[str], Coroutine[Any, Any, T]], discard: Callable[[T], None]
) -> T:
    """Return the first connection that comes about.

    Connections that come about too late are given to `discard`. Raises the last OSError when there is none.
    """
    if len(addresses) == 1:
        return await dial(addresses[0])
    failure = OSError("there is no address")
    waiting = list(reversed(addresses))
    pending: set[asyncio.Task[T]] = set()
    try:
        while waiting or pending:
            if waiting:
                pending.add(asyncio.create_task(dial(waiting.pop())))
            done, pending = await asyncio.wait(
                pending, timeout=NEXT_AFTER if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            winners = []
            for task in done:
                error = task.exception()
                if error is None:
                    winners.append(task.result())
                elif isinstance(error, OSError):
                    failure = error
                else:
                    raise error
            for late in winners[1:]:
                discard(late)
            if winners:
                return winners[0]
    finally:
        for task in pending:
            task.add_done_callback(lambda ended: _discard(ended, discard))
            task.cancel()
    raise failure


def _discard(ended: "asyncio.Task[T]", discard: Callable[[T], None]) -> None:
    if not ended.cancelled() and ended.exception() is None:
        discard(ended.result())
