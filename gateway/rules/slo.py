"""One SLI of one model or version as rules see it: names, targets, and the queries that count its events."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.config.durations import format_duration
from gateway.config.table import ModelSpec, RouteTable
from gateway.policy.slo.alerts import PAIRS, AlertPair, Severity
from gateway.policy.slo.objective import Objective, Sli, Target
from gateway.policy.slo.words import target_words
from gateway.runbooks import runbook as section

ALERT = "TidegateErrorBudgetBurn"
MISSED = {
    Sli.AVAILABILITY: "requests failed",
    Sli.TTFT: "requests missed TTFT",
    Sli.TPOT: "answers missed TPOT",
    Sli.ITL: "gaps between tokens were too long",
    Sli.E2E: "answers took too long",
    Sli.COLD_START: "cold starts took too long",
}
"""What a bad event is called in an alert."""
_EVENTS = {
    Sli.TTFT: "first tokens",
    Sli.TPOT: "answers",
    Sli.ITL: "gaps between tokens",
    Sli.E2E: "answers",
    Sli.COLD_START: "cold starts",
}
Document = dict[str, Any]


class Source(Protocol):
    """Where events are counted: queries of Prometheus over a window such as `5m`, or Sloth's `{{.window}}`."""

    @property
    def counters(self) -> str:
        """The selector of the counters that together count every event."""

    def bad(self, function: str, window: str) -> str:
        """Return the query of bad events, `function` being `rate` or `increase`."""

    def total(self, function: str, window: str) -> str:
        """Return the query of all events that count."""

    def worst(self, window: str) -> str:
        """Return the query of bad attempts of the backend with most of them, "" where backends are not told apart."""


@dataclass(frozen=True, slots=True)
class EdgeEvents:
    """Requests as the gateway counts them at its own edge: what users experienced.

    Sums run over every other label, so that restarts and replicas add up to one count. `pools` are those whose
    backends may have failed.
    """

    labels: dict[str, str]
    pools: tuple[str, ...] = ()

    @property
    def counters(self) -> str:
        """The selector of the counters that together count every event."""
        return f"tidegate_sli_events_total{{{matchers(self.labels)}}}"

    def bad(self, function: str, window: str) -> str:
        """Return the query of bad events."""
        return f"sum({function}(tidegate_sli_events_total{{{matchers({**self.labels, 'verdict': 'bad'})}}}[{window}]))"

    def total(self, function: str, window: str) -> str:
        """Return the query of all events that count."""
        return f"sum({function}({self.counters}[{window}]))"

    def worst(self, window: str) -> str:
        """Return the query of bad attempts of the backend that had most of them."""
        bad = matchers({"objective": self.labels["objective"], "sli": self.labels["sli"], "verdict": "bad"})
        select = f"{bad}, {one_of('pool', self.pools)}"
        return f"topk(1, sum by (backend) (increase(tidegate_backend_sli_events_total{{{select}}}[{window}])) >= 0.5)"


@dataclass(frozen=True, slots=True)
class Scale:
    """How much shorter windows are than they are called: 1 in production, 0.01 in tests and game days."""

    factor: float = 1.0

    def range(self, seconds: float) -> str:
        """Return the range of a window as Prometheus reads it."""
        return format_duration(max(1, round(seconds * self.factor * 1000)) / 1000)


