"""How tests wait: for a condition, with a deadline so generous that only what never comes runs into it.

What is measured in seconds is measured by a clock that the test moves: a busy machine adds nothing to it.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

DEADLINE = 120.0
"""Seconds; a passing test never waits as long, however busy the machine."""


def patient_client(**options: Any) -> httpx.AsyncClient:
    """Return a client that waits for answers and keeps idle connections as long as tests do, where httpx has 5 s.

    It knows no authorities unless it is given some: to read those of the system takes 20 ms of CPU time each time.
    """
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=DEADLINE)
    settings: dict[str, Any] = {"timeout": DEADLINE, "limits": limits, "verify": False}
    return httpx.AsyncClient(**settings | options)


def running(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for what other processes do, of which one may start after the other; fails when it does not come."""
    seconds = 3 * DEADLINE
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.02)


async def eventually(condition: Callable[[], bool], seconds: float = DEADLINE) -> None:
    """Wait for a condition; fails when it does not come in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


class HandClock:
    """A clock that stands still unless a test moves it."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    async def passes(self, seconds: float, condition: Callable[[], bool]) -> None:
        """Let so many seconds pass at once, and again where that was too early, until a condition comes.

        Deadlines are looked at every tenth of a second, and not right after a jump.
        """
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self.advance(seconds)
                with suppress(TimeoutError):
                    await eventually(condition, 2.0)
