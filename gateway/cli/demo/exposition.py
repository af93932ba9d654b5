"""Prometheus' text format as numbers by name and labels."""

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]
Samples = Mapping[str, Mapping[Labels, float]]
Buckets = Mapping[float, float]


def parse(text: str) -> Samples:
    """Return the samples of an exposition by name and sorted labels; raises ValueError when it is none."""
    samples: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return samples


def sum_by(samples: Mapping[Labels, float], label: str) -> dict[str, float]:
    """Return the sums over all other labels."""
    totals: dict[str, float] = {}
    for labels, value in samples.items():
        key = dict(labels).get(label, "")
        totals[key] = totals.get(key, 0.0) + value
    return totals


def buckets_of(samples: Mapping[Labels, float]) -> dict[float, float]:
    """Return the cumulative counts of a histogram by upper bound, over all its series."""
    return {float(bound): count for bound, count in sum_by(samples, "le").items()}
