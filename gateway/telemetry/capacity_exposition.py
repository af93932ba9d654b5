"""What pools want, as Prometheus metrics. Every name here has a row in docs/metrics.md."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from gateway.telemetry.families import Piece, counter, gauge

_POOL = ("pool",)


@dataclass(frozen=True, slots=True)
class CapacityRow:
    """The want of one pool: `wanted` and `awaiting` replicas, those that it has, and what the wanted ones cost an hour.

    None is what is not known. It wants so many `since` then (seconds since the epoch). `forecast` says by several
    measures how far forecasts were off.
    """

    pool: str
    wanted: int | None = None
    replicas: int | None = None
    awaiting: int | None = None
    cost: float | None = None
    since: float | None = None
    forecast: tuple[tuple[str, float], ...] = ()


class CapacityCollector:
    """How many replicas each pool wants and has; a want that is not known is absent, since a 0 would scale it down."""

    def __init__(self, rows: Callable[[], Iterable[CapacityRow]], changes: Mapping[tuple[str, str], int]) -> None:
        """Take the wants, and how many changes of each pool were decided here, by (pool, rule)."""
        self._rows = rows
        self._changes = changes

    def collect(self) -> Iterator[Piece]:
        """Yield all metrics as they are now."""
        known = gauge("capacity_known", "1 while it is known how many replicas a pool wants.", _POOL)
        wanted = gauge("capacity_wanted_replicas", "Replicas that a pool wants.", _POOL)
        replicas = gauge("capacity_replicas", "Replicas that a pool has, those that are starting among them.", _POOL)
        awaiting = gauge("capacity_awaiting_replicas", "Replicas wanted once a person approves, 0 for none.", _POOL)
        cost = gauge("capacity_wanted_cost_per_hour", "What the wanted replicas cost per hour.", _POOL)
        since = gauge("capacity_wanted_since_timestamp_seconds", "When a pool last wanted another number.", _POOL)
        text = "How far forecasts of a pool's load were off, over about the last day; by measure."
        error = gauge("capacity_forecast_error", text, ("pool", "measure"))
        for row in self._rows():
            labels = (row.pool,)
            known.add(labels, float(row.wanted is not None))
            for family, value in (
                (wanted, row.wanted),
                (replicas, row.replicas),
                (awaiting, row.awaiting),
                (cost, row.cost),
                (since, row.since),
            ):
                if value is not None:
                    family.add(labels, value)
            for measure, off in row.forecast:
                error.add((row.pool, measure), off)
            yield None
        changes = counter("capacity_changes", "Changes of a want that this gateway decided, by rule.", ("pool", "rule"))
        for (pool, rule), count in self._changes.items():
            changes.add((pool, rule), count)
        yield from (known, wanted, replicas, awaiting, cost, since, error, changes)
