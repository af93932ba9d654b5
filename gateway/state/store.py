"""What a store of lasting state has to do: take counts, and give back what some window still holds.

Each process writes rows of its own, with all that it counted in a slot: to write one again changes nothing. What is
read is the sum over processes, so several may share one store, and one that was restarted goes on where it was.
"""

from dataclasses import dataclass
from typing import Protocol

from gateway.policy.slo.series import SlotCounts


class StateError(Exception):
    """A store cannot be used; the message says which, why, and how to fix it."""


@dataclass(frozen=True, slots=True)
class Ejection:
    """A backend taken out of service at a moment (seconds since the epoch), until another."""

    backend: str
    at: float
    until: float
    reason: str


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
    """

    at: float
    counts: tuple[SlotCounts, ...] = ()
    ejections: tuple[Ejection, ...] = ()
    documents: tuple[Document, ...] = ()
    records: tuple[Record, ...] = ()
    token: int = 0
    responses: tuple[Response, ...] = ()
    incarnation: str = ""


@dataclass(frozen=True, slots=True)
class Saved:
    """What a store gives back."""

    slots: tuple[SlotCounts, ...] = ()
    ejections: tuple[Ejection, ...] = ()
    documents: tuple[Document, ...] = ()
    records: tuple[Record, ...] = ()
    responses: tuple[Response, ...] = ()


class Store(Protocol):
    """Calls block; they come from one thread at a time."""

    @property
    def where(self) -> str:
        """Return where it is, as --state names it."""

    def load(self, now: float) -> Saved:
        """Return what some window still holds at `now` (seconds since the epoch); raises StateError."""

    def documents(self, kind: str) -> tuple[Document, ...]:
        """Return the documents of one kind; raises StateError."""

    def save(self, batch: Batch) -> None:
        """Save a batch, all of it or nothing; raises StateError."""

    def lead(self, owner: str, now: float, seconds: float) -> int:
        """Take or renew the lease under which rollouts are led, for so many seconds.

        Return its fencing token, above every earlier owner's (Kleppmann, "How to do distributed locking", 2016); 0
        while another owner holds it. Raises StateError.
        """

    def resign(self, owner: str) -> None:
        """Give the lease back, if it is held; raises StateError."""

    def close(self) -> None:
        """Let go of files and connections."""


class MemoryStore:
    """Keeps nothing: for those who want no state over restarts."""

    where = "memory://"

    def __repr__(self) -> str:
        return "<MemoryStore>"

    def load(self, now: float) -> Saved:
        """Return nothing."""
        return Saved()

    def documents(self, kind: str) -> tuple[Document, ...]:
        """Return nothing."""
        return ()

    def save(self, batch: Batch) -> None:
        """Keep nothing."""

    def lead(self, owner: str, now: float, seconds: float) -> int:
        """Lead: there is no other process."""
        return 1

    def resign(self, owner: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
