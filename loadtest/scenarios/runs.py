"""What each run of a scenario came to, and the middle of several. Arithmetic alone."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

from loadtest.report.figures import Verdict, recovered_after
from loadtest.report.recording import OK, Recording, Request
from loadtest.scenarios.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Run:
    """One gateway in one repetition of one scenario.

    Times in seconds, `goodput` in output tokens a second, `missed` of `requests`; `cost` is what a million output
    tokens of goodput cost, in the currency of `cost_per_hour`. `recovered` counts from the fault; None: never.
    `streams` says how many of each stream missed (`name=missed/due`), where there are several; of streams that are not
    judged, how many had no whole answer, however late.
    """

    scenario: str
    gateway: str
    seed: int
    requests: int
    missed: int
    late_ttft: int
    late_tpot: int
    failed: int
    cut: int
    refused: int
    goodput: float
    ttft_p50: float | None
    ttft_p99: float | None
    tpot_p99: float | None
    recovered: float | None
    cost: float | None
    streams: str = ""

    @property
    def share(self) -> float:
        """The share of requests that missed the objective."""
        return self.missed / self.requests if self.requests else 0.0


def judged(scenario: Scenario, recording: Recording) -> list[Run]:
    """Return a run for each gateway of a recording."""
    streams = {stream.name for stream in scenario.load if stream.judged}
    objective = recording.about.objective
    found = []
    for gateway in dict.fromkeys(request.gateway for request in recording.requests):
        own = [each for each in recording.requests if each.gateway == gateway and each.name in streams]
        verdict = Verdict.of(own, objective, *scenario.judged)
        why = {reason.lower().replace(" ", "_"): count for reason, count in verdict.why.items()}
        tokens_an_hour = verdict.goodput * 3600
        found.append(
            Run(
                scenario=scenario.name,
                gateway=gateway,
                seed=recording.about.seed,
                requests=verdict.requests,
                missed=round(verdict.missed * verdict.requests),
                **why,
                goodput=verdict.goodput,
                ttft_p50=verdict.ttft_p50,
                ttft_p99=verdict.ttft_p99,
                tpot_p99=verdict.tpot_p99,
                recovered=recovered_after(own, objective, scenario.fault_at),
                cost=scenario.price / tokens_an_hour * 1e6 if tokens_an_hour else None,
                streams=_by_stream(scenario, [each for each in recording.requests if each.gateway == gateway]),
            )
        )
    return found


def _by_stream(scenario: Scenario, requests: Sequence[Request]) -> str:
    """Say how many of each stream missed, of those that were due in the judged span."""
    if len(scenario.load) == 1:
        return ""
    objective, (start, end) = scenario.objective.as_recorded(), scenario.judged
    told = []
    for stream in scenario.load:
        due = [each for each in requests if each.name == stream.name and start <= each.at < end]
        good = [each for each in due if (objective.is_met_by(each) if stream.judged else each.outcome == OK)]
        told.append(f"{stream.name}={len(due) - len(good)}/{len(due)}")
    return " ".join(told)


def write(path: Path, runs: Iterable[Run]) -> None:
    """Write runs as CSV."""
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, [each.name for each in fields(Run)], lineterminator="\n")
        table.writeheader()
        for run in runs:
            table.writerow({name: _cell(value) for name, value in asdict(run).items()})


def _cell(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


@dataclass(frozen=True, slots=True)
class Middle:
    """The median of a figure over repetitions, and its spread; None stands for a figure that there was not."""

    median: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Middle":
        """Return the middle of these values; where most are None, so is it."""
        known = [value for value in values if value is not None]
        if 2 * len(known) <= len(values):
            return cls(None, min(known, default=None), max(known, default=None))
        return cls(median(known), min(known), max(known))
