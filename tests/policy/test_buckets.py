"""Histogram bounds hold every threshold that an objective names."""

from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.slo import buckets
from gateway.policy.slo.buckets import Bounds, bounds_for, bucket_of
from gateway.policy.slo.objective import DEFAULT, Objective, Sli, Target


def test_thresholds_are_bounds_of_their_own_histogram_alone() -> None:
    targets = {Sli.TTFT: Target(0.99, 0.3, ((100, 0.9),)), Sli.E2E: Target(0.95, 45.0), Sli.AVAILABILITY: Target(0.999)}
    bounds = bounds_for([Objective("o", targets)])
    assert set(bounds.ttft) == {*buckets.TTFT, 0.3, 0.9}
    assert set(bounds.duration) == {*buckets.DURATION, 45.0}
    assert (bounds.itl, bounds.tpot) == (buckets.ITL, buckets.TPOT)
    assert list(bounds.ttft) == sorted(bounds.ttft)
    assert bounds_for([Objective("none", {})]) == Bounds()
    assert set(bounds_for([DEFAULT]).ttft) > {2.0, 30.0}


SECONDS = st.floats(0.0, 100.0)


@given(st.lists(SECONDS, unique=True), SECONDS)
def test_a_value_is_in_the_bucket_that_bisecting_finds(bounds: list[float], seconds: float) -> None:
    bounds.sort()
    assert bucket_of(tuple(bounds), seconds) == bisect_left(bounds, seconds)
    for bound in bounds:
        assert bucket_of(tuple(bounds), bound) == bisect_left(bounds, bound)
