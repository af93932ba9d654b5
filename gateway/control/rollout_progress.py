"""One model's rollout as the loop leads it: where it stands, what it has seen, and what is kept of it."""

import json
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from math import inf
from typing import Any

from gateway.clock import past
from gateway.config.durations import format_duration
from gateway.exchange import Exchange, Outcome
from gateway.policy.canary.evidence import AVAILABILITY, FIRST, FIRST_ATTEMPT, STAYED, Evidence
from gateway.policy.canary.forecast import ENOUGH_TRAFFIC, Pace, Traffic
from gateway.policy.canary.plan import Plan
from gateway.policy.canary.rollout import WATCHED, Decision, Phase, Rollout, may_stand_in, migrated
from gateway.policy.canary.track import Sample, input_class
from gateway.policy.canary.warmth import Warmth
from gateway.policy.slo.alerts import FASTEST
from gateway.policy.slo.judge import LEFT, prompt_length
from gateway.policy.slo.objective import Objective, Sli
from gateway.proxy.live import LiveModel
from gateway.proxy.live_version import LiveVersion
from gateway.proxy.traffic_split import Mirror
from gateway.state.store import Document
from gateway.telemetry.rollout_exposition import RolloutRow
from gateway.telemetry.tally import Tally

KIND = "rollout"
KEYS = "rollout-keys"
_HISTORY = 200
_KEYS_EVERY = 30.0
_FAILED = frozenset((Outcome.BACKEND_ERROR, Outcome.TIMEOUT, Outcome.TRUNCATED))
_NEW = frozenset(("share", "predicted", "despite_budget"))
_NOT_COMPARED = frozenset((Sli.ITL, Sli.COLD_START))
"""Gaps are no requests, and no version is to blame for engines that have to be started."""


