"""Drives the engine model in real time and hands each new token to the request that waits for it."""

import asyncio
from collections.abc import Callable

from gateway.sim.engine import Engine, Sequence
from gateway.sim.metrics import Recorder

_CATCH_UP = 0.005
"""Seconds by which a late step may shorten the next: timers are rounded to milliseconds."""


class Runner:
    """Owns the engine's steps. `slowness` is read before every step and multiplies its duration.

    No step ends while `moving` is not set.
    """

    def __init__(
        self, engine: Engine, recorder: Recorder, clock: Callable[[], float], slowness: Callable[[], float]
    ) -> None:
        self.engine = engine
        self.clock = clock
        self._recorder = recorder
        self._slowness = slowness
        self._sinks: dict[Sequence, Callable[[], None]] = {}
        self._work = asyncio.Event()
        self.moving = asyncio.Event()
        self.moving.set()

    def submit(self, sequence: Sequence, on_token: Callable[[], None]) -> None:
        """Queue a sequence; `on_token` is called after each of its tokens."""
        self.engine.submit(sequence)
        self._sinks[sequence] = on_token
        self._work.set()

    def abort(self, sequence: Sequence) -> None:
        """Drop a sequence now; nothing happens if it is over."""
        self.engine.abort(sequence)
        self._sinks.pop(sequence, None)

    async def run(self) -> None:
        """Step for ever, resting while there is no work."""
        due = self.clock()
        while True:
            now = self.clock()
            step = self.engine.schedule(now)
            if step is None:
                self._work.clear()
                await self._work.wait()
                due = self.clock()
                continue
            due = max(due, now - _CATCH_UP) + step.duration * self._slowness()
            await asyncio.sleep(max(0.0, due - self.clock()))
            await self.moving.wait()
            now = self.clock()
            self._recorder.stepped(step)
            for sequence in self.engine.complete(step, now):
                self._deliver(sequence)

    def _deliver(self, sequence: Sequence) -> None:
        self._recorder.produced(sequence)
        sink = self._sinks.pop(sequence) if sequence.finished else self._sinks[sequence]
        sink()
