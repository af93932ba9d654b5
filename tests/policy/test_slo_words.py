"""What an alert, a budget and an objective say to the person who reads them."""

from dataclasses import replace

import pytest

from gateway.policy.slo.alerts import FASTEST, Reading
from gateway.policy.slo.budget import Budget
from gateway.policy.slo.burn import Counts
from gateway.policy.slo.objective import DAY, DEPLOYMENT, Sli, Target
from gateway.policy.slo.time_in_use import HOUR
from gateway.policy.slo.words import (
    budget_words,
    duration,
    limits_of,
    missed_words,
    number,
    rate_words,
    too_strict,
    waiting_words,
    where_words,
)

MONTH = 28 * DAY


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(4.84, "4.84 s"), (90, "90 s"), (720, "12 min"), (9 * HOUR, "9 h"), (30 * HOUR, "30 h"), (3 * DAY, "3 d")],
)
def test_a_length_of_time_is_said_as_people_do(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.25, "0.25"), (14.44, "14.4"), (375, "375"), (999.7, "1,000"), (1000, "1,000"), (12345.6, "12,346")],
)
def test_a_number_is_written_as_people_do(value: float, said: str) -> None:
    assert number(value) == said
    assert number(149.6, 2) == "150"


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(0, 0, MONTH, 0.0, 0.0), "no events yet: 100 % of the 28-day budget is left"),
        (
            Budget(8, 10, MONTH, 20.0, None),
            "8 of 10 missed so far; the 28-day budget is judged after one day of history",
        ),
        (Budget(5, 1000, MONTH, 40 * DAY, 0.58), "58 % of the 28-day budget is spent"),
        (Budget(5, 1000, MONTH, 40 * DAY, 0.004), "0.4 % of the 28-day budget is spent"),
        (Budget(0, 1000, MONTH, 40 * DAY, 0.0), "0 % of the 28-day budget is spent"),
        (Budget(5, 1000, MONTH, 2 * DAY, 3.0), "the 28-day budget is overspent by 200 % (projected from 2.0 days)"),
    ],
)
def test_a_budget_is_said_without_negative_numbers(budget: Budget, said: str) -> None:
    assert budget_words(budget) == said


def test_failures_that_were_counted_before_are_not_counted_twice() -> None:
    young, judged = Budget(45, 143, MONTH, 3600.0, None), "the 28-day budget is judged after one day of history"
    assert budget_words(young, said=Counts(98, 45)) == judged
    assert budget_words(young, said=Counts(90, 45)) == f"45 of 143 missed so far; {judged}"


def test_time_without_a_gateway_is_said() -> None:
    spent = Budget(5, 1000, MONTH, 2 * DAY, 0.5)
    assert budget_words(spent, DAY).endswith("is spent (projected from 2.0 days, not counted: 24 h)")


def reading(bad: int, total: int) -> Reading:
    counts = Counts(total - bad, bad)
    return Reading(FASTEST, 13.44, 0.001, counts, counts, 1.0, speaks=True)


@pytest.mark.parametrize(
    ("bad", "spent", "said"),
    [
        (745, 0.0, "at this rate the 28-day budget is gone in 9 h"),
        (745, None, "at this rate a whole 28-day budget is gone in 9 h"),
        (200, 0.5, "at this rate the 28-day budget is gone in 17 h"),
        (200, 1.4, "the 28-day budget is gone, and is spent 20 times as fast as it comes back"),
        (10_000, 1.4, "the 28-day budget is gone, and is spent 1,000 times as fast as it comes back"),
        (0, 0.5, "no more of the 28-day budget is spent"),
    ],
)
def test_a_burn_rate_is_said_as_when_the_budget_is_gone(bad: int, spent: float | None, said: str) -> None:
    total = 10_000
    assert rate_words(reading(bad, total), Budget(bad, total, MONTH, 40 * DAY, spent)) == said


@pytest.mark.parametrize(
    ("bad", "total", "weight", "said"),
    [
        (0, 0, 0.0, ""),
        (1, 1000, 0.1, ""),
        (45, 120, 0.005, "burns at 375 times its budget: a page after 2 min of this, 18 s so far"),
        (120, 120, 0.001, "burns at 1,000 times its budget: a page after 48.4 s of this, 3.6 s so far"),
        (45, 120, 0.5, ""),
    ],
)
def test_what_a_page_waits_for_is_said(bad: int, total: int, weight: float, said: str) -> None:
    assert waiting_words(replace(reading(bad, total), weight=weight)) == said


def test_a_page_that_waits_for_more_failures_says_so_and_one_for_a_fault_that_is_over_says_nothing() -> None:
    few = replace(reading(3, 4), weight=0.005, speaks=False)
    assert waiting_words(few) == "burns at 750 times its budget, on too few events for a page: 3 of 4 bad"
    assert waiting_words(replace(few, short=Counts(20, 0))) == ""
    assert waiting_words(replace(few, is_idle=True)).startswith("burned, when last asked, at 750 times its budget")


def test_what_was_missed_is_counted() -> None:
    assert missed_words(Sli.TTFT, Counts(3888, 212), HOUR) == "212 of 4,100 requests missed TTFT in the last hour"
    assert missed_words(Sli.AVAILABILITY, Counts(0, 74), 6 * HOUR) == "74 of 74 requests failed in the last 6 h"
    assert missed_words(DEPLOYMENT, Counts(1, 1), DAY) == "1 of 2 deployments were late in the last day"


def test_a_backend_is_named_where_it_stands_out() -> None:
    assert where_words(212, {"gpu-3": Counts(900, 190), "gpu-2": Counts(900, 22)}) == "190 of them on gpu-3"
    assert where_words(5, {"gpu-3": Counts(900, 190), "gpu-2": Counts(900, 2)}) == (
        "most on gpu-3: 190 of its 1,090 attempts"
    )
    assert not where_words(212, {"gpu-3": Counts(900, 100), "gpu-2": Counts(900, 112), "gpu-1": Counts(900, 100)})
    assert not where_words(212, {"gpu-3": Counts(900, 212)})


def test_what_an_objective_cannot_do_is_said() -> None:
    assert limits_of(Target(0.95), MONTH) == [
        "minimum failures for a page: 7 within 1 h, or 5 within 6 h; for a ticket: 5 within 1 d, or 5 within 3 d",
        "a total outage pages after 40 min with traffic",
    ]
    assert limits_of(Target(0.999), MONTH)[1:] == [
        "below 36 events a day one failure is more than the whole 28-day budget",
        "a total outage pages after 48.4 s with traffic",
    ]


def test_a_target_that_no_restart_keeps_is_said() -> None:
    assert too_strict(Target(0.9999), MONTH) == (
        "at 99.99 % an outage of 4.84 s pages: a restart of the only backend is enough"
    )
    assert not too_strict(Target(0.999), MONTH)