class RolloutProgress:
    """One model's rollout: where it stands, what it has seen, and its way so far (`history`, the newest last).

    `cold` counts requests of the candidate whose latencies were left out, because a backend was warming up. `pace`
    counts the model's requests and `warmth` the answers of its backends, whether or not a rollout is under way. `away`
    is for how many seconds of this step no backend of stable was ready, as `look` found; `failed` counts how many
    of the candidate's requests failed in a row, those that it served in stable's stead too.
    """

    def __init__(self, model: str, plan: Plan, objectives: Sequence[Objective], rollout: Rollout) -> None:
        self.model = model
        self.plan = plan
        self.objectives = {each.name: each for each in objectives}
        self.rollout = rollout
        self.decision = Decision(None, rollout.reason)
        self.history: deque[Rollout] = deque([rollout], maxlen=_HISTORY)
        self.evidence = _evidence(objectives)
        self.tallies = {plan.stable: Tally(), plan.candidate: Tally()}
        self.pace = Pace()
        self.warmth = Warmth(plan.warm_up, plan.warm_up_time)
        self.watched_since = rollout.since
        self.ready_at = 0.0
        self.away = 0.0
        self.looked_at = rollout.since
        self.stable_ready = True
        self.failed = 0
        self.guard: str | None = None
        self.cold = 0
        self.changed = True
        self._keys_saved = rollout.since

    def __repr__(self) -> str:
        return f"<RolloutProgress {self.model} {self.rollout.phase} {self.rollout.share:g} % {self.evidence!r}>"

    def begin(self, usual: dict[str, tuple[int, int]]) -> None:
        """Start a new comparison; `usual` is the model's record before."""
        self.evidence = _evidence(self.objectives.values(), usual)
        self.tallies = {self.plan.stable: Tally(), self.plan.candidate: Tally()}
        self.cold = self.failed = 0

    def moved_to(self, rollout: Rollout) -> Rollout:
        """Go on from another phase or step, and return the rollout before."""
        before, self.rollout = self.rollout, rollout
        self.history.append(rollout)
        self.away, self.looked_at, self.changed = 0.0, rollout.since, True
        return before

    def look(self, now: float, *, stable_ready: bool) -> None:
        """Leave out of the step the time in which there was nothing to compare with."""
        if not stable_ready and self.rollout.phase is Phase.STEP:
            self.away += max(0.0, now - self.looked_at)
            self.changed = True
        self.looked_at, self.stable_ready = now, stable_ready

    def ended(self, exchange: Exchange) -> bool:
        """Take how a request ended; return whether the candidate begins, or ceases, to fail every request."""
        before = self.fails
        if exchange.version == self.plan.candidate and not exchange.forced:
            if exchange.outcome is Outcome.OK:
                self.failed = 0
            elif exchange.outcome in _FAILED:
                self.failed += 1
        return self.fails is not before

    def apply(self, live: LiveModel) -> None:
        """Let requests from now on follow the rollout; those in progress go on where they are."""
        plan, share, mirrored = self.plan, self.rollout.share, self.rollout.mirrored(self.plan)
        stable, candidate = live.versions[plan.stable], live.versions[plan.candidate]
        live.traffic = live.divided(
            [(plan.stable, 100.0 - share), (plan.candidate, share)],
            [stable, candidate] if may_stand_in(plan, self.rollout) else [stable],
            failing=candidate if self.fails else None,
            mirror=Mirror(candidate, mirrored / 100) if mirrored else None,
        )

    @property
    def fails(self) -> bool:
        """Whether the candidate's latest requests all failed."""
        return self.failed >= FIRST

    def failing_beside(self, stable: LiveVersion) -> str | None:
        """Return that the candidate fails every request, None where it does not or stable cannot take any."""
        return f"its latest {self.failed} requests all failed" if self.fails and stable.may_serve else None

    def objective_of(self, exchange: Exchange) -> Objective:
        """Return what a request was held to."""
        return self.objectives.get(exchange.objective) or next(iter(self.objectives.values()))

    def weigh(self, outcomes: dict[str, bool], exchange: Exchange, now: float, *, settled: bool) -> None:
        """Take what a request says; a cold backend's latency says nothing."""
        if not self.warmth.is_warm(exchange.backend, now):
            good = outcomes.get(AVAILABILITY)
            had_latency = settled and (exchange.weighed or len(outcomes) > 1)
            self.cold += had_latency and exchange.version == self.plan.candidate
            outcomes = {} if good is None else {AVAILABILITY: good}
        sample = Sample(
            exchange.version == self.plan.candidate, now, input_class(prompt_length(exchange)), exchange.sticky
        )
        self.evidence.add(outcomes, sample)
        if settled and (hidden := _hidden(exchange)):
            self.evidence.add(hidden, sample)
        self.changed = True

    def traffic(self, now: float, usual: dict[str, tuple[int, int]]) -> Traffic:
        """Return the requests seen, and how every SLI stands; `usual` is the model's own record."""
        known = self.pace.requests >= ENOUGH_TRAFFIC or now - self.watched_since >= WATCHED
        rate = self.pace.rate(now) if known else 0.0
        return Traffic(rate, self.evidence.standings(usual), self.evidence.requests)

    def documents(self, now: float) -> list[Document]:
        """Return what is kept over a restart: keys are large, so less often."""
        found = [self.document()]
        if any(self.evidence.keys) and now - self._keys_saved >= _KEYS_EVERY:
            self._keys_saved = now
            found.append(Document(KEYS, self.model, json.dumps(self.evidence.keys_state())))
        return found

    def document(self) -> Document:
        """Return where it stands, its way, and the evidence."""
        body = {
            "fingerprint": self.plan.fingerprint,
            "rollout": asdict(self.rollout),
            "weight": self.rollout.share,
            "history": [asdict(each) for each in self.history],
            "evidence": self.evidence.state(),
            "tallies": {name: tally.state() for name, tally in self.tallies.items()},
            "pace": self.pace.state(),
            "away": self.away,
        }
        return Document(KIND, self.model, json.dumps(body))

    def row(self, shares: Iterable[tuple[LiveVersion, float]]) -> RolloutRow:
        """Return it as metrics show it, with the shares that versions have."""
        by_version = {version.name: share for version, share in shares}
        log_e = {sli: track.comparison.log_e for sli, track in self.evidence.tracks.items()}
        return RolloutRow(self.model, self.rollout.phase, self.rollout.step + 1, by_version, log_e)

    def goes_on_from(self, body: dict[str, Any]) -> bool:
        """Whether this stands where that was kept, and has seen as much at least."""
        return bool(body["rollout"] == asdict(self.rollout) and body["evidence"]["answered"] <= self.evidence.answered)

    def take_over(self, known: "RolloutProgress") -> None:
        """Go on with what another plan for the same candidate has seen; the share stays what it was."""
        self.rollout, self.decision, self.history = known.rollout, known.decision, known.history
        self.pace, self.watched_since = known.pace, known.watched_since
        self.away, self.looked_at, self.stable_ready = known.away, known.looked_at, known.stable_ready
        self.failed = known.failed
        self.tallies = known.tallies
        if known.plan.warm_up == self.plan.warm_up and known.plan.warm_up_time == self.plan.warm_up_time:
            self.warmth = known.warmth
        if known.objectives == self.objectives:
            self.evidence = known.evidence
        else:
            self.evidence.restore(known.evidence.state())
            self.evidence.restore_keys(known.evidence.keys_state())

    def restore(self, body: dict[str, Any], now: float) -> None:
        """Take back what was kept over a restart, with no time after `now`.

        Raises KeyError, TypeError, ValueError or IndexError for what is no rollout.
        """
        rollout = _rollout(body["rollout"], now)
        history = [_rollout(each, now) for each in body["history"]]
        if "share" not in body["rollout"]:
            # Kept by a version that reckoned shares from the steps of the day.
            rollout = migrated(rollout, float(body["weight"]))
            history = [*(migrated(each, _share_then(each, self.plan)) for each in history[:-1]), rollout]
        self.history = deque(history, maxlen=_HISTORY)
        self.evidence.restore(body["evidence"])
        for name, tally in self.tallies.items():
            tally.restore(body["tallies"][name])
        if "pace" in body:
            self.pace.restore(body["pace"], now)
        self.away = min(max(0.0, float(body.get("away", 0.0))), now - rollout.since)
        self.rollout = rollout
        self.decision = Decision(None, rollout.reason)


