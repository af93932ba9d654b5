"""Which alerts are one incident: people are told of that, and not of every series that shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.policy.slo.alerts import Reading, Severity
from gateway.policy.slo.burn import Counts, burn

NARROW_WAIT: Final = 60.0
"""Seconds that an alert on a version, or on a class of prompt lengths, waits for the model's own to include it."""


@dataclass(frozen=True, slots=True)
class Firing:
    """The pairs of one severity that fire for one series, as one alert, since `since` (seconds).

    `version` and `prompt_tokens` are "" for a model as a whole. `readings` are those of the pairs that fire, the
    fastest first; `counts` is what every window of the series holds, by its length.
    """

    model: str
    version: str
    objective: str
    sli: str
    prompt_tokens: str
    severity: Severity
    since: float
    readings: tuple[Reading, ...]
    counts: Mapping[float, Counts]

    @property
    def is_narrow(self) -> bool:
        """Whether it is about a part of a model's requests."""
        return bool(self.version or self.prompt_tokens)

    def goes_on(self, seconds: float) -> bool:
        """Whether the fault has gone on within a whole short window, and that within so many seconds."""
        return any(
            seconds > each.pair.short and (burn(self.counts[each.pair.short], each.budget) or 0.0) > each.factor
            for each in self.readings
        )

    def covers(self, other: "Firing") -> bool:
        """Whether the other one belongs to this, of which people know: the same fault, seen from nearer or farther."""
        return self._outranks(other) and (
            self._includes(other)
            or self._overlaps_class(other)
            or (other._includes(self) and not other.burns_without(self))  # noqa: SLF001 - of this class too
        )

    def outgrows(self, part: "Firing") -> bool:
        """Whether it is more than a part of it of which people know."""
        return part._outranks(self) and self._includes(part) and self.burns_without(part)  # noqa: SLF001 - of this class too

    def burns_without(self, part: "Firing") -> bool:
        """Whether it would burn without the requests of a part of it."""
        return any(_burns(reading, part.counts[reading.pair.long]) for reading in self.readings)

    def _outranks(self, other: "Firing") -> bool:
        """Whether it is about the same target, and no ticket beside a page."""
        is_akin = (self.model, self.objective, self.sli) == (other.model, other.objective, other.sli)
        return is_akin and (self.severity is Severity.PAGE or other.severity is Severity.TICKET)

    def _overlaps_class(self, other: "Firing") -> bool:
        """Whether the other is about a class of prompt lengths, and this may be about the same requests.

        That is so unless both name a version and the versions differ.
        """
        return bool(other.prompt_tokens) and (not self.version or self.version == other.version or not other.version)

    def _includes(self, other: "Firing") -> bool:
        return self.version in {"", other.version} and self.prompt_tokens in {"", other.prompt_tokens}


def _burns(reading: Reading, part: Counts) -> bool:
    rest = Counts(max(0, reading.long.good - part.good), max(0, reading.long.bad - part.bad))
    return reading.pair.speaks(rest, reading.factor, reading.budget)


class Handling(StrEnum):
    """What is done about an alert that people do not know of."""

    BELONGS = "belongs to one that they know of"
    WAITS = "waits"
    TOLD = "is told"


def handling(firing: Firing, told: Sequence[Firing], uncovered: float, now: float) -> Handling:
    """Return what is done about an alert that people do not know of, beside those `told` that they do.

    `uncovered` is when the last one that it belonged to ended, 0 if it never belonged to any: then it is told once
    its fault has gone on for a whole short window more.
    """
    if any(known.covers(firing) for known in told):
        return Handling.BELONGS
    if any(firing.outgrows(known) for known in told):
        return Handling.TOLD
    if uncovered:
        goes_on = firing.goes_on(now - uncovered)
    else:
        goes_on = not firing.is_narrow or now - firing.since >= NARROW_WAIT
    return Handling.TOLD if goes_on else Handling.WAITS
