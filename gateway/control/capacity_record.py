"""What is kept of one pool's wants, on the gateway that leads and by the others, and as a document of the store."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import isfinite
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
    Since that answer they were asked about up to `asked`; some last waited at `awaited_at`. All other times are those
    of a clock for durations.
    """

    want: Want
    memory: Memory
    intent: int = 1
    since: float = 0.0
    approved: int | None = None
    approved_at: float = 0.0
    rejected: int | None = None
    asked: int = 0
    awaited_at: float = 0.0

    @property
    def awaits(self) -> int | None:
        """How many replicas wait for a person's word, None where none do, or a person has said no to as many."""
        asked = self.want.awaits
        return None if asked is None or (self.rejected is not None and asked <= self.rejected) else asked

    def asked_lately(self, cool_down: float, now: float) -> int:
        """Return up to how many replicas a person was asked about, 0 once none have waited for a `cool_down`."""
        return self.asked if now - self.awaited_at <= cool_down else 0

    def document(self, now: float, epoch: float) -> Document:
        """Return it as the store keeps it, with times since the epoch, that of `now` being `epoch`.

        A want holds for so many seconds from when it is read.
        """
        offset = epoch - now
        memory: dict[str, Any] = {name: getattr(self.memory, name) for name in _REMEMBERED}
        memory |= {name: memory[name] + offset for name in _TIMES if memory[name] is not None}
        body = {
            "at": epoch,
            "want": {name: getattr(self.want, name) for name in _WORDS} | {"inputs": dict(self.want.inputs)},
            "memory": memory | {"needs": [(at + offset, count) for at, count in self.memory.needs]},
            "holds": max(0.0, self.want.valid_until - now),
            "intent": self.intent,
            "since": self.since,
            "approved": self.approved,
            "approved_at": self.approved_at + offset,
            "rejected": self.rejected,
            "asked": self.asked,
            "awaited_at": self.awaited_at + offset,
        }
        return Document(KIND, self.want.pool, json.dumps(body, allow_nan=False))


def kept(body: str, now: float, epoch: float, *, fresh: bool) -> CapacityRecord:
    """Return what a document holds; raises ValueError, TypeError or KeyError where it cannot be read.

    The want holds as long from `now` on as it did when it was written. A `fresh` one was written just now, maybe by a
    gateway with another clock; else the time that has passed since is told by the clock, and is none if that went back.
    """
    found: dict[str, Any] = json.loads(body)
    written = float(found.get("at", epoch)) if fresh else epoch
    if not isfinite(written):
        raise ValueError("it was written at no time")

    def here(stored: Any) -> float:
        return now - (written - past(stored, written))

    want, memory = _known(found["want"], _WORDS), _known(found["memory"], _REMEMBERED)
    want["rule"] = Rule(want["rule"])
    want["rails"] = tuple(Rail(each) for each in want["rails"])
    want["valid_until"] = now + min(max(0.0, float(found["holds"])), _LONGEST)
    memory["needs"] = tuple((here(at), int(needed)) for at, needed in memory["needs"])
    for name in _TIMES & memory.keys():
        memory[name] = None if memory[name] is None else here(memory[name])
    return CapacityRecord(
        Want(**want),
        Memory(**memory),
        int(found["intent"]),
        past(epoch - (now - here(found["since"])), epoch),
        _number(found["approved"]),
        here(found["approved_at"]),
        _number(found["rejected"]),
        int(found.get("asked", 0)),
        here(found.get("awaited_at", 0.0)),
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
