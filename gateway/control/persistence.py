"""The loop that saves, each second and off the event loop, what shall outlive the process. It never stops traffic."""

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice

from gateway.clock import Clock
from gateway.policy.slo.series import SeriesKey, SlotCounts
from gateway.policy.slo.windows import LASTING, STORED
from gateway.state.store import Batch, Document, Ejection, Record, Response, StateError, Store
from gateway.wire.slices import Slices, Work, finish

_log = logging.getLogger(__name__)
INTERVAL = 1.0
LEASE_SECONDS = 5.0
LEADER = "leader"
"""The kind of document in which the gateway that leads tells of itself."""
_CLOSE_SECONDS = 2.0
_EJECTIONS_WAITING = 1000
_RESPONSES_WAITING = 10_000
_COUNTS_AT_ONCE = 20_000
"""Slots in one batch: after an outage of the store the rest follows with the next ones."""


@dataclass(frozen=True, slots=True)
class PersistedState:
    """What is saved beside counts: changed documents, new records and new responses, each given once.

    `taken_over` is told what others saved, when this process takes the lead from them, and `led` what the one that
    leads tells of itself, as long as that is another.
    """

    documents: Callable[[], Iterable[Document]] = tuple
    records: Callable[[], Iterable[Record]] = tuple
    responses: Callable[[], Iterable[Response]] = tuple
    taken_over: Callable[[Iterable[Document]], None] = lambda _: None
    led: Callable[[Iterable[Document]], None] = lambda _: None


