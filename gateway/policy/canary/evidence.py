"""What a rollout has seen of both versions, SLI by SLI."""

from collections.abc import Collection, Mapping
from math import exp, log
from typing import Any, Final

from gateway.policy.canary.bounds import adjusted_upper
from gateway.policy.canary.comparison import INPUT_CLASSES
from gateway.policy.canary.forecast import SliEvidence
from gateway.policy.canary.keys import Keys, hashed
from gateway.policy.canary.recent import Recent, guard
from gateway.policy.canary.track import Sample, Track

AVAILABILITY: Final = "availability"
FIRST_ATTEMPT: Final = "first_attempt"
STAYED: Final = "stayed"
HIDDEN = (FIRST_ATTEMPT, STAYED)
"""Comparisons without an objective: what a retry hid, and clients that left before the end."""
ALPHA: Final = 0.01
"""How likely a candidate that equals stable is ever rolled back by the comparison, at most."""
FIRST: Final = 5
"""A candidate whose first so many requests all fail is out at once."""
FEWEST_FAILED: Final = 2
"""Failures of the candidate that are told before they decide anything."""
FEWEST_KEYS: Final = 30
"""Fewer sticky keys on either side cannot tell versions apart."""
_HIDDEN_BUDGET: Final = 0.01
_ENOUGH: Final = 20
_LARGEST_LOG: Final = 700.0


