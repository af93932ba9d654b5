"""Thousands of rollouts in arrays come to what the gateway's own comparison comes to, one by one."""

from math import isclose

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.canary.comparison import Comparison
from gateway.policy.canary.evidence import Evidence, guard
from loadtest.canary.many import Comparisons, Window, combined, guards
from loadtest.canary.rollouts import Rates, simulate

blocks = st.lists(st.tuples(st.integers(0, 19), st.booleans()), min_size=1, max_size=60)


@given(blocks, st.sampled_from([0.001, 0.01]))
def test_the_comparison_in_arrays_is_the_gateways(stream: list[tuple[int, bool]], budget: float) -> None:
    many, one = Comparisons(3, budget), Comparison(budget)
    for stable_bad, bad in stream:
        many.add(19, np.full(3, float(stable_bad)), np.full(3, float(bad)))
        one.add(candidate=False, bad=True, count=stable_bad)
        one.add(candidate=False, bad=False, count=19 - stable_bad)
        one.add(candidate=True, bad=bad)
    assert isclose(many.log_e[1], one.log_e, rel_tol=1e-6, abs_tol=1e-9)


@given(blocks)
def test_several_slis_weigh_as_they_do_in_the_gateway(stream: list[tuple[int, bool]]) -> None:
    evidence = Evidence({"availability": 0.001, "ttft": 0.01}, 0)
    many = [Comparisons(1, 0.001), Comparisons(1, 0.01)]
    for stable_bad, bad in stream:
        for comparison, stable in zip(many, (stable_bad, 0), strict=True):
            comparison.add(19, np.array([float(stable)]), np.array([float(bad)]))
        for place in range(19):
            evidence.add({"availability": place >= stable_bad, "ttft": True}, candidate=False)
        evidence.add({"availability": not bad, "ttft": not bad}, candidate=True)
    assert isclose(combined([each.log_e for each in many], (0.5, 0.5))[0], evidence.log_e, rel_tol=1e-6, abs_tol=1e-9)


@settings(max_examples=200)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 5), st.integers(0, 5), st.integers(0, 40))
def test_the_guard_in_arrays_is_the_gateways(good: int, bad: int, now_good: int, now_bad: int, stable_bad: int) -> None:
    windows = [Window(1, 1) for _ in range(3)]
    counts = ((good, bad), (now_good, now_bad), (500, stable_bad))
    for window, (fine, missed) in zip(windows, counts, strict=True):
        window.add(np.array([float(fine)]), np.array([float(missed)]))
    told = guard("ttft", ([good, bad], [now_good, now_bad]), [500, stable_bad], budget=0.01, factor=13.44)
    assert bool(guards(*windows, 0.01, 13.44)[0]) == bool(told)


def test_windows_forget_what_is_past() -> None:
    window = Window(1, 3)
    for bad in (1.0, 1.0, 0.0, 0.0, 0.0):
        window.add(np.array([1 - bad]), np.array([bad]))
    assert window.counts.tolist() == [[3.0], [0.0]]


@pytest.mark.parametrize("errors", [0.001, 0.01])
def test_equals_are_rolled_back_in_at_most_one_per_cent(errors: float) -> None:
    equal = Rates((errors, 0.005), (errors, 0.005))
    found = simulate(np.random.default_rng(1), equal, 10.0, rollouts=1000, requests=900)
    assert found.share("gateway") <= 0.01
    assert found.share("repeated") > 0.1, "what one would do without it"


def test_bad_candidates_are_found_out_soon_enough() -> None:
    worse = Rates((0.001, 0.005), (0.005, 0.005))
    assert simulate(np.random.default_rng(1), worse, 10.0, rollouts=200, requests=3000).median("gateway") <= 2000
    broken = Rates((0.001, 0.005), (1.0, 0.005))
    assert simulate(np.random.default_rng(1), broken, 10.0, rollouts=50, requests=10).median("gateway") <= 5
