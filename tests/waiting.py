"""How tests wait: for a condition, with a deadline so generous that only what never comes runs into it."""

import asyncio
from collections.abc import Callable

DEADLINE = 60.0
"""Seconds; a passing test never waits as long, however busy the machine."""


async def eventually(condition: Callable[[], bool], seconds: float = DEADLINE) -> None:
    """Wait for a condition; fails when it does not come in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
