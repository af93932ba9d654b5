"""What a rollout has seen of both versions, SLI by SLI."""

from collections.abc import Mapping
from math import exp, log
from typing import Any

from gateway.policy.canary.bounds import adjusted_upper
from gateway.policy.canary.comparison import INPUT_CLASSES
from gateway.policy.canary.forecast import SliEvidence
from gateway.policy.canary.keys import Keys, hashed
from gateway.policy.canary.recent import Recent, guard
from gateway.policy.canary.track import Sample, Track

AVAILABILITY = "availability"
FIRST_ATTEMPT, STAYED = "first_attempt", "stayed"
HIDDEN = (FIRST_ATTEMPT, STAYED)
"""Comparisons without an objective: what a retry hid, and clients that left before the end."""
ALPHA = 0.01
"""How likely a candidate that equals stable is ever rolled back by the comparison, at most."""
FIRST = 5
"""A candidate whose first so many requests all fail is out at once."""
FEWEST_FAILED = 2
"""Failures of the candidate that are told before they decide anything."""
FEWEST_KEYS = 30
"""Fewer sticky keys on either side cannot tell versions apart."""
_HIDDEN_BUDGET = 0.01
_ENOUGH = 20
_LARGEST_LOG = 700.0


class Evidence:
    """Outcomes of the stable version and of the candidate.

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
        self._factor = factor
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
        self.hidden = {name: Track(name, _HIDDEN_BUDGET, self._factor) for name in HIDDEN}

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
        return self._mean({sli: track.comparison.log_e for sli, track in self.tracks.items()})

    @property
    def worst(self) -> str:
        """The SLI that speaks loudest against the candidate."""
        return max(self.tracks, key=lambda sli: self.tracks[sli].comparison.log_e + log(self._weight(sli)))

    @property
    def regression_reason(self) -> str | None:
        """Say why the candidate is worse than stable, None while that may be chance, or one client's doing."""
        if self.failed_first >= FIRST:
            return f"its first {self.failed_first} requests all failed"
        if not self._beyond_chance or self._by_one_key or not self.tracks[self.worst].is_worth_it:
            return None
        return f"{self._told} {shown(self.log_e):.3g} has reached {1 / ALPHA:g}; {self._shares(self.worst)}"

    @property
    def doubt(self) -> str | None:
        """Say why a person should look at the candidate, None without a reason; that a key makes it is asked once."""
        if self._beyond_chance and self._by_one_key and not self.accepted and self.tracks[self.worst].is_worth_it:
            return (
                f"{self._told} {shown(self.log_e):.3g} has reached {1 / ALPHA:g}, but would not have without one "
                f"of its {self.keys[1]:,} sticky keys; {self._shares(self.worst)}"
            )
        logs = {name: track.comparison.log_e for name, track in self.hidden.items()}
        name = max(logs, key=lambda each: logs[each])
        if logs[name] - log(len(HIDDEN)) < -log(ALPHA) or not self.hidden[name].is_worth_it:
            return None
        what = {FIRST_ATTEMPT: "failed at first, which retries hid", STAYED: "were given up by their clients"}[name]
        candidate, stable = (self.hidden[name].comparison.seen(candidate=side) for side in (True, False))
        e_value = f"e-value {shown(logs[name]):.3g}"
        return f"{_share(candidate)} of its requests {what}, {_share(stable)} of stable's ({e_value})"

    def failing(self, stable: str, candidate: str) -> str:
        """Say that the candidate fails at page rate, and more than twice as often as stable, before that decides.

        "" while it does not; `stable` and `candidate` are the names of the versions.
        """
        track = self.tracks.get(AVAILABILITY)
        if track is None:
            return ""
        mine, theirs = track.side(candidate=True), track.side(candidate=False)
        if mine[1] < FEWEST_FAILED:
            return ""
        usual = theirs[1] / sum(theirs) if any(theirs) else 0.0
        if mine[1] / sum(mine) <= max(self._factor * track.budget, 2 * usual):
            return ""
        said = f"{_share(mine)} requests of {candidate} failed"
        if self.failed_first == self.answered:
            return f"{said}; it is rolled back if its first {FIRST} all fail"
        e_value = f"e-value {shown(self.log_e):.3g}, decided at {1 / ALPHA:g}"
        return f"{said}, {_share(theirs)} of {stable}; {e_value}"

    def notes(self, least: int = 0) -> list[str]:
        """Say what else one should know of this evidence; of sticky keys once the candidate answered `least` times."""
        found = []
        if self._beyond_chance and not self.tracks[self.worst].is_worth_it:
            found.append(
                f"{self._told} {shown(self.log_e):.3g}, by less than a quarter of the budget, which is no reason to go "
                f"back; {self._shares(self.worst)}"
            )
        fewest = min(self.keys)
        if any(self.keys) and fewest < FEWEST_KEYS and self.answered >= least:
            side = "the candidate" if self.keys[1] == fewest else "stable"
            found.append(f"{fewest} sticky keys on {side}: fewer than {FEWEST_KEYS} cannot tell versions apart")
        for sli, track in self.tracks.items():
            if track.incident:
                found.append(f"{sli}: stable itself is in an incident, what arrives is set aside")
        return found

    def guard(self, now: float) -> tuple[str | None, bool]:
        """Say what burns at page rate in this step, None for nothing, and whether the candidate has to go for it."""
        said: str | None = None
        for sli, track in self.tracks.items():
            stable, candidate = track.recent
            found, must_go = guard(sli, candidate, stable, now, budget=track.budget, factor=self._factor)
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

    @property
    def _beyond_chance(self) -> bool:
        return bool(self.tracks) and self.log_e >= -log(ALPHA)

    @property
    def _by_one_key(self) -> bool:
        if not any(self.keys):
            return False
        return self._mean({s: each.comparison.log_e_without_loudest for s, each in self.tracks.items()}) < -log(ALPHA)

    @property
    def _told(self) -> str:
        return f"{self.worst} is worse than stable's: e-value"

    def _shares(self, sli: str) -> str:
        comparison = self.tracks[sli].comparison
        candidate, stable = comparison.seen(candidate=True), comparison.seen(candidate=False)
        return f"{_share(candidate)} of its requests missed, {_share(stable)} of stable's"

    def _mean(self, logs: Mapping[str, float]) -> float:
        weighed = [each + log(self._weight(sli)) for sli, each in logs.items()]
        highest = max(weighed)
        return highest + log(sum(exp(each - highest) for each in weighed))

    def _weight(self, sli: str) -> float:
        others = len(self.tracks) - (AVAILABILITY in self.tracks)
        if sli == AVAILABILITY:
            return 0.5 if others else 1.0
        return (0.5 if AVAILABILITY in self.tracks else 1.0) / others

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
        """Take back what `state` gave; SLIs that are promised no more are left out.

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


def _share(counts: tuple[int, int]) -> str:
    return f"{counts[1]:,} of {sum(counts):,}"
