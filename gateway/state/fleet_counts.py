"""The counts of one process among those of others: what it has written, what others have, and how both stay right.

All of this runs in the thread that talks to the store.
"""

import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from gateway.policy.slo.series import SlotCounts
from gateway.policy.slo.windows import LASTING
from gateway.state.slot_table import SlotTable
from gateway.state.store import FINEST, Batch, Recovery, Reply, Saved, Store

_AT_ONCE = 20_000
_UNREAD_SECONDS = 240.0
"""After so long without reading, the store may not remember all changes: everything is read again."""
_FORGET_EVERY = 60.0
_UNANSWERED = 10


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
class _Returning:
    """What a process holds that comes back to an emptied store: from which epoch, and what it had seen there."""

    epoch: str
    seen: int
    sent: bool = False


class FleetCounts:
    """What one process saves under an id that no other start of it has: its `incarnation`.

    `read_at` is when the counts of others were read last, in seconds since the epoch, None before the first time.
    """

    def __init__(self, store: Store) -> None:
        self.incarnation = _new_id()
        self._store = store
        self._sequence = self._acknowledged = 0
        self._epoch = ""
        self._earlier: set[str] = set()
        self._seen = 0
        self.read_at: float | None = None
        self._forgot_at = 0.0
        self._own, self._others = SlotTable(), SlotTable()
        self._before = SlotTable()
        self._unanswered: list[tuple[int, tuple[SlotCounts, ...]]] = []
        self._returning: _Returning | None = None
        self._behind = self._missed = False

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

    def loaded(self, saved: Saved, now: float) -> None:
        """Take what was read at start. Nothing is read from a store that did not answer: then that comes later."""
        if saved.epoch:
            self._epoch, self._seen, self.read_at = saved.epoch, saved.version, now
            self._others = SlotTable(saved.slots)

    def save(self, batch: Batch) -> Merged:
        """Save a batch whose counts are all that this process has counted; raises StateError."""
        recovered = False
        if self._returning is not None:
            recovered = self._come_back(batch.at, self._returning)
            if not recovered:
                return Merged(saved=False)
        if self._behind:
            recovered = self._send_again(batch.at)
        reply = self._send(batch)
        if reply is None and self._returning is None:
            reply = self._send(batch)  # under another id
        if reply is None:
            return Merged(saved=False)
        restored = self._read(batch.at)  # now that it is known which rows are its own
        changes = self._take(reply.others)
        self._seen, self.read_at = reply.version, batch.at
        if batch.at - self._forgot_at > _FORGET_EVERY:
            self._forgot_at = batch.at
            for table in (self._own, self._others, self._before):
                table.forget()
        return Merged(saved=True, changes=changes, restored=restored, reply=reply, recovered=recovered)

    def _send(self, batch: Batch) -> Reply | None:
        """Send what this incarnation has counted; None where it was not taken."""
        counts = tuple(self._before.rest(batch.counts))  # what was counted under this id
        reply = self._write(replace(batch, counts=counts, epoch=self._epoch, seen=self._seen))
        if self._epoch and reply.epoch != self._epoch:
            self._earlier.add(self._epoch)
            if reply.epoch not in self._earlier:  # else it is an earlier copy, which shows by its sequence
                self._returning = _Returning(self._epoch, self._seen)
            self._epoch = reply.epoch
            return None
        self._epoch = reply.epoch
        if reply.ended:
            for sequence, written in self._unanswered:
                if sequence <= reply.sequence:  # it came, only its answer did not
                    self._note(written)
            self._take_another_id()
            return None
        self._behind = reply.sequence < self._acknowledged
        self._missed = reply.missed or self._behind
        self._acknowledged = self._sequence
        self._unanswered.clear()
        self._note(counts)
        return reply

    def _write(self, batch: Batch) -> Reply:
        self._sequence += 1
        self._unanswered = [*self._unanswered[1 - _UNANSWERED :], (self._sequence, batch.counts)]
        return self._store.save(replace(batch, incarnation=self.incarnation, sequence=self._sequence))

    def _note(self, counts: Iterable[SlotCounts]) -> None:
        for each in counts:
            self._own.put(each)

    def _send_again(self, now: float) -> bool:
        """Write everything again into a store that has forgotten something; return whether that is done.

        The same numbers change nothing.
        """
        for piece in _pieces(self._own):
            reply = self._write(Batch(now, piece, epoch=self._epoch, seen=self._seen))
            if reply.ended or reply.epoch != self._epoch:
                return False  # the next batch finds out
            again = reply.sequence < self._acknowledged
            self._acknowledged = self._sequence
            if again:
                return False
        self._behind = False
        return True

    def _take_another_id(self) -> None:
        """Go on under another id: what the one before has in the store counts as another's from now on."""
        for each in self._own:
            self._before.add(each)
            self._others.add(each)
        self._own = SlotTable()
        self.incarnation = _new_id()
        self._sequence = self._acknowledged = 0
        self._unanswered.clear()
        self._behind = False

    def _come_back(self, now: float, returning: _Returning) -> bool:
        """Write into an emptied store what was acknowledged before; return whether this process may go on."""
        pieces = [()] if returning.sent else _pieces(self._own)
        for piece in pieces or [()]:
            batch = Batch(now, piece, epoch=self._epoch, seen=returning.seen, returning=returning.epoch)
            reply = self._write(batch)
            if reply.epoch != self._epoch:
                self._epoch, returning.sent = reply.epoch, False
                if reply.epoch in self._earlier:
                    self._returning = None
                return False
            if reply.ended:
                return self._gone_on(late=True)
        returning.sent = True
        what = self._store.recovery(self.incarnation)
        if what is Recovery.RESTORE:
            totals = SlotTable(self._others)
            for each in self._own:
                totals.add(each)
            here = SlotTable(self._store.returned(totals))
            self._store.restore(self.incarnation, tuple(here.rest(totals)))
            what = Recovery.DONE
        return what is not Recovery.WAIT and self._gone_on(late=what is Recovery.LATE)

    def _gone_on(self, *, late: bool) -> bool:
        self._returning = None
        self._acknowledged, self._seen = self._sequence, 0
        self._unanswered.clear()
        if late:
            self._take_another_id()
        return True

    def _read(self, now: float) -> tuple[SlotCounts, ...]:
        """Return what others have counted since the last time, where changes do not tell all of it.

        What has been `seen` stays: documents that were written meanwhile come with the next batch. What the store has
        forgotten stays known: the processes that counted it write it again.
        """
        if self.read_at is not None and now - self.read_at < _UNREAD_SECONDS and not self._missed:
            return ()
        saved = self._store.load(now, self.incarnation)
        if self._epoch and saved.epoch != self._epoch:
            return ()  # the next batch finds out
        found = tuple(self._others.rest(saved.slots))
        for each in found:
            self._others.add(each)
        self._epoch, self.read_at, self._missed = saved.epoch, now, False
        return found

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


def _pieces(counts: Iterable[SlotCounts]) -> list[tuple[SlotCounts, ...]]:
    every = list(counts)
    return [tuple(every[at : at + _AT_ONCE]) for at in range(0, len(every), _AT_ONCE)]
