"""KEDA and the HorizontalPodAutoscaler in miniature: how a number of this gateway becomes a number of replicas."""

from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any

import httpx

TOLERANCE = 0.1
"""Kubernetes' `--horizontal-pod-autoscaler-tolerance`."""


def value_of(body: Any, location: str = "value") -> float:
    """Return what KEDA's metrics-api scaler reads at a `valueLocation`; raises ValueError where that is no number."""
    found = body.get(location) if isinstance(body, dict) else None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ValueError(f"no number at {location}: {found!r}")
    if not isfinite(found):
        raise ValueError(f"not finite: {found!r}")
    return float(found)


def hpa(replicas: int, metric: float, target: float = 1.0, *, tolerance: float = TOLERANCE) -> int:
    """Return how many replicas the HPA wants by a metric of type AverageValue.

    Its usage ratio is the metric over target times replicas; within the tolerance nothing changes
    (`GetExternalPerPodMetricReplicas` in Kubernetes' replica_calculator.go).
    """
    if not replicas:
        return ceil(metric / target)
    ratio = metric / (target * replicas)
    # Up to Kubernetes 1.32 by the difference, since then by the bounds: at the edge floats make these differ.
    is_within = abs(1.0 - ratio) <= tolerance or 1.0 - tolerance <= ratio <= 1.0 + tolerance
    return replicas if is_within else ceil(metric / target)


@dataclass
class Keda:
    """A ScaledObject with the metrics-api trigger: polls, and keeps the number of replicas of what it scales.

    After `failures` failed polls in a row the `fallback` holds. With several gateways behind one Service each poll
    meets any of them; with `aggregateFromKubeServiceEndpoints` all are asked, and the highest counts.
    """

    replicas: int
    failures: int = 3
    fallback: int | None = None
    tolerance: float = TOLERANCE
    failed: int = 0

    async def poll(self, client: httpx.AsyncClient, *urls: str) -> int:
        """Ask once, and scale."""
        values = []
        for url in urls:
            try:
                answer = await client.get(url)
            except httpx.HTTPError:
                continue
            if answer.status_code == 200:
                values.append(value_of(answer.json()))
        if values:
            self.failed = 0
            self.replicas = hpa(self.replicas, max(values), tolerance=self.tolerance)
        else:
            self.failed += 1
            if self.failed >= self.failures and self.fallback is not None:
                self.replicas = self.fallback
        return self.replicas
