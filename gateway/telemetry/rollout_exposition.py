"""Rollouts as Prometheus metrics. Every name here has a row in docs/metrics.md."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import exp

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.policy.canary.rollout import Phase
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
    version, stage), the seconds since registration of each model's latest deployment.
    """

    rollouts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    copies: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    durations: Mapping[tuple[str, str], Histogram] = field(default_factory=dict)
    stages: Mapping[tuple[str, str, str], float] = field(default_factory=dict)


class RolloutCollector(Collector):
    """Where rollouts and deployments stand, and what they came to."""

    def __init__(self, rollouts: Callable[[], Iterable[RolloutRow]], delivered: Callable[[], Delivered]) -> None:
        self._rollouts = rollouts
        self._delivered = delivered

    def collect(self) -> Iterable[Metric]:
        """Return all metrics as they are now."""
        phase = GaugeMetricFamily(
            "tidegate_canary_phase", "1 for the phase a rollout is in.", labels=("model", "phase")
        )
        step = GaugeMetricFamily("tidegate_canary_step", "Step from 1; 0 before the first.", labels=("model",))
        weight = GaugeMetricFamily(
            "tidegate_canary_weight_ratio", "Share of requests that a version gets.", labels=("model", "version")
        )
        evidence = GaugeMetricFamily(
            "tidegate_canary_e_value",
            "Evidence that the candidate misses more often than stable; all SLIs together roll back at 100.",
            labels=("model", "sli"),
        )
        for row in self._rollouts():
            for each in Phase:
                phase.add_metric((row.model, each), float(each is row.phase))
            step.add_metric((row.model,), row.step)
            for version, share in row.weights.items():
                weight.add_metric((row.model, version), share)
            for sli, log_e in row.log_e.items():
                evidence.add_metric((row.model, sli), min(_MOST, exp(min(log_e, 700.0))))
        yield from (phase, step, weight, evidence)
        yield from self._ended(self._delivered())

    @staticmethod
    def _ended(delivered: Delivered) -> Iterable[Metric]:
        rollouts = CounterMetricFamily("tidegate_rollouts", "Rollouts that ended.", labels=("model", "result"))
        for key, count in delivered.rollouts.items():
            rollouts.add_metric(key, count)
        copies = CounterMetricFamily(
            "tidegate_mirrored_requests",
            "Copies of requests by how they ended; their answers were thrown away.",
            labels=("model", "version", "outcome"),
        )
        for copied, count in delivered.copies.items():
            copies.add_metric(copied, count)
        stages = GaugeMetricFamily(
            "tidegate_deployment_stage_seconds",
            "From registration to each stage of the latest deployment.",
            labels=("model", "version", "stage"),
        )
        for stage, seconds in delivered.stages.items():
            stages.add_metric(stage, seconds)
        durations = HistogramMetricFamily(
            "tidegate_deployment_duration_seconds",
            "From registration to the first live answer, or to the end without one.",
            labels=("model", "result"),
        )
        for key, histogram in delivered.durations.items():
            durations.add_metric(key, buckets=histogram.cumulative(), sum_value=histogram.total)
        yield from (rollouts, copies, stages, durations)
