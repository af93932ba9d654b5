"""What the gateway says of itself at one moment, as far as the tour tells of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.cli.demo.exposition import Buckets, Labels, Samples, buckets_of, sum_by
from gateway.cli.demo.figures import Reading, read


@dataclass(frozen=True, slots=True)
class ClassMoment:
    """One service class: requests that wait now; refused for overload and times waited since the gateway began."""

    waiting: int
    shed: int
    queued: Buckets


@dataclass(frozen=True, slots=True)
class Moment:
    """Counts since the gateway began, and what holds now.

    `met` and `missed` are requests held to an objective, by its name. `burn` has the worst burn rate of each backend
    over 10 s, `ejection` where it stands. `rollout` is what the admin API tells of the rollout.
    """

    reading: Reading
    met: Mapping[str, int]
    missed: Mapping[str, int]
    retries: int
    burn: Mapping[str, float]
    ejection: Mapping[str, str]
    classes: Mapping[str, ClassMoment]
    rollout: Mapping[str, Any]

    @property
    def at(self) -> float:
        """Seconds on the monotonic clock."""
        return self.reading.at


def moment(samples: Samples, at: float, rollout: Mapping[str, Any]) -> Moment:
    """Return what the gateway's metrics and its account of the rollout say."""
    judged = samples.get("tidegate_judged_requests_total", {})
    burn: dict[str, float] = {}
    for labels, value in samples.get("tidegate_burn_rate", {}).items():
        of = dict(labels)
        if of["subject"] == "backend" and of["window"] == "10s":
            burn[of["name"]] = max(value, burn.get(of["name"], 0.0))
    return Moment(
        reading=read(samples, at),
        met=_counts(_those(judged, "verdict", "good"), "objective"),
        missed=_counts(_those(judged, "verdict", "bad"), "objective"),
        retries=int(sum(samples.get("tidegate_retries_total", {}).values())),
        burn=burn,
        ejection={
            dict(labels)["backend"]: dict(labels)["state"]
            for labels, value in samples.get("tidegate_backend_ejection", {}).items()
            if value
        },
        classes=_classes(samples),
        rollout=rollout,
    )


def _classes(samples: Samples) -> dict[str, ClassMoment]:
    waiting = _counts(samples.get("tidegate_queue_depth", {}), "class")
    shed = _counts(samples.get("tidegate_shed_total", {}), "class")
    queued = samples.get("tidegate_queue_seconds_bucket", {})
    return {
        name: ClassMoment(waiting.get(name, 0), shed.get(name, 0), buckets_of(_those(queued, "class", name)))
        for name in {*waiting, *shed, *sum_by(queued, "class")}
    }


def _those(samples: Mapping[Labels, float], label: str, value: str) -> dict[Labels, float]:
    return {labels: count for labels, count in samples.items() if (label, value) in labels}


def _counts(samples: Mapping[Labels, float], label: str) -> dict[str, int]:
    return {name: int(value) for name, value in sum_by(samples, label).items()}
