"""A deployment as it is kept: the stages that the gateway saw, those that a CD system reported, how it ended."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import msgspec

from gateway.clock import past

SKEW: Final = 300.0
"""How far, in seconds, the clock of a CD system may be ahead of this one."""
LATE: Final = 7 * 86_400.0
"""How long before a deployment was registered, in seconds, a stage of it may have begun."""


class Stage(StrEnum):
    """What a deployment passes, in order: the closed set of the `stage` label."""

    REGISTERED = "registered"
    BACKENDS_READY = "backends_ready"
    FIRST_SYNTHETIC_ANSWER = "first_synthetic_answer"
    FIRST_LIVE_ANSWER = "first_live_answer"
    FULL_WEIGHT = "full_weight"


class Result(StrEnum):
    """How a deployment stands: the closed set of the `result` label."""

    RUNNING = "running"
    LIVE = "live"
    ROLLED_BACK = "rolled_back"
    SUPERSEDED = "superseded"
    GIVEN_UP = "given_up"


class StageResult(StrEnum):
    """How a stage that a CD system reports stands: the closed set of its `result` label."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(slots=True)
class Reported:
    """A stage as a CD system reported it: seconds since the epoch, `ended` 0.0 while it runs."""

    started: float
    ended: float = 0.0
    result: StageResult = StageResult.RUNNING
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What a CD system reports of one of `SUPPORTING_STAGES`; times are None where it leaves them out."""

    stage: str
    result: StageResult
    started: float | None = None
    ended: float | None = None
    reason: str = ""


class RefusedReport(Exception):
    """A report that cannot be; the message says why."""


@dataclass(slots=True)
class Deployment:
    """The deployment of one version.

    `stages` holds when each stage was reached, `ended` when the deployment was over (seconds since the epoch, 0.0
    before). `traceparent` is the W3C trace context of the CD system, `reported` what it told of its own stages.
    """

    id: str
    model: str
    version: str
    actor: str
    stages: dict[str, float] = field(default_factory=dict)
    result: Result = Result.RUNNING
    reason: str = ""
    traceparent: str = ""
    ended: float = 0.0
    reported: dict[str, Reported] = field(default_factory=dict)

    @property
    def registered(self) -> float:
        """When it was registered, in seconds since the epoch."""
        return self.stages[Stage.REGISTERED]

    @property
    def label(self) -> str:
        """What it is called in a trace."""
        return f"deploy {self.model}/{self.version}"

    @property
    def attributes(self) -> dict[str, str]:
        """What a trace tells about it."""
        return {
            "deployment.id": self.id,
            "gen_ai.request.model": self.model,
            "tidegate.version": self.version,
            "tidegate.actor": self.actor,
            "deployment.status": self.result,
        }

    @property
    def milestones(self) -> list[tuple[str, float]]:
        """Its stages, the earliest first; one that did not reach the last ends with how it ended."""
        reached = sorted(self.stages.items(), key=lambda item: item[1])
        return reached if self.result is Result.LIVE else [*reached, (str(self.result), self.ended)]

    @property
    def failure(self) -> str:
        """Why no user got an answer of it, "" when one did."""
        return "" if self.result is Result.LIVE else f"{self.result}: {self.reason}"

    @property
    def is_over(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.ended > 0.0


def kept(body: str, now: float) -> Deployment:
    """Return a deployment that was kept, none of its times after `now`; raises ValueError or msgspec.DecodeError.

    Earlier versions took any time for one of a reported stage: stages with times that cannot be are left out.
    """
    deployment = msgspec.json.decode(body, type=Deployment)
    if Stage.REGISTERED not in deployment.stages:
        raise ValueError("nothing says when it was registered")
    deployment.stages = {stage: past(at, now) for stage, at in deployment.stages.items()}
    deployment.ended = past(deployment.ended, now)
    deployment.reported = {stage: each for stage, each in deployment.reported.items() if _has_times(each)}
    for each in deployment.reported.values():
        each.started, each.ended = past(each.started, now), past(each.ended, now)
    return deployment


def _has_times(stage: Reported) -> bool:
    """Whether a stage began after the epoch, and ended if it does not run."""
    return stage.started > 0 and (stage.ended > 0 or stage.result is StageResult.RUNNING)


def merged(known: Reported | None, report: Report, now: float, registered: float) -> Reported:
    """Return a stage after a report: what is left out stays as it was, or is now; raises RefusedReport.

    A stage that has ended stays so. A stage that ends without having been reported before has to say when it started.
    """
    if known is not None and known.result is not StageResult.RUNNING:
        if _repeats(known, report):
            return known
        already = f"{report.stage} has {known.result} already, after {known.ended - known.started:.1f} s"
        raise RefusedReport(f"{already}: a further try is a deployment of its own, with another id")
    running = report.result is StageResult.RUNNING
    if running and report.ended is not None:
        raise RefusedReport(f"{report.stage} cannot have ended and still be running: report succeeded or failed")
    started = report.started if report.started is not None else now if known is None else known.started
    if known is None and report.started is None and not running:
        raise RefusedReport(f"{report.stage} was not reported to have started: say when, as `started`")
    ended = None if running else now if report.ended is None else report.ended
    _refuse_impossible(report.stage, "started", started, now, registered)
    if ended is not None:
        _refuse_impossible(report.stage, "ended", ended, now, registered)
        if ended < started:
            raise RefusedReport(f"{report.stage} cannot have ended {started - ended:.1f} s before it started")
    return Reported(started, ended or 0.0, report.result, report.reason)


def _refuse_impossible(stage: str, name: str, at: float, now: float, registered: float) -> None:
    """Raise RefusedReport for a time that is ahead of the clock, or long before the deployment."""
    if at > now + SKEW:
        raise RefusedReport(f"{stage}: `{name}` is {at - now:.0f} s ahead of the gateway's clock")
    begun = min(registered, now)  # the clock may have been ahead at the registration, and set right since
    if at <= max(0.0, begun - LATE):
        long_before = f"{stage}: `{name}` is {(begun - at) / 86_400:.0f} days before the deployment was registered"
        must = f"it must be less than {LATE / 86_400:.0f} days before: correct it, or leave it out"
        raise RefusedReport(f"{long_before}; {must}")


def _repeats(known: Reported, report: Report) -> bool:
    """Whether a report says of a stage that has ended what is known; a late "running" says nothing new either."""
    times = (report.started in {None, known.started}, report.ended in {None, known.ended})
    return report.result is StageResult.RUNNING or (report.result is known.result and all(times))