def changes(old: Plan, new: Plan) -> str:
    """Return what is different between two plans, in the words of route files: `hold: 10m -> 1m`."""
    before, after = _written(old), _written(new)
    return "; ".join(f"{key}: {before[key]} -> {after[key]}" for key in before if before[key] != after[key])


def _written(plan: Plan) -> dict[str, str]:
    return {
        "stable": plan.stable,
        "candidate": plan.candidate,
        "steps": "auto" if plan.is_auto else ", ".join(f"{step:g}" for step in plan.steps),
        "hold": format_duration(plan.hold),
        "last_hold": format_duration(plan.last_hold),
        "min_requests": f"{plan.min_requests}",
        "max_hold": "as predicted" if plan.max_hold is None else format_duration(plan.max_hold),
        "on_stall": plan.on_stall,
        "mirror": f"{plan.mirror:g}",
        "start": "manual" if plan.manual else "auto",
        "margin": f"{plan.margin:g}",
        "warm_up": f"{plan.warm_up}",
        "warm_up_time": format_duration(plan.warm_up_time),
        "freeze_below": f"{100 * plan.freeze_below:g}",
        "pause_below": f"{100 * plan.pause_below:g}",
    }


def _evidence(objectives: Iterable[Objective], usual: dict[str, tuple[int, int]] | None = None) -> Evidence:
    """Each request is judged by its own objective, and all are compared together; the strictest target is the prior."""
    budgets: dict[str, float] = {}
    window = 0.0
    for objective in objectives:
        window = window or objective.window
        for sli, target in objective.targets.items():
            if sli not in _NOT_COMPARED:
                budgets[str(sli)] = min(budgets.get(str(sli), 1.0), target.budget)
    return Evidence(budgets, FASTEST.factor(window), usual)


def _hidden(exchange: Exchange) -> dict[str, bool]:
    """Return what no objective sees: whether the first attempt was enough, and whether the client stayed."""
    if exchange.outcome in LEFT:
        return {STAYED: False}
    if exchange.outcome is not Outcome.OK:
        return {}
    return {STAYED: True, FIRST_ATTEMPT: len(exchange.attempts) <= 1}


def _share_then(rollout: Rollout, plan: Plan) -> float:
    if rollout.phase is Phase.PROMOTED:
        return 100.0
    shares = plan.shares
    return shares[min(rollout.step, len(shares) - 1)] if rollout.is_live and rollout.step >= 0 else 0.0


def _rollout(values: dict[str, Any], now: float) -> Rollout:
    known = {each.name for each in fields(Rollout)}
    if not known - _NEW <= set(values) <= known:
        raise ValueError("these are no values of a rollout")
    times = {name: past(values[name], now) for name in ("since", "started")}
    rollout = Rollout(**{**values, **times, "phase": Phase(values["phase"])})
    if not 0.0 <= rollout.share <= 100.0:
        raise ValueError("this is no share")
    return rollout if 0.0 <= rollout.predicted < inf else replace(rollout, predicted=0.0)
