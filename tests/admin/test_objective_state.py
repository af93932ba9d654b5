"""One word for an objective: the worst that is true of it, and no good news from too few events."""

import pytest

from gateway.admin.objective_state import ObjectiveState, objective_state
from gateway.policy.slo.budget import Budget
from gateway.policy.slo.burn import Counts
from gateway.policy.slo.objective import DAY

ALLOWED = 0.01


def budget(spent: float | None = 0.1, total: int = 100_000, bad: int = 100) -> Budget:
    return Budget(bad, total, 28 * DAY, 10 * DAY, spent)


@pytest.mark.parametrize(
    ("alert", "waiting", "left", "recent", "state"),
    [
        ("", "", budget(), Counts(1000, 1), ObjectiveState.HEALTHY),
        ("", "", budget(None, total=100, bad=0), Counts(100, 0), ObjectiveState.HEALTHY),
        ("", "", budget(None, total=99, bad=0), Counts(99, 0), ObjectiveState.TOO_FEW_DATA),
        ("", "", budget(0.0, total=0, bad=0), Counts(), ObjectiveState.TOO_FEW_DATA),
        ("", "", budget(None, total=144, bad=4), Counts(140, 4), ObjectiveState.TOO_FEW_DATA),
        ("", "", budget(None, total=144, bad=5), Counts(139, 5), ObjectiveState.AT_RISK),
        ("", "burns at 20 times its budget", budget(), Counts(10, 2), ObjectiveState.AT_RISK),
        ("", "", budget(0.76), Counts(1000, 1), ObjectiveState.AT_RISK),
        ("ticket", "", budget(0.76), Counts(1000, 100), ObjectiveState.SLOW_BURN),
        ("page", "", budget(0.76), Counts(1000, 100), ObjectiveState.FAST_BURN),
        ("page", "", budget(1.0), Counts(1000, 100), ObjectiveState.EXHAUSTED),
        ("", "", budget(3.0), Counts(1000, 0), ObjectiveState.EXHAUSTED),
    ],
)
def test_the_state_is_the_worst_that_is_true(
    alert: str, waiting: str, left: Budget, recent: Counts, state: ObjectiveState
) -> None:
    assert objective_state(alert, waiting, left, ALLOWED, recent) is state
