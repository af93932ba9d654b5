"""One SLI of one model as rules see it: names, targets, and the queries that count its events."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.config.durations import format_duration
from gateway.config.table import ModelSpec, RouteTable
from gateway.policy.slo.alerts import PAIRS, AlertPair, Severity
from gateway.policy.slo.objective import Objective, Sli, Target
from gateway.policy.slo.windows import SHORT_WINDOWS

ALERT = "TidegateErrorBudgetBurn"
_SHORTEST = 300.0


class Source(Protocol):
    """Where events are counted: queries of Prometheus over a window such as `5m`, or Sloth's `{{.window}}`."""

    def bad(self, function: str, window: str) -> str:
        """Return the query of bad events, `function` being `rate` or `increase`."""

    def total(self, function: str, window: str) -> str:
        """Return the query of all events that count."""


@dataclass(frozen=True, slots=True)
class EdgeEvents:
    """Events as the gateway counts them at its own edge: what users lived through."""

    model: str
    objective: str
    sli: str

    def bad(self, function: str, window: str) -> str:
        """Return the query of bad events."""
        return f'sum({function}(tidegate_sli_events_total{{{self._labels}, verdict="bad"}}[{window}]))'

    def total(self, function: str, window: str) -> str:
        """Return the query of all events that count."""
        return f"sum({function}(tidegate_sli_events_total{{{self._labels}}}[{window}]))"

    @property
    def _labels(self) -> str:
        model = json.dumps(self.model, ensure_ascii=False)
        return f'model={model}, objective="{self.objective}", sli="{self.sli}"'


@dataclass(frozen=True, slots=True)
class Scale:
    """How much shorter windows are than they are called: 1 in production, 0.01 in tests and game days."""

    factor: float = 1.0

    def range(self, seconds: float) -> str:
        """Return the range of a window as Prometheus reads it."""
        milliseconds = round(seconds * self.factor * 1000)
        return format_duration(milliseconds / 1000)


@dataclass(frozen=True, slots=True)
class Promise:
    """One SLI of one model under one objective: what is promised, and where its events are counted."""

    model: str
    under: str
    sli: Sli
    target: Target
    window: float
    source: Source
    runbook: str = ""
    scale: Scale = field(default_factory=Scale)

    @property
    def id(self) -> str:
        """Its name in Sloth's labels."""
        return f"{self.model}-{self.under}-{self.sli}"

    @property
    def slug(self) -> str:
        """Its name where only lower-case letters, digits and hyphens may stand (RFC 1123)."""
        return slug(self.id)

    @property
    def labels(self) -> dict[str, str]:
        """The labels of everything recorded about it."""
        return {
            "sloth_id": self.id,
            "sloth_service": self.model,
            "sloth_slo": f"{self.under}-{self.sli}",
            "model": self.model,
            "objective": self.under,
            "sli": str(self.sli),
        }

    @property
    def selector(self) -> str:
        """What selects its recorded series."""
        return f"sloth_id={json.dumps(self.id, ensure_ascii=False)}"

    @property
    def windows(self) -> list[float]:
        """The windows that rules need, in seconds, the SLO window last."""
        return [*(each for each in SHORT_WINDOWS if each >= _SHORTEST), self.window]

    @property
    def objective(self) -> str:
        """The promise in words."""
        percent = f"{self.target.ratio * 100:.6g} %"
        if self.sli is Sli.AVAILABILITY:
            return f"{percent} of requests answered whole"
        what = {Sli.TTFT: "first tokens", Sli.TPOT: "answers", Sli.ITL: "gaps between tokens", Sli.E2E: "answers"}
        pace = " a token" if self.sli is Sli.TPOT else ""
        return f"{percent} of {what[self.sli]} within {format_duration(self.target.under)}{pace}"

    def annotations(self, severity: Severity) -> dict[str, str]:
        """Return what a person reads when it burns."""
        pairs = pairs_of(severity)
        factors = " or ".join(
            f"{pair.factor(self.window):.4g} over {format_duration(pair.long)} and {format_duration(pair.short)}"
            for pair in pairs
        )
        words = {
            "summary": f"{self.sli} of {self.model} burns its error budget",
            "description": f"Promised over {format_duration(self.window)}: {self.objective}. Burns above {factors}.",
        }
        if self.runbook:
            words["runbook_url"] = f"{self.runbook.rstrip('/')}/{self.sli}"
        return words


def promises(table: RouteTable, runbook: str, scale: Scale) -> Iterator[Promise]:
    """Return what the models of a route table promise, as the gateway counts it."""
    for model in table.models.values():
        for objective in model.objectives:
            for sli in objective.targets:
                source = EdgeEvents(model.name, objective.name, sli)
                yield promise(model, objective, sli, source, runbook, scale)


def promise(  # noqa: PLR0917
    model: ModelSpec, objective: Objective, sli: Sli, source: Source, runbook: str, scale: Scale
) -> Promise:
    """Return one promise of a model with its events from `source`."""
    return Promise(model.name, objective.name, sli, objective.targets[sli], objective.window, source, runbook, scale)


def alert_name(severity: Severity) -> str:
    """Return the name of an alert."""
    return f"{ALERT}{severity.capitalize()}"


def pairs_of(severity: Severity) -> list[AlertPair]:
    """Return the alert pairs of a severity."""
    return [pair for pair in PAIRS if pair.severity is severity]


def slug(name: str) -> str:
    """Return a name of lower-case letters, digits and hyphens, at most 63 of them."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].rstrip("-")


Document = dict[str, Any]
