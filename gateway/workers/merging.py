"""The metrics of all workers as one: counters are added, with those of workers that have ended, so that none falls."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.telemetry.families import number

_ADDED = frozenset(("counter", "histogram"))
GAUGES: Mapping[str, Callable[[list[float]], float]] = {
    "tidegate_backend_idle_connections": sum,
    "tidegate_backend_in_flight": sum,
    "tidegate_backend_kv_tokens": sum,
    "tidegate_backend_prefill_tokens": sum,
    "tidegate_client_connections": sum,
    "tidegate_fleet_unsaved_slots": sum,
    "tidegate_held_requests": sum,
    "tidegate_in_flight": sum,
    "tidegate_queue_depth": sum,
    "tidegate_tasks": sum,
    "process_open_fds": sum,
    "process_resident_memory_bytes": sum,
    "process_virtual_memory_bytes": sum,
    "tidegate_discovery_age_seconds": max,
    "tidegate_discovery_targets": max,
    "tidegate_fleet_leader": max,
    "tidegate_fleet_members": max,
    "tidegate_fleet_read_age_seconds": max,
    "tidegate_fleet_recovering": max,
    "tidegate_fleet_save_age_seconds": max,
    "tidegate_fleet_save_duration_seconds": max,
    "tidegate_loop_lag_seconds": max,
    "tidegate_pool_panic": max,
    "tidegate_prompt_estimate_error_ratio": max,
    "tidegate_backend_prediction_error_ratio": max,
    "tidegate_queue_held": max,
    "tidegate_window_coverage_ratio": max,
    "process_max_fds": min,
    "process_start_time_seconds": min,
    "tidegate_routes_loaded": min,
    "tidegate_state_saved_timestamp_seconds": min,
}
"""What the gauges of all workers come to; those that are not here are the leading worker's."""


@dataclass(slots=True)
class Samples:
    """One metric, by its name as Prometheus' own text has it: `name{labels}` and the values."""

    kind: str
    text: str
    values: dict[str, float] = field(default_factory=dict)

    def raise_to(self, others: Mapping[str, float]) -> None:
        """Let no value be below that of others: what counts never falls."""
        for key in self.values.keys() & others.keys():
            self.values[key] = max(self.values[key], others[key])

    def add(self, others: Mapping[str, float]) -> None:
        """Add the values of others."""
        for key, value in others.items():
            self.values[key] = self.values.get(key, 0.0) + value


Families = dict[str, Samples]


def parsed(text: bytes) -> Families:
    """Return the metrics in Prometheus' own text, without timestamps."""
    found: Families = {}
    texts: dict[str, str] = {}
    current = Samples("untyped", "")
    for line in text.decode().splitlines():
        if line.startswith("# HELP "):
            name, _, words = line.removeprefix("# HELP ").partition(" ")
            texts[name] = words
        elif line.startswith("# TYPE "):
            name, _, kind = line.removeprefix("# TYPE ").partition(" ")
            current = found.setdefault(name, Samples(kind, texts.get(name, "")))
        elif line and not line.startswith("#"):
            key, _, value = line.rpartition(" ")
            current.values[key] = float(value)
    return found


def rendered(families: Mapping[str, Samples], *, open_metrics: bool) -> Iterator[bytes]:
    """Yield metrics as text; in OpenMetrics the end has to follow."""
    for full_name, family in families.items():
        name, text = full_name, family.text
        if open_metrics:
            name = full_name.removesuffix("_total") if family.kind == "counter" else full_name
            text = text.replace('"', r"\"")
        lines = [f"# HELP {name} {text}\n# TYPE {name} {family.kind}\n"]
        lines += [f"{key} {number(value)}\n" for key, value in family.values.items()]
        yield "".join(lines).encode()


class Expositions:
    """What each worker told last, by its process id, and the counts of those that have ended."""

    def __init__(self) -> None:
        self._seen: dict[int, Families] = {}
        self._ended: Families = {}

    def __repr__(self) -> str:
        return f"<Expositions of {len(self._seen)} workers>"

    def saw(self, worker: int, text: bytes) -> None:
        """Take all metrics of a worker; an answer without any says nothing of what it has counted."""
        found, before = parsed(text), self._seen.get(worker, {})
        if not found:
            return
        for name, family in found.items():
            if family.kind in _ADDED and name in before:
                family.raise_to(before[name].values)
        self._seen[worker] = found

    def over(self, worker: int, last: bytes = b"") -> None:
        """Keep what a worker that has ended has counted."""
        if last:
            self.saw(worker, last)
        for name, family in self._seen.pop(worker, {}).items():
            if family.kind in _ADDED:
                self._ended.setdefault(name, Samples(family.kind, family.text)).add(family.values)

    def requests(self, worker: int) -> int:
        """Return how many requests a worker had counted."""
        family = self._seen.get(worker, {}).get("tidegate_requests_total")
        return int(sum(family.values.values())) if family else 0

    def merged(self, workers: Iterable[int], names: Container[str] | None = None) -> Families:
        """Return the metrics of all, or those of these names, of which the first worker is the leader."""
        found = {
            name: Samples(each.kind, each.text, dict(each.values))
            for name, each in self._ended.items()
            if names is None or name in names
        }
        live = [self._seen[worker] for worker in workers if worker in self._seen]
        for families in live:
            for name, family in families.items():
                if names is not None and name not in names:
                    continue
                total = found.setdefault(name, Samples(family.kind, family.text))
                if family.kind in _ADDED:
                    total.add(family.values)
        for name, total in found.items():
            if total.kind not in _ADDED:
                total.values = _gauge(name, [families[name].values for families in live if name in families])
        return found

    def state(self) -> dict[str, Any]:
        """Return all of it, as `restored` takes it."""
        return {"ended": _plain(self._ended), "seen": {worker: _plain(each) for worker, each in self._seen.items()}}

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> "Expositions":
        """Return what another program in this process has seen."""
        found = cls()
        found._ended = _samples(state["ended"])
        found._seen = {int(worker): _samples(each) for worker, each in state["seen"].items()}
        return found


def _gauge(name: str, of_workers: list[dict[str, float]]) -> dict[str, float]:
    merge = GAUGES.get(name)
    if merge is None:
        return of_workers[0] if of_workers else {}
    keys = dict.fromkeys(key for each in of_workers for key in each)
    return {key: merge([each[key] for each in of_workers if key in each]) for key in keys}


def _plain(families: Families) -> dict[str, Any]:
    return {name: [each.kind, each.text, each.values] for name, each in families.items()}


def _samples(plain: Mapping[str, Any]) -> Families:
    return {name: Samples(kind, text, dict(values)) for name, (kind, text, values) in plain.items()}
