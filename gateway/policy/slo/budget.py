"""How much of an error budget is spent: over the SLO window, also before a whole one has passed."""

from dataclasses import dataclass

from gateway.policy.slo.objective import DAY
from gateway.policy.slo.windows import Windows


@dataclass(frozen=True, slots=True)
class Budget:
    """What was seen within the SLO window of `window` seconds, `age` seconds after the first event.

    `spent` is the share of the budget that is gone, above 1 when it is overspent; None while less than a day of
    history says nothing about a month. `projected` while the window is not full: the traffic seen is carried on.
    """

    bad: int
    total: int
    window: float
    age: float
    spent: float | None

    @property
    def left(self) -> float | None:
        """The share of the budget that is left, below 0 when overspent; None where `spent` is."""
        return None if self.spent is None else 1.0 - self.spent

    @property
    def projected(self) -> bool:
        """Whether a part of the SLO window lies still ahead."""
        return self.spent is not None and 0.0 < self.age < self.window


def error_budget(windows: Windows, allowed: float) -> Budget:
    """Return the budget of one SLI that allows this share of events to be bad (above 0).

    A service younger than the SLO window is taken to go on as in the last seven days. Nights and weekends
    after the first event are not filled in: they come again.
    """
    counts, age = windows.count(windows.slo), windows.age
    if not counts.total:
        return Budget(0, 0, windows.slo, age, 0.0)
    if age < DAY:
        return Budget(counts.bad, counts.total, windows.slo, age, None)
    ahead = windows.weekly * max(0.0, windows.slo - age)
    return Budget(counts.bad, counts.total, windows.slo, age, counts.bad / ((counts.total + ahead) * allowed))
