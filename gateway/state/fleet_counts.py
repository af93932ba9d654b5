"""The counts of one process among those of others: what it has written, what others have, and how both stay right.

All of this runs in the thread that talks to the store.
"""

import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import inf

from gateway.policy.slo.series import SlotCounts
from gateway.policy.slo.windows import LASTING
from gateway.state.slot_table import SlotTable
from gateway.state.store import FINEST, Batch, Recovery, Reply, Saved, Store, is_held

_AT_ONCE = 20_000
"""Slots in one batch, where the rest follows with the next ones."""
_PIECE = 2_000
"""Slots in one batch of those that follow one another at once: a server does nothing else meanwhile."""
_UNREAD_SECONDS = 240.0
"""After so long without reading, the store may not remember all changes: everything is read again."""
_RECENT_SECONDS = 60.0
"""For so long others hold a slot of the finest after it was written, even if they have not read for a while."""
_FORGET_EVERY = 60.0
_TIMED_EVERY = 60.0
CLOCKS_APART = 10.0
"""Seconds by which this process's time may differ from the store's: answers take their time, too."""
_UNANSWERED = 10
_HEARD = 10_000
"""Of how many processes it is known which of their batches was read last."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What a flush came to. Where it was not `saved`, all of it has to be saved again.

    `changes` are what others have counted since the last one, in the finest slots; `restored` the same of all widths,
    after a time without reading. `recovered` says that the store had forgotten something, and holds counts again.
    """

    saved: bool
    changes: tuple[SlotCounts, ...] = ()
    restored: tuple[SlotCounts, ...] = ()
    reply: Reply = field(default_factory=Reply)
    recovered: bool = False


@dataclass(slots=True)
class _Before:
    """What a process counted under an id that it had before, in which store, and the last number it wrote there."""

    epoch: str
    incarnation: str
    sequence: int
    counts: SlotTable


@dataclass(slots=True)
class _Returning:
    """What a process holds that comes back to an emptied store: from which epoch, and what it had seen there.

    `doubtful` are numbered batches of which it does not know whether they came, so that others may have read them.
    """

    epoch: str
    seen: int
    doubtful: tuple[tuple[int, tuple[SlotCounts, ...]], ...] = ()
    sent: bool = False


