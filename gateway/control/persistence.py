"""The loop that saves, each second and off the event loop, what shall outlive the process. It never stops traffic."""

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from math import inf
from typing import TypeAlias

from gateway.clock import Clock
from gateway.policy.slo.series import SeriesKey, SlotCounts
from gateway.policy.slo.windows import LASTING
from gateway.state.fleet_counts import CLOCKS_APART, FleetCounts, Merged
from gateway.state.store import (
    FREE,
    BackendFinding,
    Batch,
    Document,
    Ejection,
    Members,
    MemoryStore,
    Record,
    Response,
    Saved,
    StateError,
    Store,
    is_held,
)
from gateway.wire.slices import Slices, Work, finish

_log = logging.getLogger(__name__)
INTERVAL = 1.0
LEASE_SECONDS = 5.0
LEADER = "leader"
"""The kind of document in which the gateway that leads tells of itself."""
_CLOSE_SECONDS = 2.0
_SETTLE_EVERY = 60.0
_MEMBERS_EVERY = 5.0
_EJECTIONS_WAITING = 1000
_RESPONSES_WAITING = 10_000
_COUNTS_AT_ONCE = 20_000
"""Slots in one batch: after an outage of the store the rest follows with the next ones."""


_Flushed: TypeAlias = tuple[int, Merged]


@dataclass(frozen=True, slots=True)
class FleetView:
    """A store and the processes that share it, as one of them sees them.

    `members` are the others and this one, as they were asked for last, None before the first time. Ages are in seconds,
    None where it never happened: `saved` and `read` since the last good save and since the counts of others were read,
    `took` how long the last good save lasted. `ahead` is by how much this process's time is ahead of the store's, or
    behind if below 0. `unsaved` counts slots that wait in memory.
    """

    incarnation: str
    epoch: str
    leads: bool
    members: Members | None
    saved: float | None
    read: float | None
    took: float | None
    ahead: float
    unsaved: int
    recovering: bool


@dataclass(frozen=True, slots=True)
class PersistedState:
    """What is saved beside counts: changed documents, new records and new responses, each given once.

    `taken_over` is told what others saved, when this process takes the lead from them, and `undone` what is saved when
    it loses the lead: what it decided last may not be. `led` is told what the one that leads tells of itself, as long
    as that is another, and `followed` what it has written meanwhile. `merging` counts what
    other processes counted since the last time, and `restored` what they had before, where nothing was read for long.
    `findings` are told to other processes, and `found` takes theirs.
    """

    documents: Callable[[], Iterable[Document]] = tuple
    records: Callable[[], Iterable[Record]] = tuple
    responses: Callable[[], Iterable[Response]] = tuple
    taken_over: Callable[[Iterable[Document]], None] = lambda _: None
    undone: Callable[[Iterable[Document]], None] = lambda _: None
    led: Callable[[Iterable[Document]], None] = lambda _: None
    followed: Callable[[Iterable[Document]], None] = lambda _: None
    merging: Callable[[Iterable[SlotCounts]], Iterable[None]] = lambda _: ()
    restored: Callable[[Iterable[SlotCounts]], None] = lambda _: None
    findings: Callable[[], Iterable[BackendFinding]] = tuple
    found: Callable[[Iterable[BackendFinding]], None] = lambda _: None


