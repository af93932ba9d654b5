"""A backend as the admin API tells of it."""

from gateway.admin.overview import observed
from gateway.policy.routing.fit import Fit


def test_the_observed_ttft_is_the_mean_of_the_latest_and_unknown_without_any() -> None:
    fit = Fit(half_life=5.0)
    assert observed(fit) is None
    for seconds in (0.1, 0.2, 0.3):
        fit.observe(100.0, 1.0, seconds, 0.2)
    assert observed(fit) == 0.2
    fit.refit(60.0)
    assert observed(fit) is None, "what was a minute ago says nothing of now"
