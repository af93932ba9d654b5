"""What was counted and is not in the windows yet, and which series had bad events among it."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from gateway.policy.slo.counting import ObjectiveCounts
from gateway.policy.slo.series import Series, SeriesKey
from gateway.policy.slo.windows import Windows

T = TypeVar("T")


class Folding:
    """What has to be folded: only what was counted in, of thousands of series.

    `counted` are the counts that were added to since they were last folded.
    """

    __slots__ = ("_changed", "_failed", "_series", "_unfolded", "counted")

    def __init__(self) -> None:
        self.counted: list[ObjectiveCounts] = []
        self._unfolded: list[Windows] = []
        self._changed: dict[Windows, None] = {}
        self._failed: dict[SeriesKey, Series] | None = None
        self._series: dict[Windows, Series] = {}

    def __repr__(self) -> str:
        return f"<Folding {len(self.counted)} counted>"

    def follow(self, series: dict[Windows, Series]) -> None:
        """Fold for these series from now on."""
        self._series = series
        self.restored()

    def restored(self) -> None:
        """Learn that windows hold what nobody has counted here: any series may have failed."""
        self._failed = None

    def count(self, series: Series, *, good: int, bad: int) -> None:
        """Count events of one series, besides those of requests and attempts."""
        series.windows.good += good
        series.windows.bad += bad
        self._unfolded.append(series.windows)

    def fold(self) -> None:
        """Add all that was counted to its windows, which advance later."""
        for counts in _taken(self.counted):
            counts.fold(self._unfolded)

    def advancing(self, now: float) -> Iterator[None]:
        """Fold, and advance the windows that something was folded into, in small pieces."""
        for counts in _taken(self.counted):
            counts.fold(self._unfolded)
            yield
        for windows in _taken(self._unfolded):
            self._changed[windows] = None
            if windows.bad and self._failed is not None and windows in self._series:
                series = self._series[windows]
                self._failed[series.key] = series
            if windows.good or windows.bad:
                windows.advance(now)
                yield

    def failed(self, series: Series) -> None:
        """Learn that a series has bad events from elsewhere."""
        if self._failed is not None:
            self._failed[series.key] = series

    def changing(self) -> Iterator[Series]:
        """Yield the series that something was counted in since each was last yielded."""
        while self._changed:
            windows, _ = self._changed.popitem()
            if windows in self._series:
                yield self._series[windows]

    def take_failed(self) -> Sequence[Series] | None:
        """Return the series with bad events since the last call, None where that may be any."""
        failed, self._failed = self._failed, {}
        return None if failed is None else list(failed.values())


def _taken(waiting: list[T]) -> list[T]:
    """Empty a list, and return what was in it."""
    taken = waiting[:]
    waiting.clear()
    return taken
