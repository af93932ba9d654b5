"""What people are told of alerts: one notification for one incident, and what is kept of it over a restart."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.clock import past
from gateway.policy.slo.alerts import Alert, AlertPair, Severity, read
from gateway.policy.slo.budget import error_budget
from gateway.policy.slo.incidents import Firing
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.series import Kind, Series, SeriesKey
from gateway.policy.slo.words import budget_words, missed_words, rate_words, target_words, where_words

WAITING, SENT, FAILED, NO_WEBHOOK = "waiting", "sent", "failed", "no webhook"

Name = tuple[SeriesKey, Severity]


@dataclass(frozen=True, slots=True)
class Notice:
    """An incident that began, or that ended (`ended` above 0): what people are told. Times are seconds of the epoch."""

    labels: Mapping[str, str]
    started: float
    ended: float
    summary: str
    description: str

    @property
    def firing(self) -> bool:
        """Whether it goes on."""
        return not self.ended


@dataclass(slots=True)
class Incident:
    """An alert that fires, or that has ended while that could not be told yet.

    `told` once people were, or are to be, told of it; until then it belongs to another one (`covered`), or waits for
    that. `uncovered` is when the last one that it belonged to ended, `silent` when its pairs ceased to fire. `delivery`
    is how far the last notice has come, `tried` since when.
    """

    series: SeriesKey
    severity: Severity
    model: str
    version: str
    started: float
    told: bool = False
    covered: bool = False
    uncovered: float = 0.0
    silent: float = 0.0
    ended: float = 0.0
    delivery: str = ""
    tried: float = 0.0
    summary: str = ""
    description: str = ""

    def __repr__(self) -> str:
        return f"<Incident {self.severity} {self.series} since {self.started:.0f}{' told' if self.told else ''}>"

    @property
    def target(self) -> tuple[str, str, str]:
        """Which target it is about: model, objective and SLI."""
        return self.model, self.series.objective, self.series.sli

    @property
    def words(self) -> str:
        """What it is called beside another one of the same target: ticket of v2, prompts of 4096+ tokens."""
        prompts = f", prompts of {self.series.prompt_tokens} tokens" if self.series.prompt_tokens else ""
        return f"{self.severity} of {self.version or 'the model'}{prompts}"

    @property
    def labels(self) -> dict[str, str]:
        """What it is known by to those who are told."""
        labels = {
            "severity": str(self.severity),
            "model": self.model,
            "version": self.version,
            "objective": self.series.objective,
            "sli": self.series.sli,
            "prompt_tokens": self.series.prompt_tokens,
        }
        return {name: value for name, value in labels.items() if value}

    def notice(self) -> Notice:
        """Return what there is to tell now."""
        return Notice(self.labels, self.started, self.ended, self.summary, self.description)

    def state(self) -> list[Any]:
        """Return what is kept over a restart, in JSON's types."""
        return [
            *self.series,
            str(self.severity),
            self.model,
            self.version,
            self.started,
            self.told,
            self.covered,
            self.uncovered,
            self.silent,
            self.ended,
            self.delivery,
            self.summary,
            self.description,
        ]


def incident_of(state: list[Any], now: float) -> Incident:
    """Return an incident that was kept, its times not after `now`; raises TypeError or ValueError for what is none."""
    kind, name, objective, sli, prompt_tokens, severity, model, version, started, told, covered, uncovered, *rest = (
        state
    )
    silent, ended, delivery, summary, description = rest
    return Incident(
        SeriesKey(kind, name, objective, sli, prompt_tokens),
        Severity(severity),
        model,
        version,
        past(started, now),
        told=bool(told),
        covered=bool(covered),
        uncovered=past(uncovered, now),
        silent=past(silent, now),
        ended=past(ended, now),
        delivery=delivery,
        summary=summary,
        description=description,
    )


def firing_of(series: Series, severity: Severity, alerts: Mapping[AlertPair, Alert]) -> Firing:
    """Return the alert of one severity of a series, from its pairs that fire."""
    windows = series.windows
    return Firing(
        series.model,
        series.version,
        series.objective,
        series.sli,
        series.prompt_tokens,
        severity,
        min((alert.since for alert in alerts.values()), default=0.0),
        tuple(alert.reading or read(pair, series.target, windows) for pair, alert in alerts.items()),
        dict(windows.items()),
    )


def texts(series: Series, firing: Firing, ledger: SloLedger) -> tuple[str, str]:
    """Return summary and description: what is spent how fast, how many missed, where, and what is left."""
    reading = max(firing.readings, key=lambda each: each.spent / each.factor)
    budget = error_budget(series.windows, series.target.budget)
    whose = " ".join(filter(None, (series.model, series.version)))
    prompts = f" (prompts of {series.prompt_tokens} tokens)" if series.prompt_tokens else ""
    counts = {}
    for backend in ledger.serving.get((series.model, series.version), ()):
        for each in ledger.get(Kind.BACKEND, backend):
            if (each.objective, each.sli) == (series.objective, series.sli):
                counts[backend] = each.windows.count(reading.pair.long)
    missed = missed_words(series.sli, reading.long, reading.pair.long)
    left = budget_words(budget, ledger.uncounted(series.windows), reading.long)
    where = "" if series.prompt_tokens else where_words(reading.long.bad, counts)
    return (
        f"{series.sli} of {whose}{prompts}: {rate_words(reading, budget)}",
        f"{', '.join(filter(None, (missed, where)))}. {left[0].upper()}{left[1:]}. "
        f"Target {target_words(series.target.ratio)}, objective {series.objective}.",
    )
