"""What a gateway knows of those that share its store, as Prometheus metrics. Each has a row in docs/metrics.md."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.telemetry.families import Piece, gauge, single


@dataclass(frozen=True, slots=True)
class FleetRow:
    """Numbers of a fleet, as one gateway sees it; None for what it does not know yet."""

    alive: int | None
    leads: bool
    saved: float | None
    read: float | None
    took: float | None
    unsaved: int
    recovering: bool


class FleetCollector:
    """Who is alive, who leads, and how old what is shared has become; nothing where no state is kept."""

    def __init__(self, row: Callable[[], FleetRow | None]) -> None:
        self._row = row

    def collect(self) -> Iterator[Piece]:
        """Yield all metrics as they are now."""
        row = self._row()
        if row is None:
            return
        known = (
            ("members", "Gateways and workers that saved something in the store within 10 s.", row.alive),
            ("leader", "1 while this gateway leads.", float(row.leads)),
            ("save_age_seconds", "Time since the last good save.", row.saved),
            ("save_duration_seconds", "How long the last good save took.", row.took),
            ("read_age_seconds", "Time since counts of other gateways were last read.", row.read),
            ("unsaved_slots", "Counts of time slots that wait in memory to be saved.", row.unsaved),
            ("recovering", "1 while what an emptied store had is being restored.", float(row.recovering)),
        )
        for name, text, value in known:
            if value is not None:
                yield single(gauge(f"fleet_{name}", text), value)
