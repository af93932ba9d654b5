"""What a ledger holds of other routes is prepared beside what is in force."""

from gateway.policy.slo.following import ModelSubjects, SeriesOf
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.moment import Moment
from gateway.policy.slo.objective import DEFAULT, Sli
from gateway.policy.slo.series import Kind, SeriesKey
from gateway.policy.slo.windows import STORED

START = 1_700_000_000.0
MODEL = ModelSubjects("m", (DEFAULT,), {"v1": ("p",)})


def test_a_series_that_is_asked_for_again_is_the_same() -> None:
    of = SeriesOf({}, Moment(START), START)
    key = SeriesKey(Kind.MODEL, "m", DEFAULT.name, Sli.AVAILABILITY)
    target = DEFAULT.targets[Sli.AVAILABILITY]
    assert of.windows(key, target, DEFAULT.window) is of.windows(key, target, DEFAULT.window)
    assert repr(of) == "<SeriesOf 1>"


def test_a_model_without_versions_is_served_by_nobody() -> None:
    ledger = SloLedger(START)
    ledger.follow([ModelSubjects("none", (DEFAULT,), {}), MODEL], {"p": ["p/1"]}, START)
    assert ledger.serving["m", ""] == ["p/1"]
    assert ("none", "") not in ledger.serving


def test_what_is_prepared_says_how_much_that_is() -> None:
    assert repr(SloLedger(START).following([MODEL], {}, START)) == "<LedgerFollowing 1 models, 0 series so far>"


def test_slots_that_are_over_are_forgotten() -> None:
    ledger = SloLedger(START)
    ledger.follow([MODEL], {"p": ["p/1"]}, START)
    counts = ledger.of_request("m", "v1", DEFAULT.name)
    assert counts is not None
    counts.count({Sli.AVAILABILITY: True}, (0, 0), 1)
    ledger.advance(START + 1.0)
    assert list(ledger.unsaved())
    for _ in ledger.forgetting(START + 2 * max(STORED.values())):
        pass
    assert not ledger._slots  # noqa: SLF001 - the memory is the point
