"""Burn rates, budgets and alerts as Prometheus metrics. Every name here has a row in docs/metrics.md."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.config.durations import format_duration
from gateway.policy.slo.alerts import Alert, AlertPair, AlertState
from gateway.policy.slo.budget import error_budget
from gateway.policy.slo.burn import burn
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.series import Kind, Series

Alerts = Iterable[tuple[Series, AlertPair, Alert]]


class SloCollector(Collector):
    """What the ledger of SLIs and the alerts say now."""

    def __init__(self, ledger: SloLedger, alerts: Alerts) -> None:
        self._ledger = ledger
        self._alerts = alerts

    def collect(self) -> Iterable[Metric]:
        """Return all metrics as they are now."""
        yield from self._events()
        yield from self._burn()
        yield self._alert_states()

    def _events(self) -> Iterable[Metric]:
        events = CounterMetricFamily(
            "tidegate_sli_events",
            "Events of each SLI, as users experienced them, by verdict.",
            labels=("model", "version", "objective", "sli", "prompt_tokens", "verdict"),
        )
        judged = CounterMetricFamily(
            "tidegate_judged_requests",
            "Requests held to their objective: good ones met every target of it.",
            labels=("model", "version", "objective", "verdict"),
        )
        goodput = CounterMetricFamily(
            "tidegate_goodput_tokens",
            "Output tokens of requests that met every target of theirs.",
            labels=("model", "version", "objective"),
        )
        for names, counts in self._ledger.requests.items():
            for cell in counts:
                _add(events, (*names, cell.sli, cell.prompt_tokens), cell.good, cell.bad)
            _add(judged, names, counts.met, counts.missed)
            goodput.add_metric(names, counts.tokens)
        yield from (events, judged, goodput, self._attempts())

    def _attempts(self) -> Metric:
        """Kept apart from what users experienced: no sum may hold a request and its attempts."""
        events = CounterMetricFamily(
            "tidegate_backend_sli_events",
            "Events of each SLI by the backend of the attempt, by verdict.",
            labels=("pool", "backend", "objective", "sli", "verdict"),
        )
        for (backend, objective), counts in self._ledger.attempts.items():
            for cell in counts:
                names = (self._ledger.pools[backend], backend, objective, cell.sli)
                _add(events, names, cell.good, cell.bad)
        return events

    def _burn(self) -> Iterable[Metric]:
        rates = GaugeMetricFamily(
            "tidegate_burn_rate",
            "How fast the error budget is spent; 1 spends it exactly. Absent without events.",
            labels=("subject", "name", "objective", "sli", "prompt_tokens", "window"),
        )
        budgets = GaugeMetricFamily(
            "tidegate_error_budget_remaining_ratio",
            "Share of the error budget left over the SLO window; version is empty for the model as a whole.",
            labels=("model", "version", "objective", "sli", "prompt_tokens"),
        )
        names: dict[float, str] = {}
        for series in self._ledger:
            windows, budget = series.windows, series.target.budget
            for length, counts in windows.items():
                name = names.get(length) or names.setdefault(length, format_duration(length))
                rate = burn(counts, budget)
                if rate is not None:
                    rates.add_metric((*series.key, name), rate)
            left = error_budget(windows, budget).left
            if left is not None and series.kind in {Kind.MODEL, Kind.VERSION}:
                budgets.add_metric((series.model, series.version, *series.key[2:]), left)
        coverage = GaugeMetricFamily(
            "tidegate_window_coverage_ratio",
            "Share of each window in which this gateway was there to count.",
            labels=("window",),
        )
        for length, name in names.items():
            coverage.add_metric((name,), self._ledger.coverage(length))
        yield from (rates, budgets, coverage)

    def _alert_states(self) -> Metric:
        states = GaugeMetricFamily(
            "tidegate_alert_state",
            "1 for the state that an alert is in.",
            labels=("model", "version", "objective", "sli", "prompt_tokens", "severity", "long_window", "state"),
        )
        for series, pair, alert in self._alerts:
            for state in AlertState:
                long = format_duration(pair.long)
                labels = (series.model, series.version, *series.key[2:], pair.severity, long, state)
                states.add_metric(labels, float(alert.state is state))
        return states


def _add(family: CounterMetricFamily, labels: tuple[str, ...], good: int, bad: int) -> None:
    family.add_metric((*labels, "good"), good)
    family.add_metric((*labels, "bad"), bad)
