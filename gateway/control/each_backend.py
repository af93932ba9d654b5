"""One task for each backend, so that a slow engine delays no other; follows the registry's changes."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from gateway.backends.backend import Backend
from gateway.clock import next_turn

_LOOK_EVERY = 0.25
_AT_ONCE = 16
"""Watches begun in one turn of the event loop."""


async def for_each_backend(
    backends: Callable[[], Iterable[Backend]],
    watch: Callable[[Backend], Coroutine[Any, Any, None]],
    name: str,
    *,
    every: float = _LOOK_EVERY,
) -> None:
    """Run `watch` for every backend there is until cancelled; the tasks of backends that are gone are ended."""
    tasks: dict[Backend, asyncio.Task[None]] = {}
    try:
        while True:
            present = set(backends())
            for backend in tasks.keys() - present:
                tasks.pop(backend).cancel()
            for number, backend in enumerate(present - tasks.keys()):
                if number % _AT_ONCE == _AT_ONCE - 1:
                    await asyncio.sleep(0)
                tasks[backend] = asyncio.create_task(watch(backend), name=f"{name} {backend.id}")
            await next_turn(every)
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