class Evidence:
    """Outcomes of the stable version and of the candidate; `findings` says in words what they come to.

    `budgets` are the shares that may be bad, by SLI. `factor` is the burn rate that pages. `usual` are the good and bad
    events of the model before the rollout. `requests` counts the candidate's requests in this step, `answered` all of
    its answers, `keys` the sticky keys of the stable version and of the candidate.
    """

    def __init__(
        self, budgets: Mapping[str, float], factor: float, usual: Mapping[str, tuple[int, int]] | None = None
    ) -> None:
        self.requests = 0
        self.answered = 0
        self.failed_first = 0
        self.keys = [0, 0]
        self.tracks = {
            sli: Track(sli, budget, factor, (usual or {}).get(sli, (0, 0))) for sli, budget in budgets.items()
        }
        self.hidden = {name: Track(name, _HIDDEN_BUDGET, factor) for name in HIDDEN}
        self.accepted = False
        self._before: dict[str, int] = {}
        self.factor = factor
        self._counted = (Keys(), Keys())

    def __repr__(self) -> str:
        return f"<Evidence of {self.answered} requests, e {shown(self.log_e):.3g}>"

    def begin_step(self) -> None:
        """Forget what only the step in progress is judged by."""
        self.requests = 0
        for track in self.tracks.values():
            track.recent = (Recent(), Recent())

    def accept(self) -> None:
        """Go on although a person was asked: what was said then is not said again."""
        self.accepted = True
        self.hidden = {name: Track(name, _HIDDEN_BUDGET, self.factor) for name in HIDDEN}

    def add(self, outcomes: Mapping[str, bool], sample: Sample) -> None:
        """Take one request: whether it was good, by SLI; what does not count is left out."""
        key = None if sample.key is None else hashed(sample.key)
        for sli, good in outcomes.items():
            self.take(sli, int(good), int(not good), sample, key)

    def take(self, sli: str, good: int, bad: int, sample: Sample, key: int | None = None) -> None:
        """Take outcomes of one SLI that came in a row; `key` is the sticky key's hash."""
        track = self.tracks.get(sli) or self.hidden.get(sli)
        if track is None:
            return
        if sli not in self._before and not sample.candidate:
            self._before[sli] = self._requests(candidate=False)
        fresh = key is None or self._counted[sample.candidate].is_new(key ^ track.salt)
        counts = track.add(good, bad, sample, fresh=fresh)
        if sli != AVAILABILITY:
            return
        if counts and sample.candidate:
            if not good and self.failed_first == self.answered:
                self.failed_first += bad
            self.answered += good + bad
            self.requests += good + bad
        if fresh and key is not None:
            self.keys[sample.candidate] += 1

    @property
    def log_e(self) -> float:
        """The logarithm of the e-value over all SLIs: a mean in which availability weighs half."""
        return _mean({sli: track.comparison.log_e for sli, track in self.tracks.items()})

    @property
    def worst(self) -> str:
        """The SLI that speaks loudest against the candidate."""
        return max(self.tracks, key=lambda sli: self.tracks[sli].comparison.log_e + log(_weight(sli, self.tracks)))

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the candidate is worse by more than chance explains."""
        return bool(self.tracks) and self.log_e >= -log(ALPHA)

    @property
    def is_by_one_key(self) -> bool:
        """Whether one sticky key makes it look so."""
        if not any(self.keys):
            return False
        return _mean({sli: each.comparison.log_e_without_loudest for sli, each in self.tracks.items()}) < -log(ALPHA)

    @property
    def is_worth_it(self) -> bool:
        """Whether the worst SLI differs by enough to go back for it."""
        return self.tracks[self.worst].is_worth_it

    def guard(self, now: float) -> tuple[str | None, bool]:
        """Say what burns at page rate in this step, None for nothing, and whether the candidate has to go for it."""
        said: str | None = None
        for sli, track in self.tracks.items():
            stable, candidate = track.recent
            found, must_go = guard(sli, candidate, stable, now, budget=track.budget, factor=self.factor)
            if must_go:
                return found, True
            said = said or found
        return said, False

    def standings(self, usual: Mapping[str, tuple[int, int]]) -> dict[str, SliEvidence]:
        """Return how each SLI stands; `usual` are good and bad of the model before the rollout."""
        found = {}
        for sli, track in self.tracks.items():
            stable, candidate = track.side(candidate=False), track.side(candidate=True)
            upper, per_request = adjusted_upper(track.totals), self._per_request(sli, stable, candidate)
            found[sli] = SliEvidence(track.budget, stable, candidate, upper, usual.get(sli, (0, 0)), per_request)
        return found

    def _requests(self, *, candidate: bool) -> int:
        track = self.tracks.get(AVAILABILITY)
        return sum(track.side(candidate=candidate)) if track else 0

    def _per_request(self, sli: str, stable: tuple[int, int], candidate: tuple[int, int]) -> float:
        """Return how many events of an SLI a request brings: of stable's since its first, which may have been cold."""
        events, requests = sum(stable), self._requests(candidate=False) - self._before.get(sli, 0)
        if not events:
            events, requests = sum(candidate), self._requests(candidate=False) + self._requests(candidate=True)
        return min(1.0, events / requests) if requests >= _ENOUGH else 1.0

    def state(self) -> dict[str, Any]:
        """Return what has to be kept over a restart; `keys_state` is apart, since it is large."""
        return {
            "requests": self.requests,
            "answered": self.answered,
            "failed_first": self.failed_first,
            "keys": [*self.keys],
            "accepted": self.accepted,
            "comparisons": {sli: track.comparison.state() for sli, track in self._all().items()},
            "totals": {sli: track.totals for sli, track in self._all().items()},
            "set_aside": {sli: track.set_aside for sli, track in self._all().items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave; SLIs that no longer have a target are left out.

        Raises KeyError, TypeError or ValueError for what it cannot have given. Versions before 0.2 kept no totals.
        """
        for sli, track in self._all().items():
            if sli in state["comparisons"]:
                track.comparison.restore(state["comparisons"][sli])
                totals = state.get("totals", {}).get(sli)
                known = totals or [
                    [*track.comparison.seen(candidate=False), *track.comparison.seen(candidate=True)],
                    *([0, 0, 0, 0] for _ in range(INPUT_CLASSES - 1)),
                ]
                track.totals = [[int(a), int(b), int(c), int(d)] for a, b, c, d in known]
                track.set_aside = int(state.get("set_aside", {}).get(sli, 0))
        stable, candidate = (int(each) for each in state.get("keys", (0, 0)))
        self.keys = [stable, candidate]
        self.accepted = bool(state.get("accepted", False))
        self.requests = int(state["requests"])
        self.answered = int(state["answered"])
        self.failed_first = int(state["failed_first"])

    def keys_state(self) -> list[str]:
        """Return which sticky keys have been counted."""
        return [each.state() for each in self._counted]

    def restore_keys(self, state: list[str]) -> None:
        """Take back what `keys_state` gave; raises ValueError for what it cannot have given."""
        for keys, kept in zip(self._counted, state, strict=True):
            keys.restore(kept)

    def _all(self) -> dict[str, Track]:
        return {**self.tracks, **self.hidden}


def shown(log_e: float) -> float:
    """Return an e-value that is no larger than a float may be."""
    return exp(min(log_e, _LARGEST_LOG))


def _mean(logs: Mapping[str, float]) -> float:
    """Return the logarithm of the weighted mean of these e-values, given by SLI as logarithms."""
    weighed = [each + log(_weight(sli, logs)) for sli, each in logs.items()]
    highest = max(weighed)
    return highest + log(sum(exp(each - highest) for each in weighed))


def _weight(sli: str, among: Collection[str]) -> float:
    """Return the share of one SLI among these: half for availability, the rest for the others alike."""
    others = len(among) - (AVAILABILITY in among)
    if sli == AVAILABILITY:
        return 0.5 if others else 1.0
    return (0.5 if AVAILABILITY in among else 1.0) / others
