"""Burn rates, budgets and alerts as Prometheus metrics. Every name here has a row in docs/metrics.md."""

from collections.abc import Callable, Iterable, Iterator

from gateway.config.durations import format_duration
from gateway.policy.slo.alerts import PAIRS, Alert, AlertPair, AlertState
from gateway.policy.slo.budget import error_budget
from gateway.policy.slo.burn import burn
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.series import Kind, Series
from gateway.telemetry.families import Family, Piece, counter, gauge

Alerts = Callable[[Series], Iterable[tuple[AlertPair, Alert]]]


class SloCollector:
    """What the ledger of SLIs and the alerts say now."""

    def __init__(self, ledger: SloLedger, alerts: Alerts) -> None:
        self._ledger = ledger
        self._alerts = alerts

    def collect(self) -> Iterator[Piece]:
        """Yield all metrics as they are now."""
        yield from self._events()
        yield from self._attempts()
        yield from self._burn()
        yield from self._alert_states()

    def _events(self) -> Iterator[Piece]:
        events = counter(
            "sli_events",
            "Events of each SLI, as users experienced them, by verdict.",
            ("model", "version", "objective", "sli", "prompt_tokens", "verdict"),
        )
        judged = counter(
            "judged_requests",
            "Requests held to their objective: good ones met every target of it.",
            ("model", "version", "objective", "verdict"),
        )
        goodput = counter(
            "goodput_tokens",
            "Output tokens of requests that met every target of theirs.",
            ("model", "version", "objective"),
        )
        for names, counts in list(self._ledger.requests.items()):
            for cell in counts:
                _add(events, (*names, cell.sli, cell.prompt_tokens), cell.good, cell.bad)
            _add(judged, names, counts.met, counts.missed)
            goodput.add(names, counts.tokens)
            yield None
        yield from (events, judged, goodput)

    def _attempts(self) -> Iterator[Piece]:
        """Kept apart from what users experienced: no sum may hold a request and its attempts."""
        events = counter(
            "backend_sli_events",
            "Events of each SLI by the backend of the attempt, by verdict.",
            ("pool", "backend", "objective", "sli", "verdict"),
        )
        pools = self._ledger.pools
        for (backend, objective), counts in list(self._ledger.attempts.items()):
            for cell in counts:
                _add(events, (pools[backend], backend, objective, cell.sli), cell.good, cell.bad)
            yield None
        yield events

    def _burn(self) -> Iterator[Piece]:
        rates = gauge(
            "burn_rate",
            "How fast the error budget is spent; 1 spends it exactly. Absent without events.",
            ("subject", "name", "objective", "sli", "prompt_tokens", "window"),
        )
        budgets = gauge(
            "error_budget_remaining_ratio",
            "Share of the error budget left over the SLO window; version is empty for the model as a whole.",
            ("model", "version", "objective", "sli", "prompt_tokens"),
        )
        names: dict[float, str] = {}
        for series in list(self._ledger):
            windows, budget = series.windows, series.target.budget
            for length, counts in windows.items():
                name = names.get(length) or names.setdefault(length, format_duration(length))
                rate = burn(counts, budget)
                if rate is not None:
                    rates.add((*series.key, name), rate)
            left = error_budget(windows, budget).left
            if left is not None and series.kind in {Kind.MODEL, Kind.VERSION}:
                budgets.add((series.model, series.version, *series.key[2:]), left)
            yield None
        coverage = gauge(
            "window_coverage_ratio",
            "Share of each window in which this gateway was there to count.",
            ("window",),
        )
        for length, name in names.items():
            coverage.add((name,), self._ledger.coverage(length))
        yield from (rates, budgets, coverage)

    def _alert_states(self) -> Iterator[Piece]:
        states = gauge(
            "alert_state",
            "1 for the state that an alert is in.",
            ("model", "version", "objective", "sli", "prompt_tokens", "severity", "long_window", "state"),
        )
        longs = {pair: format_duration(pair.long) for pair in PAIRS}
        for series in list(self._ledger):
            key = series.key
            for pair, alert in self._alerts(series):
                names = (series.model, series.version, *key[2:], pair.severity, longs[pair])
                for state in AlertState:
                    states.add((*names, state), float(alert.state is state))
            yield None
        yield states


def _add(family: Family, labels: tuple[str, ...], good: int, bad: int) -> None:
    family.add((*labels, "good"), good)
    family.add((*labels, "bad"), bad)