@dataclass(frozen=True, slots=True)
class Part:
    """The requests of one version, or those with prompts of a certain length; without either, all requests."""

    version: str = ""
    prompt_tokens: str = ""

    @property
    def labels(self) -> dict[str, str]:
        """The labels that tell it from the whole."""
        named = {"version": self.version, "prompt_tokens": self.prompt_tokens}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class Slo:
    """One SLI of one model under one objective held to its target: as a whole, or a part of it."""

    model: str
    objective: str
    sli: Sli
    target: Target
    window: float
    source: Source
    part: Part = field(default_factory=Part)
    runbook: str = ""
    scale: Scale = field(default_factory=Scale)

    @property
    def subject(self) -> str:
        """The model, or the part of its requests, in words."""
        name = f"{self.model}/{self.part.version}" if self.part.version else self.model
        return f"{name} with prompts of {self.part.prompt_tokens} tokens" if self.part.prompt_tokens else name

    @property
    def id(self) -> str:
        """Its name in Sloth's labels, unlike that of any other."""
        return ":".join((self.whole, *self.part.labels.values()))

    @property
    def whole(self) -> str:
        """The id of the SLO that it is a part of, or its own."""
        return f"{self.model}-{self.objective}-{self.sli}"

    @property
    def slug(self) -> str:
        """Its name where only lower-case letters, digits and hyphens may stand (RFC 1123)."""
        return slug(self.id.replace("<", "below-").replace("+", "-and-more"))

    @property
    def labels(self) -> dict[str, str]:
        """The labels of everything recorded about it."""
        return {
            "sloth_id": self.id,
            "sloth_service": self.model,
            "sloth_slo": self.id.removeprefix(f"{self.model}-"),
            **self.counted,
        }

    @property
    def runbook_url(self) -> str:
        """Where an alert links to, "" without a page."""
        return section(self.sli, self.runbook)

    @property
    def counted(self) -> dict[str, str]:
        """The labels of its events."""
        return {"model": self.model, "objective": self.objective, "sli": str(self.sli), **self.part.labels}

    @property
    def selector(self) -> str:
        """What selects its recorded series."""
        return matchers({"sloth_id": self.id})

    @property
    def target_words(self) -> str:
        """The target, in words."""
        percent = target_words(self.target.ratio)
        if self.sli is Sli.AVAILABILITY:
            return f"{percent} of requests answered completely"
        pace = " a token" if self.sli is Sli.TPOT else ""
        return f"{percent} of {_EVENTS[self.sli]} within {format_duration(self.target.under)}{pace}"

    def recorded(self, name: str) -> str:
        """Return the selector of one of its recorded series."""
        return f"{name}{{{self.selector}}}"


def slos(table: RouteTable, runbook: str, scale: Scale) -> Iterator[Slo]:
    """Return the SLOs of the models of a route table, as the gateway counts them; parts follow their whole.

    A version has SLOs of its own where there are several: the only version of a model is the model. So has a class of
    prompt lengths that has a threshold of its own.
    """
    for model in table.models.values():
        for objective in model.objectives:
            for sli, target in objective.targets.items():
                whole = _slo(model, objective, sli, target, Part(), runbook=runbook, scale=scale)
                yield whole
                versions = [(Part(version=name), target) for name in model.versions] if len(model.versions) > 1 else []
                classes = [(Part(prompt_tokens=name), of_class) for name, of_class in target.prompt_classes]
                for part, own in (*versions, *classes):
                    yield _slo(model, objective, sli, own, part, runbook=runbook, scale=scale)


def _slo(
    model: ModelSpec, objective: Objective, sli: Sli, target: Target, part: Part, *, runbook: str, scale: Scale
) -> Slo:
    versions = [model.versions[part.version]] if part.version else model.versions.values()
    pools = tuple(dict.fromkeys(pool for version in versions for pool in version.pools))
    source = EdgeEvents({"model": model.name, "objective": objective.name, "sli": str(sli), **part.labels}, pools)
    return Slo(model.name, objective.name, sli, target, objective.window, source, part, runbook, scale)


def alert_name(severity: Severity) -> str:
    """Return the name of an alert."""
    return f"{ALERT}{severity.capitalize()}"


def pairs_of(severity: Severity) -> list[AlertPair]:
    """Return the alert pairs of a severity."""
    return [pair for pair in PAIRS if pair.severity is severity]


def matchers(labels: dict[str, str]) -> str:
    """Return label matchers as PromQL reads them."""
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items())


def one_of(label: str, values: tuple[str, ...]) -> str:
    """Return the matcher of a label that has one of these values."""
    if len(values) == 1:
        return matchers({label: values[0]})
    return f"{label}=~{json.dumps('|'.join(map(literal, values)), ensure_ascii=False)}"


def literal(value: str) -> str:
    """Return a pattern of RE2 that matches this value alone."""
    return re.sub(r"([\\.+*?()\[\]{}|^$])", r"\\\1", value)


def slug(name: str) -> str:
    """Return a name of lower-case letters, digits and hyphens, at most 63 of them."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].rstrip("-")
