"""The replay of alerts draws fairly, and each of its edges is told as it has to be."""

from collections.abc import Callable
from random import Random
from statistics import fmean

import pytest

from loadtest.alerts.chance import binomial, poisson
from loadtest.alerts.detection import Case, late, play
from loadtest.alerts.edges import SCENES, Edge
from loadtest.alerts.quiet import Year, live


@pytest.mark.parametrize("mean", [0.1, 3.0, 500.0])
def test_so_many_events_happen(mean: float) -> None:
    rng = Random(1)
    assert fmean(poisson(rng, mean) for _ in range(3000)) == pytest.approx(mean, rel=0.15)


@pytest.mark.parametrize(("total", "share"), [(10, 0.3), (1000, 0.01), (1000, 0.5), (5, 0.0), (5, 1.0), (0, 0.5)])
def test_so_many_of_them_fail(total: int, share: float) -> None:
    rng = Random(1)
    drawn = [binomial(rng, total, share) for _ in range(2000)]
    assert all(0 <= each <= total for each in drawn)
    assert fmean(drawn) == pytest.approx(total * share, rel=0.1)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_people_are_told_once_and_not_in_vain(scene: Callable[[int], Edge]) -> None:
    edge = scene(1)
    assert edge.well, edge
    assert not edge.words


def test_a_fault_pages_in_time_with_days_before_it_and_without() -> None:
    assert late([play(Case(0.999, 10.0, 1.0, lived, 1)) for lived in (True, False)]) == []


@pytest.mark.parametrize(
    "case",
    [Case(0.99, 1 / 60, 1.0, lived=True, seed=94_000), Case(0.99, 0.1, 0.2, lived=False, seed=105_001)],
    ids=["a long window still holds it when it is over", "chance hides it for some minutes"],
)
def test_a_fault_is_one_page_though_its_evidence_comes_and_goes(case: Case) -> None:
    found = play(case)
    assert (found.pages, found.resolved) == (1, 1)


def test_a_week_within_the_budget_pages_nobody() -> None:
    lived = live(Year(0.999, 1.0, "constant", 0.9, 7.0, 1))
    assert (lived.pages, lived.requests > 500_000) == (0, True)
