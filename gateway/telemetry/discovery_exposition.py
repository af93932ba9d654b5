"""What is known of origins of backends, as Prometheus metrics. Every name here has a row in docs/metrics.md."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gateway.telemetry.families import Piece, counter, gauge

_ORIGIN = ("origin",)


@dataclass(frozen=True, slots=True)
class DiscoveryRow:
    """One origin: the targets that it names, for which pools, and those that are leaving.

    `age` is how long ago it told of them, in seconds, None before it did. `problem` is "" while all is well, and
    `errors` how often it could not be asked.
    """

    origin: str
    pools: tuple[str, ...]
    targets: int
    leaving: int
    age: float | None
    problem: str
    errors: int


class DiscoveryCollector:
    """What origins told, how long ago, and how often they did not. The routes name them, so there are few."""

    def __init__(self, rows: Callable[[], Iterable[DiscoveryRow]]) -> None:
        self._rows = rows

    def collect(self) -> Iterator[Piece]:
        """Yield all metrics as they are now."""
        targets = gauge("discovery_targets", "Backends that an origin tells of, or that leave.", (*_ORIGIN, "state"))
        age = gauge("discovery_age_seconds", "Time since an origin last told of its backends.", _ORIGIN)
        errors = counter("discovery_errors", "Times that an origin could not be asked, or used.", _ORIGIN)
        for row in self._rows():
            targets.add((row.origin, "ready"), row.targets)
            targets.add((row.origin, "leaving"), row.leaving)
            if row.age is not None:
                age.add((row.origin,), row.age)
            errors.add((row.origin,), row.errors)
            yield None
        yield from (targets, age, errors)
