"""What a model's own record says about a rollout: how its SLIs usually stand, and what is left of its budget."""

import pytest

from gateway.control.rollout_record import budget_left, usual
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import DAY, Sli
from gateway.policy.slo.series import Kind
from gateway.policy.slo.time_in_use import HOUR
from gateway.policy.slo.windows import MINUTE
from gateway.telemetry.slo_recorder import follow
from tests.control.test_alerts import table


class Model:
    """A model's availability on a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.ledger = SloLedger(self.now)
        follow(self.ledger, table("m"), self.now)

    def pass_time(self, seconds: float, *, good: int = 0, bad: int = 0) -> None:
        """Let so many events happen in each minute."""
        (series,) = [each for each in self.ledger.get(Kind.MODEL, "m") if each.sli == Sli.AVAILABILITY]
        for _ in range(round(seconds / MINUTE)):
            self.ledger.count(series, good=good, bad=bad)
            self.now += MINUTE
            self.ledger.advance(self.now)


def test_a_model_usually_is_as_it_was_in_its_last_day() -> None:
    model = Model()
    model.pass_time(DAY, good=10)
    good, bad = usual(model.ledger, "m")[Sli.AVAILABILITY]
    assert good == pytest.approx(14_400, rel=0.02)
    assert bad == 0


def test_after_a_change_it_is_as_in_its_last_hour() -> None:
    model = Model()
    model.pass_time(DAY, good=10)
    model.pass_time(HOUR, good=5, bad=5)
    good, bad = usual(model.ledger, "m")[Sli.AVAILABILITY]
    assert bad / (good + bad) == pytest.approx(0.5, abs=0.02)
    model.pass_time(DAY, good=10)
    model.pass_time(MINUTE, good=10)
    good, bad = usual(model.ledger, "m")[Sli.AVAILABILITY]
    assert bad / (good + bad) < 0.05, "an incident that is over is no measure"


def test_a_model_without_requests_has_no_record() -> None:
    model = Model()
    assert set(usual(model.ledger, "m").values()) == {(0, 0)}
    assert usual(model.ledger, "other") == {}


def test_the_budget_left_is_unknown_until_there_is_a_day_of_history() -> None:
    model = Model()
    assert budget_left(model.ledger, "m") is None
    model.pass_time(DAY / 2, good=10)
    assert budget_left(model.ledger, "m") is None


def test_failures_spend_the_budget() -> None:
    model = Model()
    model.pass_time(2 * DAY, good=1000)
    before = budget_left(model.ledger, "m")
    assert before is not None
    assert before == pytest.approx(1.0)
    model.pass_time(HOUR, good=900, bad=100)
    after = budget_left(model.ledger, "m")
    assert after is not None
    assert after < before - 0.1
