"""What a gateway tells of itself while a run goes on, out of its metrics."""

from collections.abc import Mapping
from types import MappingProxyType

from prometheus_client.parser import text_string_to_metric_families

from loadtest.report.recording import Sample

_ATTEMPTS = "tidegate_attempts_total"
_GAUGES = MappingProxyType(
    {
        "tidegate_backend_routing_burn": ("burn", "backend"),
        "tidegate_backend_in_flight": ("in_flight", "backend"),
        "tidegate_queue_depth": ("queue", "class"),
        "tidegate_canary_weight_ratio": ("split", "version"),
    }
)


def read(text: str, at: float, before: Mapping[str, float]) -> tuple[list[Sample], dict[str, float]]:
    """Return the samples of one reading and the attempts by backend so far; `before` has those of the last reading.

    `share` is the part of all attempts since then that a backend had. Only the few lines that count are parsed, since
    users wait while this runs.
    """
    wanted = (_ATTEMPTS, *_GAUGES)
    lines = "\n".join(line for line in text.splitlines() if line.startswith(wanted))
    values: dict[tuple[str, str], float] = {}
    attempts: dict[str, float] = {}
    for family in text_string_to_metric_families(lines + "\n"):
        for sample in family.samples:
            if sample.name == _ATTEMPTS:
                backend = sample.labels["backend"]
                attempts[backend] = attempts.get(backend, 0.0) + sample.value
            elif sample.name in _GAUGES:
                name, label = _GAUGES[sample.name]
                key = name, sample.labels[label]
                values[key] = values.get(key, 0.0) + sample.value
    new = {backend: count - before.get(backend, 0.0) for backend, count in attempts.items()}
    if before and (everything := sum(new.values())):
        values.update({("share", backend): count / everything for backend, count in new.items()})
    return [Sample(at, name, label, value) for (name, label), value in values.items()], attempts
