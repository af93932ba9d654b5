"""Multi-window, multi-burn-rate alerts: a table of four pairs and the states of each. SRE workbook, chapter 5.

An alert means that budget is spent. So the burn rate of a long window is weighed by how much of that window was in use,
and it has to be certain: five bad events at least, and more than chance explains. Either it is certain that the window
burns faster than the factor, or it does and a service within its budget would not come to that once in a million times.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from math import ceil, log
from typing import Final

from gateway.policy.slo.burn import Counts, at_least, burn, surprise, whole_events
from gateway.policy.slo.objective import DAY, Target
from gateway.policy.slo.time_in_use import BRIDGED, HOUR
from gateway.policy.slo.windows import MINUTE, Windows

RESOLVED_FOR: Final = 300.0
"""Seconds that an alert is shown as resolved before it is inactive again."""
PENDING_FOR: Final = 2.0
"""Seconds that both windows must exceed before an alert fires: one reading is not yet a state."""
MIN_BAD: Final = 5
"""Bad events that the long window holds at least before it says anything."""
STAYING_BAD: Final = 2
"""Bad events that it holds at least for an alert to go on."""
BEYOND_CHANCE: Final = 13.8
"""Nats of surprise that a service within its budget reaches once in a million times."""
CONFIRMING: Final = 3
"""Bad events expected in a short window that confirms; where it holds too few for that, the latest events stand in."""


class Severity(StrEnum):
    """Whom an alert wakes: a page now, a ticket in office hours."""

    PAGE = "page"
    TICKET = "ticket"


@dataclass(frozen=True, slots=True)
class AlertPair:
    """Fires when `share` of the budget of the SLO window is spent within `long` seconds and still within `short`.

    `z` is how certain the long window has to be, in standard errors.
    """

    severity: Severity
    share: float
    long: float
    short: float
    z: float = 1.96

    def factor(self, slo_window: float) -> float:
        """Return the burn rate that spends `share` of the budget in the long window: 14.4 for 2 % in 1 h of 30 d."""
        return self.share * slo_window / self.long

    def fewest(self, slo_window: float, budget: float) -> int:
        """Return how many events, were all of them bad, the long window holds before it speaks."""
        share = self.factor(slo_window) * budget
        fewest = min(self.z**2 * share / (1 - share), BEYOND_CHANCE / (budget - 1 - log(budget)))
        return max(MIN_BAD, whole_events(fewest))

    def speaks(self, long: Counts, factor: float, budget: float) -> bool:
        """Whether the long window burns faster than the factor, on enough events to tell that from chance."""
        share = factor * budget
        if long.bad < MIN_BAD or long.bad <= share * long.total:
            return False
        return at_least(long, self.z) > share or surprise(long, budget) >= BEYOND_CHANCE


PAIRS = (
    AlertPair(Severity.PAGE, 0.02, HOUR, 5 * MINUTE),
    AlertPair(Severity.PAGE, 0.05, 6 * HOUR, 30 * MINUTE),
    AlertPair(Severity.TICKET, 0.10, DAY, 2 * HOUR),
    AlertPair(Severity.TICKET, 0.10, 3 * DAY, 6 * HOUR, 2.58),
)
FASTEST: Final = PAIRS[0]
"""The pair whose factor is meant wherever a burn rate is called page rate."""


class AlertState(StrEnum):
    """Where an alert stands; resolved is inactive, but was firing a moment ago."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Reading:
    """Both windows of a pair held against its factor; `weight` is how much of the long one was in use.

    `speaks` when the long window has enough events to be certain. `short` holds the latest events where the short
    window has too few. `failures` are all the bad events since the process began; `goes_on` says whether one of the
    newest was bad: of the last five minutes, or of the last few events where these hold fewer. `is_idle` says that
    those minutes hold none at all.
    """

    pair: AlertPair
    factor: float
    budget: float
    long: Counts
    short: Counts
    weight: float
    speaks: bool
    failures: int = 0
    goes_on: bool = True
    is_idle: bool = False

    @property
    def spent(self) -> float:
        """The burn rate of the long window, weighed by its time in use."""
        return (burn(self.long, self.budget) or 0.0) * self.weight

    @property
    def confirms(self) -> bool:
        """Whether the short window says that it goes on."""
        return (burn(self.short, self.budget) or 0.0) > self.factor

    @property
    def exceeds(self) -> bool:
        """Whether budget is spent faster than the factor, for certain and still."""
        return self.speaks and self.spent > self.factor and self.confirms

    @property
    def lasts(self) -> bool:
        """Whether the long window lets an alert that fires go on."""
        return self.long.bad >= STAYING_BAD and self.spent > self.factor / 2


def read(pair: AlertPair, target: Target, windows: Windows) -> Reading:
    """Return what a pair's windows say."""
    budget, factor = target.budget, pair.factor(windows.slo)
    long, short = windows.count(pair.long), windows.count(pair.short)
    weight, goes_on, is_idle = 0.0, False, False
    if long.bad >= STAYING_BAD and long.bad > long.total * budget * factor / 2:
        # Else it neither fires nor lasts, whatever the rest says: of thousands of series that is nearly every one.
        weight = windows.weight(pair.long)
        wanted = max(CONFIRMING, ceil(CONFIRMING * long.total / long.bad))
        if short.total < wanted:
            short = windows.newest(wanted, pair.long / BRIDGED)
        newest = windows.count(FASTEST.short)
        is_idle = not newest.total
        goes_on = bool((newest if newest.total >= CONFIRMING else windows.newest(CONFIRMING, pair.long)).bad)
    speaks = pair.speaks(long, factor, budget)
    return Reading(pair, factor, budget, long, short, weight, speaks, windows.failures, goes_on, is_idle)


@dataclass(frozen=True, slots=True)
class Alert:
    """The state of one pair for one subject and SLI, since when, and the last reading.

    `confirmed` is when the short window last said that it goes on, `failures` how many bad events there had been.
    """

    state: AlertState = AlertState.INACTIVE
    since: float = 0.0
    reading: Reading | None = None
    confirmed: float = 0.0
    failures: int = 0


def step(alert: Alert, reading: Reading, now: float) -> Alert:
    """Return the alert after a reading taken at `now` (seconds).

    It begins with a bad event, since a good one only tells how long the quiet before it was, and fires once it has
    exceeded for `PENDING_FOR`. It stays while the long window burns at half the factor and the
    short one confirmed within its own length: a fault that comes and goes is one alert.
    """
    confirmed = now if reading.confirms else alert.confirmed
    fails = reading.failures != alert.failures
    alert = replace(alert, reading=reading, confirmed=confirmed, failures=reading.failures)
    state, elapsed = alert.state, now - alert.since
    if state is AlertState.FIRING:
        if reading.lasts and now - confirmed <= reading.pair.short:
            return alert
        return replace(alert, state=AlertState.RESOLVED, since=now)
    if reading.exceeds and (fails or state is AlertState.PENDING):
        if state is not AlertState.PENDING:
            return replace(alert, state=AlertState.PENDING, since=now)
        return alert if elapsed < PENDING_FOR else replace(alert, state=AlertState.FIRING, since=now)
    if state is AlertState.PENDING or (state is AlertState.RESOLVED and elapsed >= RESOLVED_FOR):
        return replace(alert, state=AlertState.INACTIVE, since=now)
    return alert
