"""An incident as people are told of it, and as it is kept over a restart."""

import json
from typing import Any

import pytest

from gateway.control.incidents import Incident, firing_of, incident_of, texts
from gateway.policy.slo.alerts import PAIRS, Alert, AlertPair, AlertState, Severity
from gateway.policy.slo.series import Kind, SeriesKey
from tests.control.test_alerts import Town, table

NOW = 1_700_000_000.0
SERIES = SeriesKey("version", "m/v2", "default", "ttft", "4096-32767")
INCIDENT = Incident(
    SERIES,
    Severity.PAGE,
    "m",
    "v2",
    NOW - 60.0,
    told=True,
    uncovered=NOW - 30.0,
    summary="late",
    description="10 of 20",
)


def test_it_is_told_by_labels_without_those_that_say_nothing() -> None:
    assert INCIDENT.labels == {
        "severity": "page",
        "model": "m",
        "version": "v2",
        "objective": "default",
        "sli": "ttft",
        "prompt_tokens": "4096-32767",
    }
    whole = Incident(SeriesKey("model", "m", "default", "availability", ""), Severity.TICKET, "m", "", NOW)
    assert set(whole.labels) == {"severity", "model", "objective", "sli"}


def test_beside_others_of_its_target_it_is_called_by_what_tells_them_apart() -> None:
    assert INCIDENT.words == "page of v2, prompts of 4096-32767 tokens"
    assert INCIDENT.target == ("m", "default", "ttft")
    whole = Incident(SeriesKey("model", "m", "default", "ttft", ""), Severity.TICKET, "m", "", NOW)
    assert whole.words == "ticket of the model"


def test_a_notice_fires_until_the_incident_has_ended() -> None:
    assert INCIDENT.notice().firing
    over = incident_of(INCIDENT.state(), NOW)
    over.ended = NOW
    notice = over.notice()
    assert not notice.firing
    assert (notice.started, notice.ended, notice.summary) == (NOW - 60.0, NOW, "late")


def test_it_goes_on_over_a_restart() -> None:
    kept = json.loads(json.dumps(INCIDENT.state()))
    assert incident_of(kept, NOW) == INCIDENT


def test_no_time_of_a_kept_one_lies_ahead() -> None:
    kept = INCIDENT.state()
    assert incident_of(kept, NOW - 120.0).started == NOW - 120.0


@pytest.mark.parametrize("state", [[], ["model"], [*INCIDENT.state(), 1], ["x"] * 5 + ["no severity"] + [""] * 11])
def test_what_is_no_incident_is_refused(state: list[Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        incident_of(state, NOW)


def firing(pair: AlertPair) -> tuple[Town, dict[AlertPair, Alert]]:
    """Return a model all of whose requests have failed for ten minutes, and the alert of one pair."""
    town = Town(None, routes=table("m", backends=2))
    town.live(600)
    town.live(600, 1.0)
    return town, {pair: Alert(AlertState.FIRING, town.now - 60.0)}


def test_a_firing_is_read_from_its_series_and_begins_with_its_first_pair() -> None:
    pair = PAIRS[0]
    town, alerts = firing(pair)
    found = firing_of(town.availability(Kind.MODEL, "m"), Severity.PAGE, alerts)
    assert (found.model, found.version, found.severity) == ("m", "", Severity.PAGE)
    (reading,) = found.readings
    assert reading.pair is pair
    assert reading.long.bad == pytest.approx(12_000, rel=0.05)


def test_its_words_say_how_fast_and_how_many_and_what_is_left() -> None:
    town, alerts = firing(PAIRS[0])
    series = town.availability(Kind.MODEL, "m")
    summary, description = texts(series, firing_of(series, Severity.PAGE, alerts), town.ledger)
    assert summary.startswith("availability of m: at this rate ")
    assert "requests failed in the last hour" in description
    assert description.endswith("Target 99.9 %, objective default.")
