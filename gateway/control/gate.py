"""Whether a new deployment of a model may begin now: what a CD system asks before it changes anything."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.config.table import ModelSpec
from gateway.control.alerts import Alerter
from gateway.control.incidents import texts
from gateway.control.rollout_progress import RolloutProgress
from gateway.control.rollouts import RolloutController
from gateway.policy.canary.plan import FREEZE_BELOW
from gateway.policy.canary.rollout import Phase
from gateway.policy.slo.alerts import MIN_BAD, Reading, Severity
from gateway.policy.slo.budget import Budget, error_budget
from gateway.policy.slo.burn import burn
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import DEPLOYMENT_SLIS
from gateway.policy.slo.series import Kind, Series
from gateway.policy.slo.words import budget_words, number, of_window

_IN_PROGRESS = frozenset((Phase.STEP, Phase.PAUSED))
"""While users get answers of two versions, a third one would make both comparisons worthless."""


class Verdict(StrEnum):
    """What the gate says."""

    GO = "go"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class GateSli:
    """One SLI of the model: its budget, and what its page alerts read, fastest first."""

    series: Series
    budget: Budget
    pages: tuple[Reading, ...]

    @property
    def name(self) -> str:
        """What it is called in words."""
        return f"{self.series.sli} ({self.series.objective})"


@dataclass(slots=True)
class GateAnswer:
    """The answer of the gate.

    `stops` are the reasons not to deploy, `notes` what one should know all the same. `budget_left` is the smallest
    share of an error budget left, None below one day of history; a deployment waits below `freeze_below`.
    """

    model: str
    freeze_below: float
    slis: list[GateSli]
    rollout: RolloutProgress | None
    budget_left: float | None = None
    stops: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """Stop for any reason to, else go."""
        return Verdict.STOP if self.stops else Verdict.GO


class Gate:
    """Asks budgets, alerts and rollouts. Too little data is no reason to stop, and neither is a ticket."""

    def __init__(self, ledger: SloLedger, alerter: Alerter, rollouts: RolloutController) -> None:
        self._ledger = ledger
        self._alerter = alerter
        self._rollouts = rollouts

    def ask(self, model: ModelSpec, freeze_below: float | None = None, *, despite_budget: bool = False) -> GateAnswer:
        """Return whether a deployment of a model may begin.

        `freeze_below` is the share of an error budget below which none may, by default that of the model's canary.
        `despite_budget` lets a fix through: failures and budgets are then only told.
        """
        running = self._rollouts.get(model.name)
        if freeze_below is None:
            freeze_below = FREEZE_BELOW if model.canary is None else model.canary.freeze_below
        answer = GateAnswer(model.name, freeze_below, list(self._slis(model)), running)
        left = [each.budget.left for each in answer.slis if each.budget.total and each.budget.left is not None]
        answer.budget_left = min(left, default=None)
        against = answer.notes if despite_budget else answer.stops
        against += self._pages(model.name)
        against += (words for each in answer.slis if (words := _burns(each)))
        for each in answer.slis:
            _weigh_budget(each, freeze_below, against, answer.notes)
        _weigh_rollout(answer)
        if not any(each.budget.total for each in answer.slis):
            answer.notes.append("no requests have been counted yet")
        return answer

    def _slis(self, model: ModelSpec) -> Iterator[GateSli]:
        current = {objective.name for objective in model.objectives}
        for series in self._ledger.get(Kind.MODEL, model.name):
            if series.objective in current and series.sli not in DEPLOYMENT_SLIS:
                readings = [
                    alert.reading
                    for pair, alert in self._alerter.readings(series)
                    if pair.severity is Severity.PAGE and alert.reading is not None
                ]
                yield GateSli(series, error_budget(series.windows, series.target.budget), tuple(readings))

    def _pages(self, model: str) -> Iterator[str]:
        for series, firing, incident in self._alerter.incidents:
            if series.model == model and incident.severity is Severity.PAGE:
                summary, _ = texts(series, firing, self._ledger)
                yield f"a page fires: {summary}"


def _burns(sli: GateSli) -> str:
    """Return that an SLI burns at page rate now, for certain, though no page may fire yet; "" if it does not."""
    for reading in sli.pages:
        if reading.speaks and reading.confirms and reading.goes_on:
            rate = burn(reading.long, reading.budget) or 0.0
            missed = f"{reading.long.bad:,} of {reading.long.total:,} events were bad"
            when = of_window(reading.pair.long)
            return f"{sli.name} burns its budget {number(rate)} times too fast: {missed} in {when}"
    return ""


def _weigh_budget(sli: GateSli, freeze_below: float, against: list[str], notes: list[str]) -> None:
    """Say that the budget is short. Few failures are no reason to stop: of a quiet service one can be all of it."""
    budget = sli.budget
    if not budget.total or budget.left is None or budget.left >= freeze_below:
        return
    words = f"{sli.name}: {budget_words(budget)}"
    if budget.bad < MIN_BAD:
        failures = "one failure" if budget.bad == 1 else f"{budget.bad} failures"
        notes.append(f"{words}, on {failures} of {budget.total:,}: too few to stop a deployment")
    else:
        until = "until old failures leave the window, but for a fix (--despite-budget)"
        against.append(f"{words}; deployments wait below {100 * freeze_below:g} % left, {until}")


def _weigh_rollout(answer: GateAnswer) -> None:
    """Stop while users get answers of two versions; a candidate that waits, for its engines maybe, stops nothing."""
    running = answer.rollout
    if running is None:
        return
    rollout, candidate, model = running.rollout, running.plan.candidate, answer.model
    share = f"{rollout.share:g} % of requests"
    if rollout.phase in _IN_PROGRESS:
        state = "is paused" if rollout.phase is Phase.PAUSED else "is in progress"
        answer.stops.append(
            f"the rollout of {candidate} {state} at {share}: wait until it is promoted or rolled back "
            f"(tidegate canary status {model})"
        )
    elif rollout.phase is Phase.WAITING:
        answer.notes.append(f"the rollout of {candidate} has not begun: {running.decision.reason}")
    elif rollout.phase is Phase.ROLLED_BACK:
        answer.notes.append(f"{candidate} was rolled back: {rollout.reason}")
