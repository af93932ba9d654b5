"""One SLI of a rollout: what counts, and what is set aside because stable itself was in an incident."""

from collections import deque
from dataclasses import dataclass
from typing import Final

from gateway.policy.canary.comparison import INPUT_CLASSES, Comparison
from gateway.policy.canary.keys import hashed
from gateway.policy.canary.recent import MINUTE, Recent

LONG_INPUTS: Final[tuple[int, ...]] = (512, 4096)
"""Prompt tokens from which on a request is of the second and of the third input class."""
_WORTH_IT: Final = 0.25
"""A difference below this share of the budget is no reason to go back."""
_INCIDENT_EVENTS: Final = 20
_INCIDENT_BAD: Final = 5
_INCIDENT_TIMES: Final = 5.0
_INCIDENT_CHECKED: Final = 1.0
_INCIDENT_LONGEST: Final = 1800.0
"""Seconds after which what began as an incident is what stable usually does."""
_INCIDENT_OVER: Final = 120.0
"""Seconds without an incident after which the next one is another."""
_SLOT: Final = 5.0
_SLOTS: Final = 12
_CANDIDATE: Final = 2


def input_class(prompt_tokens: int) -> int:
    """Return the input class of a request."""
    return sum(prompt_tokens >= tokens for tokens in LONG_INPUTS)


@dataclass(frozen=True, slots=True)
class Sample:
    """Whose a request is: `at` in seconds; `key` keeps its client on its version, None without any."""

    candidate: bool
    at: float
    input_class: int = 0
    key: bytes | None = None


class Track:
    """One SLI of a rollout. `totals` are good and bad of stable, then of the candidate, by input class.

    `set_aside` counts what arrived while stable alone was in an incident.
    """

    __slots__ = (
        "_aside",
        "_checked",
        "_factor",
        "_minute",
        "_usual",
        "budget",
        "comparison",
        "incident",
        "recent",
        "salt",
        "set_aside",
        "totals",
    )

    def __init__(self, sli: str, budget: float, factor: float, usual: tuple[int, int] = (0, 0)) -> None:
        self._usual = usual
        self._aside: deque[tuple[float, int, int]] = deque()
        self.budget = budget
        self.comparison = Comparison(budget)
        self.recent = (Recent(), Recent())
        self.salt = hashed(sli.encode())
        self.set_aside = 0
        self.incident = False
        self.totals = [[0, 0, 0, 0] for _ in range(INPUT_CLASSES)]
        self._factor = factor
        self._checked = -_INCIDENT_CHECKED
        self._minute: dict[int, list[list[int]]] = {}

    def __repr__(self) -> str:
        return f"<Track {self.comparison!r} set aside {self.set_aside}>"

    def add(self, good: int, bad: int, sample: Sample, *, fresh: bool) -> bool:
        """Take outcomes of one side, and say whether they count."""
        if sample.at >= self._checked + _INCIDENT_CHECKED:
            self._checked = sample.at
            before, self.incident = self.incident, self._in_incident(sample.at)
            if self.incident and not before:
                self._take_back(sample.at)
        self.recent[sample.candidate].add(sample.at, good, bad)
        # A block that has begun is finished: whether it counts was decided before any of its outcomes were known.
        if fresh and not (self.incident and not self.comparison.is_open(sample.input_class)):
            known = self.totals[sample.input_class]
            self.comparison.add(good, bad, candidate=sample.candidate, input_class=sample.input_class, known=known)
        if self.incident:
            self._put_aside(sample.at, good, bad, candidate=sample.candidate)
            return False
        place = _CANDIDATE * sample.candidate
        for totals in (self.totals, self._slot(sample.at)):
            totals[sample.input_class][place] += good
            totals[sample.input_class][place + 1] += bad
        return True

    def side(self, *, candidate: bool) -> tuple[int, int]:
        """Return good and bad of one side."""
        good = _CANDIDATE * candidate
        return sum(each[good] for each in self.totals), sum(each[good + 1] for each in self.totals)

    @property
    def is_worth_it(self) -> bool:
        """Whether the difference seen is large enough to go back for it."""
        return self.comparison.difference >= _WORTH_IT * self.budget

    def _slot(self, now: float) -> list[list[int]]:
        """Return what was counted in the last seconds, to be taken back when they turn out to be of an incident."""
        slot = int(now / _SLOT)
        found = self._minute.get(slot)
        if found is None:
            self._minute = {each: counts for each, counts in self._minute.items() if each > slot - _SLOTS}
            found = self._minute[slot] = [[0, 0, 0, 0] for _ in range(INPUT_CLASSES)]
        return found

    def _take_back(self, now: float) -> None:
        """Set the last minute aside as well: an incident is seen after it has begun.

        Else what failed until then would pass for what stable usually does. The e-process has taken its share of it,
        but learns no more from it.
        """
        for counts in self._last_minute(now):
            for totals, taken in zip(self.totals, counts, strict=True):
                for place, count in enumerate(taken):
                    totals[place] -= count
                for place in (0, _CANDIDATE):
                    self._put_aside(now, taken[place], taken[place + 1], candidate=place > 0)
        self._minute = {}

    def _last_minute(self, now: float) -> list[list[list[int]]]:
        oldest = int(now / _SLOT) - _SLOTS
        return [counts for slot, counts in self._minute.items() if slot > oldest]

    def _in_incident(self, now: float) -> bool:
        good, bad = self.recent[False].count(now, MINUTE)
        total = good + bad
        if total < _INCIDENT_EVENTS or bad < max(_INCIDENT_BAD, self._factor * self.budget * total):
            return False
        # What it was before this minute: an incident is no measure of what is usual.
        good, bad_before = self.side(candidate=False)
        for counts in self._last_minute(now):
            good -= sum(each[0] for each in counts)
            bad_before -= sum(each[1] for each in counts)
        usual_good, usual_bad = self._usual_by(now)
        usual = (bad_before + usual_bad + self.budget) / (good + bad_before + usual_good + usual_bad + 1)
        return bad >= _INCIDENT_TIMES * usual * total

    def _usual_by(self, now: float) -> tuple[int, int]:
        """Return good and bad of before the rollout, and of an incident that lasts so long that it is usual by now."""
        if self._aside and now > self._aside[-1][0] + _INCIDENT_OVER:
            self._aside.clear()
        while self._aside and self._aside[0][0] < now - _INCIDENT_LONGEST:
            _, good, bad = self._aside.popleft()
            self._usual = (self._usual[0] + good, self._usual[1] + bad)
        return self._usual

    def _put_aside(self, now: float, good: int, bad: int, *, candidate: bool) -> None:
        self.set_aside += good + bad
        if candidate:
            return
        if self._aside and now < self._aside[-1][0] + _SLOT:
            at, known_good, known_bad = self._aside[-1]
            self._aside[-1] = (at, known_good + good, known_bad + bad)
        else:
            self._aside.append((now, good, bad))
