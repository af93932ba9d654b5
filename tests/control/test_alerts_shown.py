"""`slo`, the metric and `status` say the same of an alert, and the pages of docs/alerting.md clear when it says."""

from gateway.admin.alerts import firing_alerts, objective_statuses
from gateway.cli.problems import problems
from gateway.control.incidents import Notice
from gateway.policy.slo.alerts import AlertState
from gateway.policy.slo.series import Kind
from gateway.wire.slices import finish
from tests.control.test_alerts import Town, table


def shown(town: Town) -> set[str]:
    """Return the names of the subjects whose alerts are shown as firing."""
    return {series.key.name for series, _, alert in town.alerter if alert.state is AlertState.FIRING}


def test_an_alert_on_a_version_is_shown_as_firing_once_it_was_notified() -> None:
    told: list[Notice] = []
    town = Town(told.append, routes=table("m", versions=2))
    while not told:
        assert not shown(town), "pending until people are told"
        town.live(1, 1.0, version="v2", rate=2.0, beside="v1")
    assert shown(town) == {"m/v2"}
    (alert,) = firing_alerts(town.alerter, town.ledger)
    assert (alert.version, alert.also) == ("v2", [])


def test_status_names_what_belongs_to_an_incident_and_fires_as_well() -> None:
    told: list[Notice] = []
    town = Town(told.append, routes=table("m", versions=2))
    town.live(600, 1.0, version="v2", beside="v1")
    assert shown(town) == {"m", "m/v2"}
    (alert,) = firing_alerts(town.alerter, town.ledger)
    assert set(alert.also) == {"page of v2", "ticket of the model", "ticket of v2"}
    found = {"alerts": [alert.model_dump(mode="json")], "backends": [], "models": [], "routes": {"problems": []}}
    assert problems(found)[0].what.endswith(f" It includes: {'; '.join(alert.also)}.")


def test_failures_of_an_incident_that_is_over_show_nothing_as_firing() -> None:
    told: list[Notice] = []
    town = Town(told.append)
    town.live(90, 1.0)
    town.live(1200)
    assert [each.firing for each in told] == [True, False]
    town.live(3, 1.0, rate=1.0)
    town.live(60)
    assert shown(town) == set() == {each.severity for each in firing_alerts(town.alerter, town.ledger)}


def test_a_page_of_a_short_fault_clears_after_a_quarter_of_an_hour_and_of_a_long_one_after_an_hour() -> None:
    for fault, minutes in ((60, 15), (600, 65)):
        told: list[Notice] = []
        town = Town(told.append)
        town.live(600)
        town.live(fault, 1.0)
        over = town.now
        while len(told) == 1:
            town.live(1)
        assert told[0].firing
        assert not told[1].firing
        assert round((town.now - over) / 60) == minutes


def test_a_fault_that_is_over_is_no_forecast_of_a_page() -> None:
    town = Town(None)
    town.live(600)
    town.live(20, 1.0)
    waiting = {
        each.waiting for each in finish(objective_statuses(town.ledger, town.alerter)) if each.sli == "availability"
    }
    assert all("a page after" in each for each in waiting)
    town.live(301)
    assert town.availability(Kind.MODEL, "m").windows.count(1800.0).bad, "the half hour still burns"
    assert {each.waiting for each in finish(objective_statuses(town.ledger, town.alerter))} == {""}
