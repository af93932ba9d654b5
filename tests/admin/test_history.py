"""The last hour of objectives: bounded, as the ledger counted it, and forgotten with the objective."""

import json
import time
from typing import Any

from gateway.admin.history import EVERY, History
from gateway.policy.slo.following import ModelSubjects
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import Objective, Sli, Target
from gateway.policy.slo.series import Kind
from gateway.wire.slices import Slices, finish
from tests.waiting import HandClock

MODEL = ModelSubjects("m", [Objective("o", {Sli.AVAILABILITY: Target(0.99)})], {"v1": ["gpu"]})
START = 1_000_000.0


def told(history: History) -> list[Any]:
    return json.loads(finish(history.telling()))  # type: ignore[no-any-return]


def test_it_keeps_an_hour_of_what_the_ledger_counted() -> None:
    clock, ledger = HandClock(START), SloLedger(START)
    ledger.follow([MODEL], {"gpu": ["gpu/a:1"]}, START)
    history = History(ledger, Slices(time.monotonic), clock)
    assert told(history) == []
    finish(history.taking())
    (series,) = [each for each in ledger.get(Kind.MODEL, "m") if each.sli == Sli.AVAILABILITY]
    ledger.count(series, good=99, bad=1)
    for _ in range(200):
        clock.advance(EVERY)
        ledger.advance(clock())
        finish(history.taking())
    (row,) = told(history)
    assert (row["model"], row["objective"], row["sli"]) == ("m", "o", "availability")
    assert len(row["points"]) == 3600 / EVERY
    assert row["points"][-1] == [START + 200 * EVERY, None, None, None, 1.0], "five minutes are over, six hours not"
    ledger.follow([], {}, clock())
    finish(history.taking())
    assert told(history) == []
