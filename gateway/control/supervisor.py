"""Keeping loops alive: one that breaks is logged and started again, and never takes the data plane with it."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

_log = logging.getLogger(__name__)
PAUSE = 1.0


class Supervisor:
    """Runs loops until closed."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `loop` for good; when it breaks it starts again after a second."""
        self._tasks.append(asyncio.create_task(_keep(name, loop), name=name))

    async def close(self) -> None:
        """Stop every loop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _keep(name: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
    while True:
        try:
            await loop()
        except Exception:  # noqa: BLE001 - a loop that fails is logged and starts again
            _log.exception("the loop failed and starts again", extra={"loop": name})
        await asyncio.sleep(PAUSE)