class Flusher:
    """Saves what `counts` and `ejections` give: slots that were counted in, with all counts; and each ejection once.

    What cannot be saved waits, so that nothing is lost or doubled while a disk is full. `saved_at` is the last good
    save, in seconds since the epoch, None before the first; `failures` counts the others. `failing` says why the last
    one failed, None when it did not, and `failing_since` since when they do. `token` is the fencing token under which
    this process leads rollouts, 0 while another does.
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
        self.failing_since: float | None = None
        self.token = 0
        self._renewed = -inf
        self._settled = self._members_at = -inf
        self._members: Members | None = None
        self._took: float | None = None
        self._wrong_clock = False
        self._counted = FleetCounts(store)
        self._documents: dict[tuple[str, str], Document] = {}
        self._forgotten = False
        self._told: set[str] = set()
        self._persisted = persisted or PersistedState()
        self._waiting_documents: dict[tuple[str, str], Document] = {}
        self._waiting_records: list[Record] = []
        self._waiting_responses: list[Response] = []
        self._waiting_findings: list[BackendFinding] = []
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

    @property
    def incarnation(self) -> str:
        """What names this start of the process, in the rows that it writes and as the owner of the lease."""
        return self._counted.incarnation

    @property
    def leads(self) -> bool:
        """Whether this process leads: as long as its lease lasts on its own clock, whoever else it reaches."""
        alone = isinstance(self._store, MemoryStore)
        return self.token > 0 and (alone or self._clock() - self._renewed < LEASE_SECONDS)

    @property
    def alone(self) -> bool:
        """Whether no gateway leads, as far as this one can tell: the store was away for as long as a lease lasts."""
        return self._store.remote and self._clock() - self._renewed >= LEASE_SECONDS

    @property
    def read_seconds(self) -> float | None:
        """How long ago the counts of other processes were read, None before the first time."""
        read_at = self._counted.read_at
        return None if read_at is None else max(0.0, self._clock() - read_at)

    def fleet(self) -> FleetView | None:
        """Return what is known of the store and of those that share it, None where nothing is saved."""
        if isinstance(self._store, MemoryStore):
            return None
        return FleetView(
            self.incarnation,
            self._counted.epoch,
            self.leads,
            self._members,
            None if self.saved_at is None else max(0.0, self._clock() - self.saved_at),
            self.read_seconds,
            self._took,
            self._counted.ahead,
            len(self._waiting),
            self._counted.recovering,
        )

    def loaded(self, saved: Saved) -> None:
        """Take what was read at start."""
        self._counted.loaded(saved, self._clock())
        self._documents = {(each.kind, each.name): each for each in saved.documents}

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
        self._renewed = self._clock()
        try:
            self.token = self._store.lead(self.incarnation, self._renewed, LEASE_SECONDS)
        except StateError as error:
            self.token = 0 if self._store.remote else 1
            self._failed(error)

    async def flush(self) -> None:
        """Save once what has come and what waits; a failure is told once, and when it is over."""
        async with self._turn:
            await self._do(self._collecting())
            batch = self._batch()
            saving = asyncio.get_running_loop().run_in_executor(self._thread, self._save, batch)
            try:
                token, merged = await asyncio.shield(saving)
            except StateError as error:
                if not self._store.remote:
                    self._renewed = batch.at  # where it cannot be renewed, no other process has it either
                self._failed(error)
                return
            except asyncio.CancelledError:
                # The thread goes on: what it saves must not be saved again.
                saving.add_done_callback(partial(self._saved_late, batch))
                raise
            self._renewed = batch.at
            self._tell_clock(self._counted.ahead)
            self._led(token, merged)
            self._persisted.found(merged.reply.findings)
            await self._do(self._merging(batch, merged))

    def _saved_late(self, batch: Batch, done: "asyncio.Future[_Flushed]") -> None:
        if not done.exception() and done.result()[1].saved:
            finish(self._saved(batch))

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

    def _save(self, batch: Batch) -> _Flushed:
        """Renew the lease and save; return the token, and what others have counted and written."""
        token = self._store.lead(self.incarnation, batch.at, LEASE_SECONDS)
        leads = token > 0 and token == batch.token
        # Documents of a process that does not lead wait until it does, but for those that are free.
        free = tuple(each for each in batch.documents if each.kind in FREE)
        merged = self._counted.save(batch if leads else replace(batch, documents=free, token=0))
        if not leads or self._counted.behind or self._settled == -inf:
            self._settled = batch.at  # after a fail-over, all have a minute to write what the server has forgotten
        elif batch.at - self._settled > _SETTLE_EVERY:
            self._settled = batch.at
            with contextlib.suppress(StateError):  # all is saved: the next time will do
                self._store.settle(self.incarnation, token, batch.at)
        refused = leads and merged.saved and not merged.reply.led  # this process was paused after it renewed the lease
        self._took = self._clock() - batch.at
        if batch.at - self._members_at >= _MEMBERS_EVERY:
            with contextlib.suppress(StateError):  # all is saved: the next time will do
                self._members = self._store.members(self._clock())
                self._members_at = batch.at
        return 0 if refused else token, merged

    def _tell_clock(self, ahead: float) -> None:
        """Log once that this process's time is wrong: it never jumps, so only another start gets it right."""
        is_wrong = abs(ahead) > CLOCKS_APART
        if is_wrong and not self._wrong_clock:
            text = "the time of this gateway is not the server's, so its counts are of other times: restart it"
            _log.error(text, extra={"seconds_ahead": round(ahead, 1)})
        self._wrong_clock = is_wrong

    def _led(self, token: int, merged: Merged) -> None:
        before, self.token = self.token, token
        written = merged.reply.documents
        if token and token == before and merged.saved:
            self._documents |= self._waiting_documents
            self._waiting_documents.clear()
        for each in written:
            self._documents[each.kind, each.name] = each
            self._waiting_documents.pop((each.kind, each.name), None)
        if before and not token:
            _log.warning("another gateway leads rollouts now")
            self._persisted.undone(self._documents.values())
        self._persisted.followed(written)
        if token and token != before:
            _log.info("this gateway leads rollouts now")
            self._persisted.taken_over(self._documents.values())
        elif not token:
            self._persisted.led(each for each in self._documents.values() if each.kind == LEADER)
        self._forgotten = self._forgotten or merged.recovered
        if self._forgotten and token:  # the store was emptied: what it had is here
            self._forgotten = False
            self._waiting_documents = self._documents | self._waiting_documents

    def _merging(self, batch: Batch, merged: Merged) -> Work[None]:
        """Count what others have counted, and forget what is saved."""
        if merged.restored:
            self._persisted.restored(merged.restored)
        yield from self._persisted.merging(merged.changes)
        if merged.saved:
            yield from self._saved(batch)
        else:
            self._failed(StateError(f"{self.where} was emptied: what gateways had there is being restored"))

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
        self._waiting_findings += self._persisted.findings()
        del self._waiting_findings[:-_EJECTIONS_WAITING]
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
            findings=tuple(self._waiting_findings),
        )

    def _forget_counts(self, now: float) -> None:
        """Forget waiting counts that no window holds any more."""
        self._waiting = {key: each for key, each in self._waiting.items() if is_held(each, now)}
        self._most_waiting = max(_COUNTS_AT_ONCE, 2 * len(self._waiting))

    def _saved(self, batch: Batch) -> Work[None]:
        self._waiting_ejections.clear()
        self._waiting_findings.clear()
        self._waiting_records.clear()
        self._waiting_responses.clear()
        for each in batch.counts:
            key = each.series, each.width, each.slot
            if self._waiting.get(key) is each:  # more may have been counted there meanwhile
                del self._waiting[key]
            yield
        self.saved_at = batch.at
        if self.failing:
            self.failing = self.failing_since = None
            self._told.clear()
            _log.info("state is saved again")

    def _failed(self, error: StateError) -> None:
        self.failures += 1
        if not self.failing:
            self.failing_since = self._clock()
        if (words := _words(str(error))) not in self._told:
            self._told.add(words)
            _log.error("state is not saved: traffic goes on, and counts wait in memory", extra={"reason": str(error)})
        self.failing = str(error)


def _words(reason: str) -> str:
    """Return why saving failed, without what may vary from one time to the next: each reason is told once."""
    return re.sub(r"\s*\(.*\)|\d+", "", reason)