class FleetCounts:
    """What one process saves under an id that no other start of it has: its `incarnation`.

    `read_at` is when the counts of others were read last, in seconds since the epoch, None before the first time.
    `ahead` is by how many seconds this process's time is ahead of the store's, 0 before that is known.
    """

    def __init__(self, store: Store) -> None:
        self.incarnation = _new_id()
        self._store = store
        self._sequence = self._acknowledged = 0
        self._epoch = ""
        self._earlier: set[str] = set()
        self._seen = 0
        self.read_at: float | None = None
        self.ahead = 0.0
        self._timed_at = -inf
        self._forgot_at = 0.0
        self._own, self._others = SlotTable(), SlotTable()
        self._before: list[_Before] = []
        self._unanswered: list[tuple[int, tuple[SlotCounts, ...]]] = []
        self._returning: _Returning | None = None
        self._behind = self._before_behind = self._missed = self._recovered = self._is_part = False
        self._restored: list[SlotCounts] = []
        self._heard: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<FleetCounts {self.incarnation} seen {self._seen}>"

    @property
    def epoch(self) -> str:
        """The id of the store, "" until it is known: another store, or an emptied one, has another."""
        return self._epoch

    @property
    def recovering(self) -> bool:
        """Whether the store was emptied, and what it had is not restored yet."""
        return self._returning is not None

    @property
    def behind(self) -> bool:
        """Whether the store has forgotten something, and this process has not written all of that again."""
        return self._behind or self._before_behind

    def loaded(self, saved: Saved, now: float) -> None:
        """Take what was read at start. Nothing is read from a store that did not answer: then that comes later."""
        if saved.epoch:
            self._epoch, self._seen, self.read_at = saved.epoch, saved.version, now
            self._others = SlotTable(saved.slots)

    def save(self, batch: Batch) -> Merged:
        """Save a batch whose counts are all that this process has counted; raises StateError."""
        self._tell_time(batch.at)
        if self._returning is not None:
            if not self._come_back(batch.at, self._returning):
                return Merged(saved=False)
            self._recovered = True
        if self._behind and self._send_again(batch.at):
            self._recovered = True
        if self._before_behind:
            self._before_behind = not all(self._send_before(batch.at, each) for each in self._before)
        if not self._epoch:  # else it would not notice a store that is emptied before its first answer comes
            self._read(batch.at)
        reply = self._send(batch)
        if reply is None and self._returning is None:
            reply = self._send(batch)  # under another id
        if reply is None:
            return Merged(saved=False)
        read = self._read(batch.at)  # now that it is known which rows are its own
        # What was read has all counts of slots in it, but not the finest ones that no window holds.
        others = (each for each in reply.others if not read or is_held(each, batch.at - self.ahead))
        changes = self._take(others)
        self._hear(reply.flushed)
        self._restore(reply.totals)
        self._seen, self.read_at = reply.version, batch.at
        if batch.at - self._forgot_at > _FORGET_EVERY:
            self._forgot_at = batch.at
            for table in (self._own, self._others, *(each.counts for each in self._before)):
                table.forget()
        restored, recovered = tuple(self._restored), self._recovered
        self._restored, self._recovered = [], False  # only now: a call before may have raised StateError
        return Merged(saved=True, changes=changes, restored=restored, reply=reply, recovered=recovered)

    def _tell_time(self, now: float) -> None:
        """See how far this process's time is from the store's. What was read by another time is read again.

        Slots in progress would be missing in it, and be taken as new when others go on counting in them.
        """
        if abs(now - self._timed_at) < _TIMED_EVERY:
            return
        before, self.ahead = self.ahead, self._store.ahead(now)
        self._timed_at = now
        if abs(self.ahead - before) > CLOCKS_APART:
            self._missed = True

    def _send(self, batch: Batch) -> Reply | None:
        """Send what this incarnation has counted; None where it was not taken."""
        counts = batch.counts
        for before in self._before:
            counts = tuple(before.counts.rest(counts))  # what was counted under this id
        every = self._is_part or _is_part(batch)
        self._is_part = _is_part(batch)
        reply = self._write(
            replace(batch, counts=counts, epoch=self._epoch, seen=self._seen, every=every, unread=self._missed)
        )
        if self._epoch and reply.epoch != self._epoch:
            self._earlier.add(self._epoch)
            if reply.epoch not in self._earlier:  # else it is an earlier copy, which shows by its sequence
                self._returning = _Returning(self._epoch, self._seen, tuple(self._unanswered[:-1]))
            else:
                self._before_behind = True
            self._epoch = reply.epoch
            return None
        self._epoch = reply.epoch
        if reply.ended:
            for sequence, written in self._unanswered:
                if sequence <= reply.sequence:  # it came, only its answer did not
                    self._note(written)
            self._take_another_id(self._epoch)
            self._before_behind = True  # a copy from before they were settled may have taken over meanwhile
            return None
        forgotten = reply.sequence < self._acknowledged
        self._behind = self._behind or forgotten
        self._missed = self._missed or reply.missed or forgotten
        self._acknowledged = self._sequence
        self._unanswered.clear()
        self._note(counts)
        return reply

    def _write(self, batch: Batch) -> Reply:
        self._sequence += 1
        if len(self._unanswered) == _UNANSWERED:
            del self._unanswered[_UNANSWERED // 2]  # those that came are the first ones, of which each holds more
        self._unanswered.append((self._sequence, batch.counts))
        return self._store.save(
            replace(batch, incarnation=self.incarnation, sequence=self._sequence, acknowledged=self._acknowledged)
        )

    def _note(self, counts: Iterable[SlotCounts]) -> None:
        for each in counts:
            self._own.put(each)

    def _send_again(self, now: float) -> bool:
        """Write everything again into a store that has forgotten something; return whether that is done.

        The same numbers change nothing.
        """
        for piece in _pieces(self._own):
            reply = self._write(Batch(now, piece, epoch=self._epoch, seen=self._seen, every=True, unread=True))
            if reply.ended or reply.epoch != self._epoch:
                return False  # the next batch finds out
            again = reply.sequence < self._acknowledged
            self._acknowledged = self._sequence
            if again:
                return False
        self._behind, self._before_behind = False, True
        return True

    def _send_before(self, now: float, before: _Before) -> bool:
        """Write what was counted in this store under an earlier id, where that is not settled; return if it is done."""
        for piece in _pieces(before.counts) if before.epoch == self._epoch else ():
            before.sequence += 1
            batch = Batch(now, piece, epoch=self._epoch, seen=self._seen, every=True, unread=True)
            reply = self._store.save(replace(batch, incarnation=before.incarnation, sequence=before.sequence))
            if reply.epoch != self._epoch:
                return False
            if reply.ended:
                return True
        return True

    def _take_another_id(self, epoch: str) -> None:
        """Go on under another id: what the one before has in this store counts as another's from now on."""
        self._before.append(_Before(epoch, self.incarnation, self._sequence, self._own))
        for each in self._own:
            self._others.add(each)
        self._own = SlotTable()
        self.incarnation = _new_id()
        self._sequence = self._acknowledged = 0
        self._unanswered.clear()
        self._behind = False

    def _come_back(self, now: float, returning: _Returning) -> bool:
        """Write into an emptied store what was acknowledged before; return whether this process may go on."""
        pieces = ([()] if returning.sent else _pieces(self._own)) or [()]
        for number, piece in enumerate(pieces, 1):
            batch = Batch(now, piece, epoch=self._epoch, seen=returning.seen, returning=returning.epoch, unread=True)
            reply = self._write(replace(batch, more=number < len(pieces)))
            if reply.epoch != self._epoch:
                self._epoch, returning.sent = reply.epoch, False
                if reply.epoch in self._earlier:
                    self._returning, self._before_behind = None, True
                return False
            if reply.ended:
                return self._gone_on(returning, late=True)
        returning.sent = True
        what = self._store.recovery(self.incarnation)
        if what is Recovery.RESTORE:
            totals = SlotTable(self._others)
            for each in self._own:
                totals.add(each)
            here = self._store.returned(totals)
            counts = tuple(SlotTable(here.counts).rest(totals))
            if not self._store.restore(self.incarnation, counts, here.arrivals, self._heard):
                return False  # another has come back meanwhile
            what = self._store.recovery(self.incarnation)
        return what is not Recovery.WAIT and self._gone_on(returning, late=what is Recovery.LATE)

    def _gone_on(self, returning: _Returning, *, late: bool) -> bool:
        self._set_apart(returning.doubtful)
        self._returning = None
        self._acknowledged, self._seen = self._sequence, 0
        self._missed = True
        self._unanswered.clear()
        if late:
            self._take_another_id(returning.epoch)
        return True

    def _set_apart(self, doubtful: Iterable[tuple[int, tuple[SlotCounts, ...]]]) -> None:
        """Count as another's what came and was not answered, if the process that restored the store had read it."""
        if not doubtful:
            return
        read = self._store.restored_from(self.incarnation)
        written = SlotTable(each for sequence, counts in doubtful if sequence <= read for each in counts)
        restored = SlotTable(self._own.rest(written))
        for each in restored:
            self._others.add(each)
        self._before.append(_Before("", self.incarnation, 0, restored))

    def _read(self, now: float) -> bool:
        """Read all that others have counted, where changes since the last time do not tell it; return if it was.

        What has been `seen` stays: documents that were written meanwhile come with the next batch. What the store has
        forgotten stays known: the processes that counted it write it again.
        """
        if self.read_at is not None and now - self.read_at < _UNREAD_SECONDS and not self._missed:
            return False
        saved = self._store.load(now - self.ahead, self.incarnation)
        if self._epoch and saved.epoch != self._epoch:
            return False  # the next batch finds out
        self._restore(saved.slots)
        self._epoch, self.read_at, self._missed = saved.epoch, now, False
        return True

    def _restore(self, slots: Iterable[SlotCounts]) -> None:
        """Take what others have counted, of any width, where that is more than is known."""
        for each in tuple(self._others.rest(slots)):
            self._others.add(each)
            self._restored.append(each)

    def _hear(self, flushed: Iterable[tuple[str, int]]) -> None:
        """Note which batches of others have been read."""
        for incarnation, sequence in flushed:
            self._heard.pop(incarnation, None)
            self._heard[incarnation] = sequence
        while len(self._heard) > _HEARD:
            del self._heard[next(iter(self._heard))]

    def _take(self, others: Iterable[SlotCounts]) -> tuple[SlotCounts, ...]:
        """Return by how much the counts of others have changed."""
        found = []
        for each in others:
            change = self._others.less(each)
            if not (change.good or change.bad):
                continue
            found.append(change)
            begins = each.slot * FINEST
            for width in LASTING:
                self._others.add(change._replace(width=width, slot=int(begins // width)))
        return tuple(found)


def _new_id() -> str:
    return f"{socket.gethostname()}/{secrets.token_hex(6)}"


def _is_part(batch: Batch) -> bool:
    """Whether the finest slots in a batch do not tell others all of it.

    That is so where the rest follows, and where some are so old that others may not hold them any more.
    """
    old = batch.at - _RECENT_SECONDS
    return len(batch.counts) >= _AT_ONCE or any(
        each.width == FINEST and (each.slot + 1) * each.width < old for each in batch.counts
    )


def _pieces(counts: Iterable[SlotCounts]) -> list[tuple[SlotCounts, ...]]:
    every = list(counts)
    return [tuple(every[at : at + _PIECE]) for at in range(0, len(every), _PIECE)]
