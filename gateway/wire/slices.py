"""Long work on the event loop, done a slice at a time, so that everybody else's bytes pass in between."""

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Final, TypeVar

from gateway.clock import Clock

T = TypeVar("T")
Work = Generator[None, None, T]
"""Work that yields after each bounded piece, and returns its result."""

SECONDS: Final = 0.001
"""How long slices may follow each other in one turn of the loop, whatever there is to do."""
_FIRST: Final = SECONDS / 4
"""The same of the first turn of several: short work, which comes often, is to hold up a request for less."""


def finish(work: Work[T]) -> T:
    """Do short work in one go and return its result."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result


class Job:
    """Work that was begun; `cancel` ends it without a word."""

    __slots__ = ("_done", "_failed", "_work")

    def __init__(self, work: Work[Any], done: Callable[[Any], None], failed: Callable[[Exception], None]) -> None:
        self._work: Work[Any] | None = work
        self._done: Callable[[Any], None] | None = done
        self._failed: Callable[[Exception], None] | None = failed

    def cancel(self) -> None:
        """Do no more of it, and let go of what it holds."""
        self._work = self._done = self._failed = None

    def step(self) -> bool:
        """Do one piece; return whether there is more."""
        if self._work is None:
            return False
        try:
            next(self._work)
        except StopIteration as end:
            tell, result = self._done, end.value
        except Exception as error:  # noqa: BLE001 - handed on to `failed`
            tell, result = self._failed, error
        else:
            return True
        self.cancel()
        if tell is not None:
            tell(result)
        return False


class Slices:
    """Shares up to a millisecond of each turn of the loop among all jobs, one after the other."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seconds = _FIRST
        self._jobs: deque[Job] = deque()
        self._scheduled = False

    def __repr__(self) -> str:
        return f"<Slices {len(self._jobs)} jobs>"

    def start(self, work: Work[T], done: Callable[[T], None], failed: Callable[[Exception], None]) -> Job:
        """Begin work, in the next turn; `done` gets its result, or `failed` what it raised."""
        job = Job(work, done, failed)
        self._jobs.append(job)
        self._schedule()
        return job

    async def do(self, work: Work[T]) -> T:
        """Do work that nobody else waits for, and return its result; cancelling ends it."""
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        job = self.start(work, partial(_tell, result.set_result, result), partial(_tell, result.set_exception, result))
        try:
            return await result
        except asyncio.CancelledError:
            job.cancel()
            raise

    def _schedule(self) -> None:
        if self._jobs and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        until = self._clock() + self._seconds
        try:
            while self._jobs:
                job = self._jobs.popleft()
                if job.step():
                    self._jobs.append(job)
                if self._clock() >= until:
                    break
        finally:
            self._seconds = min(2 * self._seconds, SECONDS) if self._jobs else _FIRST
            self._schedule()


def _tell(tell: Callable[[Any], None], waiting: "asyncio.Future[Any]", what: Any) -> None:
    if not waiting.done():
        tell(what)
