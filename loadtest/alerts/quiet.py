"""Where nothing may page: a year at half and at nine tenths of the budget."""

from dataclasses import dataclass

from gateway.policy.slo.objective import DAY
from loadtest.alerts.world import SHAPES, Service

TARGETS = (0.95, 0.99, 0.999, 0.9999)
RATES = (1 / 600, 1 / 60, 1.0, 1000.0)
SPENT = (0.5, 0.9)
MANY = 10.0
"""Requests per second from which chance moves no five minutes."""


@dataclass(frozen=True, slots=True)
class Year:
    """One service that spends a share of its budget evenly over so many days."""

    target: float
    rate: float
    shape: str
    spent: float
    days: float
    seed: int


@dataclass(frozen=True, slots=True)
class Lived:
    """What its people were told."""

    year: Year
    pages: int
    tickets: int
    plain: int
    requests: int


def live(year: Year) -> Lived:
    """Live it."""
    service = Service(year.target, SHAPES[year.shape](year.rate), year.seed)
    tick = 300.0 if year.rate > MANY else max(60.0, 0.25 / year.rate)
    service.run(year.days * DAY, year.spent * (1 - year.target), tick=tick, patience=1800.0)
    return Lived(year, len(service.pages), len(service.tickets), service.plain, service.total)


def years(days: float, *, quick: bool) -> list[Year]:
    """Return every service."""
    return [
        Year(target, rate, shape, spent, days, 7919 * number)
        for number, (target, rate, shape, spent) in enumerate(
            (target, rate, shape, spent)
            for target in (TARGETS[1:3] if quick else TARGETS)
            for rate in (RATES[1:3] if quick else RATES)
            for shape in ("constant", "office hours")
            for spent in SPENT
        )
    ]
