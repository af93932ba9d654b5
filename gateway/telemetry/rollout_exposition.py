"""Rollouts as Prometheus metrics. Every name here has a row in docs/metrics.md."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import exp

from gateway.policy.canary.rollout import Phase
from gateway.telemetry.families import HistogramFamily, Piece, counter, gauge, with_histograms, with_samples
from gateway.telemetry.histogram import Histogram

_MOST = 1e9
"""An e-value beyond this says nothing more, and gauges of 1e300 draw badly."""


@dataclass(frozen=True, slots=True)
class RolloutRow:
    """One rollout: `weights` are shares by version (0 to 1), `log_e` by SLI."""

    model: str
    phase: Phase
    step: int
    weights: Mapping[str, float]
    log_e: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Delivered:
    """The results of rollouts and deployments.

    Counts and durations are by (model, result), copies by (model, version, outcome). `stages` holds, by (model,
    version, stage), the seconds since registration of each model's latest deployment; `reported` are durations of the
    stages that CD systems report, by (model, stage, result).
    """

    rollouts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    copies: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    durations: Mapping[tuple[str, str], Histogram] = field(default_factory=dict)
    stages: Mapping[tuple[str, str, str], float] = field(default_factory=dict)
    reported: Mapping[tuple[str, str, str], Histogram] = field(default_factory=dict)


class RolloutCollector:
    """Where rollouts and deployments stand, and what they came to."""

    def __init__(self, rollouts: Callable[[], Iterable[RolloutRow]], delivered: Callable[[], Delivered]) -> None:
        self._rollouts = rollouts
        self._delivered = delivered

    def collect(self) -> Iterator[Piece]:
        """Yield all metrics as they are now."""
        phase = gauge("canary_phase", "1 for the phase a rollout is in.", ("model", "phase"))
        step = gauge("canary_step", "Step from 1; 0 before the first.", ("model",))
        weight = gauge("canary_weight_ratio", "Share of requests that a version gets.", ("model", "version"))
        evidence = gauge(
            "canary_e_value",
            "Evidence that the candidate misses more often than stable; all SLIs together roll back at 100.",
            ("model", "sli"),
        )
        for row in self._rollouts():
            for each in Phase:
                phase.add((row.model, each), float(each is row.phase))
            step.add((row.model,), row.step)
            for version, share in row.weights.items():
                weight.add((row.model, version), share)
            for sli, log_e in row.log_e.items():
                evidence.add((row.model, sli), min(_MOST, exp(min(log_e, 700.0))))
            yield None
        yield from (phase, step, weight, evidence)
        yield from self._ended(self._delivered())

    @staticmethod
    def _ended(delivered: Delivered) -> Iterator[Piece]:
        rollouts = counter("rollouts", "Rollouts that ended.", ("model", "result"))
        copies = counter(
            "mirrored_requests",
            "Copies of requests by how they ended; their answers were thrown away.",
            ("model", "version", "outcome"),
        )
        stages = gauge(
            "deployment_stage_seconds",
            "From registration to each stage of the latest deployment.",
            ("model", "version", "stage"),
        )
        durations = HistogramFamily(
            "tidegate_deployment_duration_seconds",
            "From registration to the first live answer, or to the end without one.",
            ("model", "result"),
        )
        yield from with_samples(rollouts, delivered.rollouts)
        yield from with_samples(copies, delivered.copies)
        yield from with_samples(stages, delivered.stages)
        yield from with_histograms(durations, delivered.durations)
        reported = HistogramFamily(
            "tidegate_deployment_reported_stage_duration_seconds",
            "Of the stages that CD systems report.",
            ("model", "stage", "result"),
        )
        yield from with_histograms(reported, delivered.reported)
