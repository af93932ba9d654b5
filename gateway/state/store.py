"""What a store of lasting state has to do: take counts, and give back what some window still holds.

Each process writes rows of its own, with all that it counted in a slot: to write one again changes nothing. What is
read is the sum over processes, so several may share one store, and one that was restarted goes on where it was.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from gateway import clock
from gateway.policy.routing.ejection import Finding
from gateway.policy.slo.objective import DAY
from gateway.policy.slo.series import Kind, SlotCounts
from gateway.policy.slo.windows import FINE, STORED

SHARED_KINDS = frozenset((Kind.MODEL, Kind.VERSION))
"""Subjects whose counts are merged while processes run. What a backend did is judged where it was seen."""
FINEST = FINE
"""The width of the slots that are merged while processes run: each lies within one slot of any other width."""
SILENT_SECONDS = 600.0
"""How long a process has written nothing when its rows are settled: it takes a new id if it comes back."""
MEMBER_SECONDS = 10.0
"""How long after its last batch a process counts as alive."""
MEMBERS_NAMED = 100
"""How many of them are named, those that wrote last."""
RECOVERY_SECONDS = 5.0
"""How long processes have to come back to a store that was emptied, before what the ended ones had is restored."""

EJECTIONS_STORED = DAY
RECORDS_STORED = 90 * DAY
RECORDS_LOADED = 1000
RESPONSES_STORED = DAY
RESPONSES_LOADED = 10_000
"""For how many seconds a store keeps these, and how many of the latest it gives back."""


ROLLBACK = "rollback"
WAKING = "waking"
FREE = frozenset((ROLLBACK, WAKING))
"""The kinds of documents that any process may write, whichever leads: that a rollout was rolled back, and that requests
wait for a pool without an engine."""


def is_held(counts: SlotCounts, now: float) -> bool:
    """Whether some window still holds a slot at `now`."""
    return (counts.slot + 1) * counts.width > now - STORED[counts.width]


class StateError(Exception):
    """A store cannot be used; the message says which, why, and how to fix it."""


class UnusableState(StateError):
    """A store that has to be set up otherwise before anything can be saved there."""


@dataclass(frozen=True, slots=True)
class Ejection:
    """A backend taken out of service at a moment (seconds since the epoch), until another."""

    backend: str
    at: float
    until: float
    reason: str


@dataclass(frozen=True, slots=True)
class BackendFinding:
    """What a process found about a backend by its answers, for all; times are seconds since the epoch."""

    backend: str
    finding: Finding


@dataclass(frozen=True, slots=True)
class Document:
    """The latest of one thing, in JSON: a rollout, a deployment, a backend that is drained."""

    kind: str
    name: str
    body: str


@dataclass(frozen=True, slots=True)
class Record:
    """Who did what to which subject, when (seconds since the epoch), and why."""

    at: float
    actor: str
    action: str
    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class Response:
    """Which backend made a response when (seconds since the epoch), and for whom; `id` is a digest of its own.

    `asked` is the model's name in its answer, in JSON, "" for none.
    """

    at: float
    id: str
    backend: str
    model: str
    version: str
    tenant: str
    asked: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What is saved at once, at `at` (seconds since the epoch).

    `counts` are all that the process counted in these slots; `incarnation` names the process, by an id that no other
    start of it has. Documents are written under the fencing `token` of the leader; under an older one than the last
    they are not.

    `sequence` numbers the batches of an incarnation from 1 on: one that arrives after a later one changes nothing. The
    last one that it was answered to be saved is `acknowledged`, 0 for none.
    `epoch` is the store's, as the process knows it, "" where it knows none, and `seen` the version of what it has read.
    `returning` is the epoch that the process was in when the store was emptied, "" otherwise; then `more` says that
    further batches hold the rest of what it had. `every` asks that others are told of slots of every width, since the
    finest ones do not tell it all; `unread` says that the answer need not tell what others have counted, since nobody
    reads that, or all of it is read next. `findings` are told to the others as long as they hold.
    """

    at: float
    counts: tuple[SlotCounts, ...] = ()
    ejections: tuple[Ejection, ...] = ()
    documents: tuple[Document, ...] = ()
    records: tuple[Record, ...] = ()
    token: int = 0
    responses: tuple[Response, ...] = ()
    incarnation: str = ""
    sequence: int = 0
    acknowledged: int = 0
    epoch: str = ""
    seen: int = 0
    returning: str = ""
    more: bool = False
    every: bool = False
    unread: bool = False
    findings: tuple[BackendFinding, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a store answers to a batch.

    Nothing was saved where its `epoch` is not the batch's, or the incarnation has `ended`: its rows are settled, and
    what it counts from now on needs a new id. `sequence` is the last one that the store had of it, 0 for none: a lower
    one than was acknowledged before means that the store has forgotten something, which is told until the process has
    got an answer. `others` are all counts of other processes, in the finest slots that changed since `seen`, and
    `totals` those in slots that came with a batch that tells `every` one; `version` is what has been seen now, and
    `flushed` are the numbers of the last batches of others in it. `findings` are what others have found since, and
    still holds. `led` says that the process led, and its documents were written; `missed` that not all changes since
    `seen` are known any more.
    """

    epoch: str = ""
    sequence: int = 0
    version: int = 0
    others: tuple[SlotCounts, ...] = ()
    totals: tuple[SlotCounts, ...] = ()
    documents: tuple[Document, ...] = ()
    ended: bool = False
    findings: tuple[BackendFinding, ...] = ()
    led: bool = False
    missed: bool = False
    flushed: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Saved:
    """What a store gives back. `version` and `epoch` say of what state; another epoch is that of an emptied store."""

    slots: tuple[SlotCounts, ...] = ()
    ejections: tuple[Ejection, ...] = ()
    documents: tuple[Document, ...] = ()
    records: tuple[Record, ...] = ()
    responses: tuple[Response, ...] = ()
    epoch: str = field(default="", compare=False)
    version: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Member:
    """A process that shares a store, and how many seconds ago it wrote last."""

    incarnation: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Members:
    """The processes that are alive: how many, which one holds the lease ("" for none), and those that wrote last."""

    alive: int
    leader: str
    latest: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Returned:
    """What processes that came back to an emptied store have counted, and how often they have written that."""

    counts: tuple[SlotCounts, ...] = ()
    arrivals: int = 0


class Recovery(StrEnum):
    """What a process that has come back to an emptied store has to do."""

    WAIT = "wait"
    """Others may come back yet: write nothing new."""
    RESTORE = "restore"
    """It has read the most of the store before: restore what ended processes had."""
    DONE = "done"
    """That is restored: go on."""
    LATE = "late"
    """That was restored before it came back, and what it had with it: go on under another id."""


class Store(Protocol):
    """Calls block; they come from one thread at a time. All but `where`, `wall` and `close` raise StateError."""

    @property
    def where(self) -> str:
        """Return where it is, as --state names it, without passwords."""

    @property
    def remote(self) -> bool:
        """Whether other processes may reach it while this one does not."""

    def wall(self) -> float:
        """Return the time, in seconds since the epoch, on the one clock of all that share the store."""

    def ahead(self, now: float) -> float:
        """Return by how many seconds a process's time is ahead of that clock, as far as processes may be apart."""

    def load(self, now: float, own: str = "") -> Saved:
        """Return what some window still holds at `now` (seconds since the epoch), less what `own` has counted."""

    def save(self, batch: Batch) -> Reply:
        """Save a batch, all of it or nothing."""

    def recovery(self, incarnation: str) -> Recovery:
        """Return what a process that has come back to an emptied store has to do."""

    def returned(self, among: Iterable[SlotCounts]) -> Returned:
        """Return what all processes that came back have counted, of the slots `among` these at least."""

    def restore(self, incarnation: str, counts: Sequence[SlotCounts], arrivals: int, heard: Mapping[str, int]) -> bool:
        """Write what ended processes had into an emptied store, once, and of which process which batch was in it.

        False where another one has, or more processes came back than those `arrivals`. It may take effect little by
        little, until `recovery` says that it is done.
        """

    def restored_from(self, incarnation: str) -> int:
        """Return the number of a process's last batch that is in what was restored, 0 for none."""

    def members(self, now: float) -> Members:
        """Return which processes have saved something in the last seconds before `now`, and which one leads."""

    def lead(self, owner: str, now: float, seconds: float) -> int:
        """Take or renew the lease under which rollouts are led, for so many seconds.

        Return its fencing token, above every earlier owner's (Kleppmann, "How to do distributed locking", 2016); 0
        while another owner holds it.
        """

    def resign(self, owner: str) -> None:
        """Give the lease back, if it is held."""

    def settle(self, owner: str, token: int, now: float) -> int:
        """Settle the rows of processes that have been silent, as the leader; return of how many."""

    def close(self) -> None:
        """Let go of files and connections."""


class MemoryStore:
    """Keeps nothing: for those who want no state over restarts."""

    where = "memory://"
    remote = False

    def __repr__(self) -> str:
        return "<MemoryStore>"

    def wall(self) -> float:
        """Return the time of this machine."""
        return clock.wall()

    def ahead(self, now: float) -> float:
        """Return 0: there is no other process."""
        return 0.0

    def load(self, now: float, own: str = "") -> Saved:
        """Return nothing."""
        return Saved()

    def save(self, batch: Batch) -> Reply:
        """Keep nothing."""
        return Reply(batch.epoch, batch.sequence - 1, batch.seen, led=True)

    def recovery(self, incarnation: str) -> Recovery:
        """Go on: there was nothing."""
        return Recovery.DONE

    def returned(self, among: Iterable[SlotCounts]) -> Returned:
        """Return nothing."""
        return Returned()

    def restore(self, incarnation: str, counts: Sequence[SlotCounts], arrivals: int, heard: Mapping[str, int]) -> bool:
        """Keep nothing."""
        return False

    def restored_from(self, incarnation: str) -> int:
        """Return 0: nothing was."""
        return 0

    def members(self, now: float) -> Members:
        """Return nothing: there is no other process."""
        return Members(0, "", ())

    def lead(self, owner: str, now: float, seconds: float) -> int:
        """Lead: there is no other process."""
        return 1

    def resign(self, owner: str) -> None:
        """Do nothing."""

    def settle(self, owner: str, token: int, now: float) -> int:
        """Do nothing."""
        return 0

    def close(self) -> None:
        """Do nothing."""
