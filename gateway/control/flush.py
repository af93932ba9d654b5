"""The loop that saves, each second and off the event loop, what shall outlive the process. It never stops traffic."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from gateway.clock import Clock
from gateway.state.store import Batch, Delta, Ejection, StateError, Store

_log = logging.getLogger(__name__)
INTERVAL = 1.0
_CLOSE_SECONDS = 2.0
_EJECTIONS_WAITING = 1000

Counted = tuple[str, str, str, int, int]
"""Kind, name, SLI, good, bad."""


class Flusher:
    """Saves what `counts` and `ejections` give, each of which gives everything once.

    What cannot be saved waits and is added to what comes, so that nothing is lost or doubled while a disk is full.
    `saved_at` is the last good save, in seconds since the epoch, 0.0 before the first; `failures` counts the others.
    """

    def __init__(
        self,
        store: Store,
        counts: Callable[[], Iterable[Counted]],
        ejections: Callable[[], Iterable[Ejection]],
        clock: Clock,
        interval: float = INTERVAL,
    ) -> None:
        self.saved_at = 0.0
        self.failures = 0
        self._store = store
        self._counts = counts
        self._ejections = ejections
        self._clock = clock
        self._interval = interval
        self._waiting: dict[tuple[str, str, str], tuple[int, int]] = {}
        self._waiting_ejections: list[Ejection] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state")
        self._turn = asyncio.Lock()
        self._failing = False

    async def run(self) -> None:
        """Save until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            await self.flush()

    async def flush(self) -> None:
        """Save once what has come and what waits; a failure is told once, and when it is over."""
        async with self._turn:
            self._collect()
            batch = self._batch()
            saving = asyncio.get_running_loop().run_in_executor(self._thread, self._store.save, batch)
            try:
                await asyncio.shield(saving)
            except StateError as error:
                self._failed(error)
                return
            except asyncio.CancelledError:
                # The thread goes on: what it saves must not be saved again.
                saving.add_done_callback(lambda done: self._saved(batch) if not done.exception() else None)
                raise
            self._saved(batch)

    async def close(self) -> None:
        """Save what is left, for at most two seconds, and let go of the store."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.flush()
        except TimeoutError:
            _log.error("state could not be saved in time: up to a few seconds of counts are lost")
        self._thread.shutdown(wait=False, cancel_futures=True)
        if not self._turn.locked():
            self._store.close()

    def _collect(self) -> None:
        waiting = self._waiting
        for kind, name, sli, good, bad in self._counts():
            key = (kind, name, sli)
            known = waiting.get(key, (0, 0))
            waiting[key] = (known[0] + good, known[1] + bad)
        self._waiting_ejections += self._ejections()
        del self._waiting_ejections[:-_EJECTIONS_WAITING]

    def _batch(self) -> Batch:
        deltas = tuple(Delta(*key, *counts) for key, counts in self._waiting.items())
        return Batch(self._clock(), deltas, tuple(self._waiting_ejections))

    def _saved(self, batch: Batch) -> None:
        self._waiting.clear()
        self._waiting_ejections.clear()
        self.saved_at = batch.at
        if self._failing:
            self._failing = False
            _log.info("state is saved again")

    def _failed(self, error: StateError) -> None:
        self.failures += 1
        if not self._failing:
            self._failing = True
            _log.error("state is not saved: traffic goes on, counts wait", extra={"reason": str(error)})
