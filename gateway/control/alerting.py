"""The loop that holds every model's burn rates against the alert pairs, once a second, and tells of what changes."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.clock import Clock
from gateway.config.durations import format_duration
from gateway.policy.slo.alerts import PAIRS, Alert, AlertPair, AlertState, read, step
from gateway.policy.slo.budget import error_budget
from gateway.policy.slo.burn import burn
from gateway.policy.slo.series import SeriesKey
from gateway.telemetry.slo import Kind, SloBook, Tracked

_log = logging.getLogger(__name__)
INTERVAL = 1.0
_ALERTING = frozenset((Kind.MODEL, Kind.VERSION))
"""Whose alerts people are told of: what users live through. Pools and backends burn visibly, and routing acts on it."""

Key = tuple[SeriesKey, AlertPair]


@dataclass(frozen=True, slots=True)
class Notice:
    """An alert that began to fire, or that resolved: what a person is told."""

    tracked: Tracked
    pair: AlertPair
    alert: Alert
    fired: float
    """When it began to fire, in seconds since the epoch."""

    @property
    def model(self) -> str:
        """The model that it is about."""
        return self.tracked.model

    @property
    def version(self) -> str:
        """The version, "" when the model as a whole is meant."""
        return self.tracked.version


class Alerter:
    """Keeps the state of every alert; `notify` is told of those that fire and those that resolve."""

    def __init__(self, book: SloBook, clock: Clock, notify: Callable[[Notice], None]) -> None:
        """Take a clock of seconds since the epoch."""
        self._book = book
        self._clock = clock
        self._notify = notify
        self._alerts: dict[Key, tuple[Tracked, Alert, float]] = {}

    async def run(self) -> None:
        """Evaluate until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            self.evaluate()

    def evaluate(self) -> None:
        """Evaluate once. What the routes no longer name resolves before it is forgotten."""
        now = self._clock()
        before, self._alerts = self._alerts, {}
        for tracked in self._book:
            if tracked.kind in _ALERTING and not tracked.prompt_tokens:
                self._evaluate(tracked, before, now)
        for key, (tracked, alert, fired) in before.items():
            if key not in self._alerts and alert.state is AlertState.FIRING:
                self._tell(Notice(tracked, key[1], Alert(AlertState.RESOLVED, now, alert.reading), fired))

    def __iter__(self) -> Iterator[tuple[Tracked, AlertPair, Alert]]:
        for key, (tracked, alert, _) in self._alerts.items():
            yield tracked, key[1], alert

    def of(self, tracked: Tracked) -> list[tuple[AlertPair, Alert]]:
        """Return the alerts of one SLI of one subject; none for subjects that nobody is told of."""
        keys = ((tracked.key, pair) for pair in PAIRS)
        return [(key[1], self._alerts[key][1]) for key in keys if key in self._alerts]

    def _evaluate(self, tracked: Tracked, before: dict[Key, tuple[Tracked, Alert, float]], now: float) -> None:
        spotless = tracked.windows.spotless
        for pair in PAIRS:
            key = (tracked.key, pair)
            known = before.get(key)
            alert, fired = (known[1], known[2]) if known is not None else (Alert(), 0.0)
            if spotless and alert.state is AlertState.INACTIVE:
                self._alerts[key] = tracked, alert, fired
                continue
            after = step(alert, read(pair, tracked.target, tracked.windows), now)
            if after.state is AlertState.FIRING and alert.state is not AlertState.FIRING:
                fired = now
            self._alerts[key] = tracked, after, fired
            if after.state is not alert.state and after.state in {AlertState.FIRING, AlertState.RESOLVED}:
                self._tell(Notice(tracked, pair, after, fired))

    def _tell(self, notice: Notice) -> None:
        tracked, pair, reading = notice.tracked, notice.pair, notice.alert.reading
        long = tracked.windows.count(pair.long)
        left = error_budget(tracked.windows, tracked.target.budget).left
        _log.log(
            logging.ERROR if notice.alert.state is AlertState.FIRING else logging.INFO,
            "alert %s",
            notice.alert.state,
            extra={
                "severity": pair.severity,
                "model": notice.model,
                "version": notice.version,
                "objective": tracked.objective,
                "sli": tracked.sli,
                "windows": f"{format_duration(pair.long)} and {format_duration(pair.short)}",
                "burn_long": _rounded(burn(reading.long, reading.budget) if reading else None),
                "burn_short": _rounded(burn(reading.short, reading.budget) if reading else None),
                "weight": _rounded(reading.weight if reading else None),
                "factor": _rounded(reading.factor if reading else None),
                "bad": long.bad,
                "total": long.total,
                "budget_left": _rounded(left),
            },
        )
        self._notify(notice)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
