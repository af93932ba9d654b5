"""What is kept of one pool's wants, on the gateway that leads and by the others, and as a document of the store."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from gateway.clock import past
from gateway.policy.capacity.want import Memory, Rail, Rule, Want
from gateway.state.store import Document

KIND = "capacity"
_WORDS = {each.name for each in fields(Want)}
_REMEMBERED = {each.name for each in fields(Memory)}


@dataclass(frozen=True, slots=True)
class CapacityRecord:
    """A want, and what the next decision has to know.

    `intent` counts the targets of the pool, so that the same want is known to be the same; it is since `since` (seconds
    since the epoch). Up to `approved` replicas a person has approved, at `approved_at`, and refused up to `rejected`.
    """

    want: Want
    memory: Memory
    intent: int = 1
    since: float = 0.0
    approved: int | None = None
    approved_at: float = 0.0
    rejected: int | None = None

    @property
    def awaits(self) -> int | None:
        """How many replicas wait for a person's word, None where none do, or a person has said no to as many."""
        asked = self.want.awaits
        return None if asked is None or (self.rejected is not None and asked <= self.rejected) else asked

    def document(self, now: float) -> Document:
        """Return it as the store keeps it; a want holds for so many seconds from when it is read."""
        want = {name: getattr(self.want, name) for name in _WORDS} | {"inputs": dict(self.want.inputs)}
        body = {
            "want": want,
            "memory": {name: getattr(self.memory, name) for name in _REMEMBERED},
            "holds": max(0.0, self.want.valid_until - now),
            "intent": self.intent,
            "since": self.since,
            "approved": self.approved,
            "approved_at": self.approved_at,
            "rejected": self.rejected,
        }
        return Document(KIND, self.want.pool, json.dumps(body, allow_nan=False))


def kept(body: str, now: float) -> CapacityRecord:
    """Return what a document holds; raises ValueError, TypeError or KeyError where it cannot be read.

    The want holds as long from `now` on as it did when it was written.
    """
    found: dict[str, Any] = json.loads(body)
    want, memory = _known(found["want"], _WORDS), _known(found["memory"], _REMEMBERED)
    want["rule"] = Rule(want["rule"])
    want["rails"] = tuple(Rail(each) for each in want["rails"])
    want["valid_until"] = now + min(float(found["holds"]), _LONGEST)
    memory["needs"] = tuple((past(at, now), int(needed)) for at, needed in memory["needs"])
    for name in _TIMES & memory.keys():  # none of them is of a time to come
        memory[name] = None if memory[name] is None else past(memory[name], now)
    return CapacityRecord(
        Want(**want),
        Memory(**memory),
        int(found["intent"]),
        past(found["since"], now),
        _number(found["approved"]),
        past(found["approved_at"], now),
        _number(found["rejected"]),
    )


_TIMES = frozenset(name for name in _REMEMBERED if name.endswith(("_since", "_at")))
_LONGEST = 3600.0
"""Seconds that no want holds for longer."""


def renewed(record: CapacityRecord, until: float) -> CapacityRecord:
    """Return it with a want that holds until another time."""
    return replace(record, want=replace(record.want, valid_until=until))


def _known(values: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    """Return the values that this version knows: another may have written more."""
    return {name: value for name, value in values.items() if name in names}


def _number(value: Any) -> int | None:
    return None if value is None else int(value)