class Flusher:
    """Saves what `counts` and `ejections` give: slots that were counted in, with all counts; and each ejection once.

    What cannot be saved waits, so that nothing is lost or doubled while a disk is full. `incarnation` names this start
    of the process, in the rows that it writes and as the owner of the lease.
    `saved_at` is the last good save, in seconds since the epoch, None before the first; `failures` counts the others.
    `failing` says why the last one failed, None when it did not. `token` is the fencing token under which this process
    leads rollouts, 0 while another does.
    """

    def __init__(
        self,
        store: Store,
        counts: Callable[[], Iterable[SlotCounts]],
        ejections: Callable[[], Iterable[Ejection]],
        clock: Clock,
        interval: float = INTERVAL,
        *,
        persisted: PersistedState | None = None,
        slices: Slices | None = None,
    ) -> None:
        """Take whose slices of the loop's time to work in: thousands of counts take their time."""
        self.saved_at: float | None = None
        self.failures = 0
        self.failing: str | None = None
        self.token = 0
        self.incarnation = f"{socket.gethostname()}/{secrets.token_hex(6)}"
        self._persisted = persisted or PersistedState()
        self._waiting_documents: dict[tuple[str, str], Document] = {}
        self._waiting_records: list[Record] = []
        self._waiting_responses: list[Response] = []
        self._wake = asyncio.Event()
        self.where = store.where
        self._store = store
        self._slices = slices
        self._counts = counts
        self._ejections = ejections
        self._clock = clock
        self._interval = interval
        self._waiting: dict[tuple[SeriesKey, float, int], SlotCounts] = {}
        self._most_waiting = _COUNTS_AT_ONCE
        self._waiting_ejections: list[Ejection] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state")
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Save until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._wake.wait()
            self._wake.clear()
            await self.flush()

    def wake(self) -> None:
        """Save soon: something happened that no restart may undo."""
        self._wake.set()

    def lead(self) -> None:
        """Take the lease before anything is served; blocks. Where there can be none, no other process has it either."""
        try:
            self.token = self._store.lead(self.incarnation, self._clock(), LEASE_SECONDS)
        except StateError as error:
            self.token = 1
            self._failed(error)

    async def flush(self) -> None:
        """Save once what has come and what waits; a failure is told once, and when it is over."""
        async with self._turn:
            await self._do(self._collecting())
            batch = self._batch()
            saving = asyncio.get_running_loop().run_in_executor(self._thread, self._save, batch)
            try:
                self._led(*await asyncio.shield(saving))
            except StateError as error:
                self._failed(error)
                return
            except asyncio.CancelledError:
                # The thread goes on: what it saves must not be saved again.
                saving.add_done_callback(lambda done: finish(self._saved(batch)) if not done.exception() else None)
                raise
            await self._do(self._saved(batch))

    async def close(self) -> None:
        """Save what is left, for at most two seconds, and let go of the store."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.flush()
                while self._waiting and not self.failing:
                    await self.flush()
        except TimeoutError:
            _log.error("state could not be saved in time: up to a few seconds of counts are lost")
        self._thread.shutdown(wait=False, cancel_futures=True)
        if not self._turn.locked():
            with contextlib.suppress(StateError):
                self._store.resign(self.incarnation)
            self._store.close()

    def _save(self, batch: Batch) -> tuple[int, tuple[Document, ...]]:
        """Renew the lease and save; return the token, and what others have saved.

        That is all of it when the lead was taken over just now; what the leader tells of itself while that is another.
        """
        token = self._store.lead(self.incarnation, batch.at, LEASE_SECONDS)
        leads = token > 0 and token == batch.token
        others: tuple[Document, ...] = ()
        if not leads:
            others = self._store.load(batch.at).documents if token else self._store.documents(LEADER)
        # Documents of a process that does not lead wait until it does.
        self._store.save(batch if leads else replace(batch, documents=()))
        return token, others

    def _led(self, token: int, documents: tuple[Document, ...]) -> None:
        before, self.token = self.token, token
        if token and token == before:
            self._waiting_documents.clear()
        elif token:
            _log.info("this gateway leads rollouts now")
            self._persisted.taken_over(documents)
        else:
            if before:
                _log.warning("another gateway leads rollouts now")
            self._persisted.led(documents)

    async def _do(self, work: Work[None]) -> None:
        if self._slices is None:
            finish(work)
        else:
            await self._slices.do(work)

    def _collecting(self) -> Work[None]:
        for each in self._counts():
            self._waiting[each.series, each.width, each.slot] = each
            if each.width == LASTING[-1]:
                yield  # all slots of a series go together: whoever ends this work loses none of them
        if len(self._waiting) > self._most_waiting:
            self._forget_counts(self._clock())
        self._waiting_ejections += self._ejections()
        del self._waiting_ejections[:-_EJECTIONS_WAITING]
        self._waiting_documents |= {(each.kind, each.name): each for each in self._persisted.documents()}
        self._waiting_records += self._persisted.records()
        del self._waiting_records[:-_EJECTIONS_WAITING]
        self._waiting_responses += self._persisted.responses()
        del self._waiting_responses[:-_RESPONSES_WAITING]

    def _batch(self) -> Batch:
        return Batch(
            self._clock(),
            tuple(islice(self._waiting.values(), _COUNTS_AT_ONCE)),
            tuple(self._waiting_ejections),
            tuple(self._waiting_documents.values()),
            tuple(self._waiting_records),
            self.token,
            tuple(self._waiting_responses),
            self.incarnation,
        )

    def _forget_counts(self, now: float) -> None:
        """Forget waiting counts that no window holds any more."""
        self._waiting = {
            key: each for key, each in self._waiting.items() if (each.slot + 1) * each.width > now - STORED[each.width]
        }
        self._most_waiting = max(_COUNTS_AT_ONCE, 2 * len(self._waiting))

    def _saved(self, batch: Batch) -> Work[None]:
        self._waiting_ejections.clear()
        self._waiting_records.clear()
        self._waiting_responses.clear()
        for each in batch.counts:
            key = each.series, each.width, each.slot
            if self._waiting.get(key) is each:  # more may have been counted there meanwhile
                del self._waiting[key]
            yield
        self.saved_at = batch.at
        if self.failing:
            self.failing = None
            _log.info("state is saved again")

    def _failed(self, error: StateError) -> None:
        self.failures += 1
        if not self.failing:
            _log.error("state is not saved: traffic goes on, and counts wait in memory", extra={"reason": str(error)})
        self.failing = str(error)
