"""The loop that holds every model's burn rates against the alert pairs, once a second, and tells of what changes."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from gateway.clock import Clock, next_turn, past
from gateway.control.incidents import (
    FAILED,
    NO_WEBHOOK,
    SENT,
    WAITING,
    Incident,
    Name,
    Notice,
    firing_of,
    incident_of,
    texts,
)
from gateway.policy.slo.alerts import MIN_BAD, PAIRS, RESOLVED_FOR, Alert, AlertPair, AlertState, Severity, read, step
from gateway.policy.slo.incidents import Firing, Handling, handling
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import DAY
from gateway.policy.slo.series import Kind, Series, SeriesKey
from gateway.policy.slo.windows import Windows
from gateway.state.store import Document
from gateway.wire.slices import Slices, Work, finish

_log = logging.getLogger(__name__)
INTERVAL = 1.0
KIND, _ALL = "alerts", "all"
_RETOLD = 60.0
_KEPT_EVERY = 10.0
_ALERTING = frozenset((Kind.MODEL, Kind.VERSION))
"""Whose alerts people are told of: what users experience. Pools and backends burn visibly, and routing acts on it."""
_QUIET = Alert()
_ALL_QUIET = tuple((pair, _QUIET) for pair in PAIRS)

Pairs = dict[AlertPair, Alert]


class Alerter:
    """Keeps the state of every alert; `notify` is told of incidents that begin and of those that end.

    Where it is None alerts are only logged. What fires outlives a restart: `documents` is kept, `restore` takes it.
    """

    def __init__(
        self,
        ledger: SloLedger,
        clock: Clock,
        notify: Callable[[Notice], None] | None,
        request_save: Callable[[], None] = lambda: None,
    ) -> None:
        """Take a clock of seconds since the epoch, and whom to tell that something has to be saved at once."""
        self._ledger = ledger
        self._clock = clock
        self._notify = notify
        self._request_save = request_save
        self._alerts: dict[SeriesKey, Pairs] = {}
        self._watched: dict[SeriesKey, Series] = {}
        self._live: dict[Name, Incident] = {}
        self._ended: list[Incident] = []
        self._accounted: dict[Name, tuple[Windows, int]] = {}
        self._versions = _versions(ledger)
        self._kept_at = 0.0
        self._kept_own: list[list[Any]] = []
        self._changed = False

    async def run(self, slices: Slices) -> None:
        """Evaluate until cancelled, in slices of the loop's time."""
        while True:
            await next_turn(INTERVAL)
            await slices.do(self.evaluating())

    def evaluate(self) -> None:
        """Evaluate once. What the routes no longer name ends."""
        finish(self.evaluating())

    def evaluating(self) -> Work[None]:
        """Do so in small pieces: for the series that failed since the last time, and those that are not inactive.

        What is inactive begins with a bad event and with nothing else, so time alone does not change it.
        """
        now = self._clock()
        failed = self._ledger.take_failed()
        if failed is None:
            self._versions = _versions(self._ledger)
            failed = [series for series in self._ledger if self._alerting(series)]
            known = {series.key for series in failed}
            self._alerts = {key: alerts for key, alerts in self._alerts.items() if key in known}
            self._watched = {}
        self._watched |= {series.key: series for series in failed if self._alerting(series)}
        after = dict(self._alerts)
        firings: dict[Name, tuple[Series, Firing]] = {}
        for series in list(self._watched.values()):
            self._evaluate(series, after, firings, now)
            yield
        self._alerts = after
        for name in [name for name in self._live if name not in firings]:
            self._quiet(name, now)
        told = [firings[name][1] for name, incident in self._live.items() if incident.told and name in firings]
        for name, (series, firing) in sorted(firings.items(), key=_broad_first):
            self._judge(name, series, firing, told, now)
            yield
        self._tell_again(now)

    def __iter__(self) -> Iterator[tuple[Series, AlertPair, Alert]]:
        for series in self._ledger:
            for pair, alert in self.of(series):
                yield series, pair, alert

    def of(self, series: Series) -> list[tuple[AlertPair, Alert]]:
        """Return the alerts of one series; none for those that are not sent.

        One that fires, and of which people are not told yet, is pending: what is shown is what was told.
        """
        if not self._alerting(series):
            return []
        key = series.key
        alerts = self._alerts.get(key)
        if alerts is None:
            return list(_ALL_QUIET)
        return [(pair, self._as_told(key, pair, alert)) for pair, alert in alerts.items()]

    def readings(self, series: Series) -> list[tuple[AlertPair, Alert]]:
        """Return the alerts of one series with what their windows hold now; nothing else reads inactive ones."""
        alerts = self.of(series)
        if series.key in self._watched:
            return alerts
        if series.windows.spotless:
            return [(pair, _QUIET) for pair, _ in alerts]
        return [(pair, replace(alert, reading=read(pair, series.target, series.windows))) for pair, alert in alerts]

    def _as_told(self, key: SeriesKey, pair: AlertPair, alert: Alert) -> Alert:
        if alert.state is not AlertState.FIRING:
            return alert
        incident = self._live.get((key, pair.severity))
        known = incident is not None and (incident.told or any(incident in parts for _, parts in self._told()))
        return alert if known else replace(alert, state=AlertState.PENDING)

    def _told(self) -> list[tuple[Incident, list[Incident]]]:
        """Return the incidents that people were told of, each with those that belong to it."""
        belong = [each for each in self._live.values() if each.covered and not (each.uncovered or each.told)]
        told = [each for each in self._live.values() if each.told]
        return [(each, [part for part in belong if part.target == each.target]) for each in told]

    def parts(self, incident: Incident) -> list[Incident]:
        """Return what belongs to an incident that people were told of, and fires as well."""
        return next((parts for each, parts in self._told() if each is incident), [])

    @property
    def incidents(self) -> list[tuple[Series, Firing, Incident]]:
        """What people were told of and goes on, pages first."""
        found = []
        told = [incident for incident in self._live.values() if incident.told]
        for series in self._ledger if told else ():
            for incident in told:
                if incident.series == series.key and incident.series in self._alerts:
                    firing = self._firing(series, self._alerts[incident.series], incident.severity)
                    found += [(series, firing, incident)] if firing.readings else []
        return sorted(found, key=lambda each: (each[2].severity, each[2].started))

    def delivered(self, notice: Notice, how: str) -> None:
        """Take note of what became of a notice: `SENT` or `FAILED`."""
        for incident in (*self._live.values(), *self._ended):
            if (incident.labels, incident.started, incident.ended) == (notice.labels, notice.started, notice.ended):
                incident.delivery = how
                incident.tried = self._clock()
                self._keep()
        self._ended = [each for each in self._ended if each.delivery != SENT]

    def documents(self) -> list[Document]:
        """Return what fires and what could not be told yet, if that has changed since the last call."""
        now = self._clock()
        own = self._own_failures()
        goes_on = self._live or own != self._kept_own
        if not (self._changed or (goes_on and now - self._kept_at >= _KEPT_EVERY)):
            return []
        self._changed, self._kept_at, self._kept_own = False, now, own
        pairs = [
            [*series, pair.long, alert.since, alert.confirmed]
            for series, alerts in self._alerts.items()
            for pair, alert in alerts.items()
            if alert.state is AlertState.FIRING
        ]
        incidents = [each.state() for each in (*self._live.values(), *self._ended)]
        return [Document(KIND, _ALL, json.dumps({"pairs": pairs, "incidents": incidents, "own": own}))]

    def _own_failures(self) -> list[list[Any]]:
        """Return how many failures came since what people were told of, as long as they are too few for another."""
        return [
            [*series, str(severity), windows.failures - failures]
            for (series, severity), (windows, failures) in self._accounted.items()
            if windows.failures < failures + MIN_BAD
        ]

    def restore(self, documents: Iterable[Document]) -> None:
        """Take back what was kept over a restart: what fired goes on, and what could not be told is told."""
        for document in documents:
            if document.kind == KIND:
                try:
                    self._restore(json.loads(document.body))
                except (KeyError, TypeError, ValueError, AttributeError, StopIteration):
                    _log.exception("saved alerts cannot be read: firing ones are notified again")

    def _restore(self, body: dict[str, Any]) -> None:
        now = self._clock()
        for *series, long, since, confirmed in body["pairs"]:
            pair = next(each for each in PAIRS if each.long == long)
            alerts = self._alerts.setdefault(SeriesKey(*series), dict.fromkeys(PAIRS, _QUIET))
            alerts[pair] = Alert(AlertState.FIRING, past(since, now), None, past(confirmed, now))
        for incident in [incident_of(each, now) for each in body["incidents"]]:
            if incident.told and self._notify is not None and incident.delivery != SENT:
                incident.delivery = FAILED
            if incident.ended:
                self._ended.append(incident)
            else:
                # It ended while no gateway ran, unless its pairs turn out to fire still.
                alerts = self._alerts.get(incident.series, {})
                incident.silent = incident.silent or max((each.confirmed for each in alerts.values()), default=0.0)
                self._live[incident.series, incident.severity] = incident

        windows_of = {series.key: series.windows for series in self._ledger}
        for *series, severity, own in body.get("own", ()):
            windows = windows_of.get(SeriesKey(*series))
            if windows is not None:
                self._accounted[SeriesKey(*series), Severity(severity)] = windows, windows.failures - int(own)

    def _alerting(self, series: Series) -> bool:
        """Whether a subject has alerts of its own; those of a model's only version would repeat the model's."""
        if series.kind not in _ALERTING:
            return False
        return series.kind is Kind.MODEL or self._versions[series.model] != 1

    def _evaluate(
        self,
        series: Series,
        after: dict[SeriesKey, Pairs],
        firings: dict[Name, tuple[Series, Firing]],
        now: float,
    ) -> None:
        key = series.key
        alerts = after.get(key)
        if alerts is None and series.windows.spotless:
            del self._watched[key]
            return
        alerts = alerts or dict.fromkeys(PAIRS, _QUIET)
        alerts = {pair: step(alert, read(pair, series.target, series.windows), now) for pair, alert in alerts.items()}
        after[key] = alerts
        if all(alert.state is AlertState.INACTIVE for alert in alerts.values()):
            del self._watched[key]
            if series.windows.spotless:
                del after[key]
            return
        for severity in {pair.severity for pair, alert in alerts.items() if alert.state is AlertState.FIRING}:
            firings[key, severity] = series, self._firing(series, alerts, severity)

    def _firing(self, series: Series, alerts: Pairs, severity: Severity) -> Firing:
        firing = {
            pair: alert
            for pair, alert in alerts.items()
            if pair.severity == severity and alert.state is AlertState.FIRING
        }
        return firing_of(series, severity, firing)

    def _judge(self, name: Name, series: Series, firing: Firing, told: list[Firing], now: float) -> None:
        incident = self._live.get(name)
        if incident is None:
            incident = self._live[name] = Incident(*name, series.model, series.version, now)
            self._keep()
        incident.silent = 0.0
        if incident.told:
            self._accounted[name] = series.windows, series.windows.failures
            return
        if self._is_old(name, series.windows):
            return
        key, severity = name
        if severity is Severity.TICKET and (key, Severity.PAGE) in self._live:
            found = Handling.BELONGS
        else:
            if incident.covered and not incident.uncovered:
                incident.uncovered = now
            found = handling(firing, told, incident.uncovered, now)
        if found is Handling.BELONGS:
            incident.covered, incident.uncovered = True, 0.0
        elif found is Handling.TOLD:
            incident.told = True
            told.append(firing)
            incident.summary, incident.description = texts(series, firing, self._ledger)
            self._tell(incident, now)

    def _is_old(self, name: Name, windows: Windows) -> bool:
        """Whether only failures of an incident that is over still burn in a long window: another one needs its own."""
        counted, failures = self._accounted.get(name, (None, 0))
        return counted is windows and windows.failures < failures + MIN_BAD

    def _quiet(self, name: Name, now: float) -> None:
        """End an incident of which no pair has fired for a while; what the routes no longer name ends at once."""
        incident = self._live[name]
        incident.silent = incident.silent or now
        is_known = name[0] in self._alerts
        if incident.told and is_known and now - incident.silent < RESOLVED_FOR:
            return
        del self._live[name]
        self._keep()
        if not is_known:
            self._accounted.pop(name, None)
        if incident.told:
            incident.ended = incident.silent
            self._ended.append(incident)
            self._tell(incident, now)

    def _tell(self, incident: Incident, now: float) -> None:
        _log.log(
            logging.INFO if incident.ended else logging.ERROR,
            "alert resolved" if incident.ended else "alert firing",
            extra={
                **incident.labels,
                "summary": incident.summary,
                "description": incident.description,
                "seconds": round(now - incident.started),
            },
        )
        self._send(incident, now)

    def _send(self, incident: Incident, now: float) -> None:
        self._keep()
        incident.tried = now
        incident.delivery = WAITING if self._notify is not None else NO_WEBHOOK
        if self._notify is not None:
            self._notify(incident.notice())
        elif incident.ended:
            self._ended.remove(incident)

    def _tell_again(self, now: float) -> None:
        """Send again what a receiver that was down has missed: what still fires, and what has ended."""
        self._ended = [each for each in self._ended if now - each.ended < DAY]
        for incident in (*self._live.values(), *self._ended):
            if incident.delivery == FAILED and now - incident.tried >= _RETOLD:
                self._send(incident, now)

    def _keep(self) -> None:
        self._changed = True
        self._request_save()


def _broad_first(item: tuple[Name, tuple[Series, Firing]]) -> tuple[bool, bool, str]:
    firing = item[1][1]
    return bool(firing.version), bool(firing.prompt_tokens), firing.severity


def _versions(ledger: SloLedger) -> Counter[str]:
    """Count the versions of each model: an only version has no alerts beside those of its model."""
    return Counter(model for model, version in ledger.serving if version)
