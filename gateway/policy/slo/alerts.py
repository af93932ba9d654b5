"""Multi-window, multi-burn-rate alerts: a table of four pairs and the states of each. SRE workbook, chapter 5."""

from dataclasses import dataclass, replace
from enum import StrEnum

from gateway.policy.slo.burn import Counts, burn, insufficient
from gateway.policy.slo.objective import DAY, Target
from gateway.policy.slo.windows import HOUR, MINUTE

RESOLVED_FOR = 300.0
"""Seconds that an alert is shown as resolved before it is inactive again."""
PENDING_FOR = 2.0
"""Seconds that both windows must exceed before an alert fires: one reading is not yet a state."""


class Severity(StrEnum):
    """Whom an alert wakes: a page now, a ticket in office hours."""

    PAGE = "page"
    TICKET = "ticket"


@dataclass(frozen=True, slots=True)
class AlertPair:
    """Fires when `share` of the budget of the SLO window is spent within `long` seconds and still within `short`."""

    severity: Severity
    share: float
    long: float
    short: float

    def factor(self, slo_window: float) -> float:
        """Return the burn rate that spends `share` of the budget in the long window: 14.4 for 2 % in 1 h of 30 d."""
        return self.share * slo_window / self.long


PAIRS = (
    AlertPair(Severity.PAGE, 0.02, HOUR, 5 * MINUTE),
    AlertPair(Severity.PAGE, 0.05, 6 * HOUR, 30 * MINUTE),
    AlertPair(Severity.TICKET, 0.10, DAY, 2 * HOUR),
    AlertPair(Severity.TICKET, 0.10, 3 * DAY, 6 * HOUR),
)
FASTEST = PAIRS[0]
"""The pair whose factor is meant wherever a burn rate is called page rate."""


class AlertState(StrEnum):
    """Where an alert stands; resolved is inactive, but was firing a moment ago."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Reading:
    """Both windows of a pair against its factor; a burn is None where too few events were seen to say."""

    factor: float
    long: float | None
    short: float | None

    @property
    def exceeds(self) -> bool:
        """Whether both windows burn faster than the factor."""
        return self.long is not None and self.short is not None and min(self.long, self.short) > self.factor


def read(pair: AlertPair, target: Target, slo_window: float, long: Counts, short: Counts) -> Reading:
    """Return what the counts of a pair's windows say."""
    factor = pair.factor(slo_window)
    rates = (
        None if insufficient(counts, factor, target.budget) else burn(counts, target.budget) for counts in (long, short)
    )
    return Reading(factor, *rates)


@dataclass(frozen=True, slots=True)
class Alert:
    """The state of one pair for one subject and SLI, since when, and the last reading."""

    state: AlertState = AlertState.INACTIVE
    since: float = 0.0
    reading: Reading | None = None


def step(alert: Alert, reading: Reading, now: float) -> Alert:
    """Return the alert after a reading taken at `now` (seconds).

    Fires once both windows have exceeded for `PENDING_FOR`; resolves as soon as either no longer does, which in
    practice is the short one.
    """
    state, elapsed = alert.state, now - alert.since
    if reading.exceeds:
        if state is AlertState.FIRING or (state is AlertState.PENDING and elapsed < PENDING_FOR):
            return replace(alert, reading=reading)
        return Alert(AlertState.FIRING if state is AlertState.PENDING else AlertState.PENDING, now, reading)
    if state is AlertState.FIRING:
        return Alert(AlertState.RESOLVED, now, reading)
    if state is AlertState.PENDING or (state is AlertState.RESOLVED and elapsed >= RESOLVED_FOR):
        return Alert(AlertState.INACTIVE, now, reading)
    return replace(alert, reading=reading)
