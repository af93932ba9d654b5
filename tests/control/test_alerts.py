"""Alerts as people are told of them: one notice for one incident, with its numbers, over restarts too."""

from collections.abc import Callable

import pytest

from gateway.config.table import BackendSpec, ModelSpec, PoolSpec, RouteTable, VersionSpec
from gateway.control.alerts import Alerter
from gateway.control.incidents import FAILED, SENT, Notice
from gateway.policy.slo.alerts import AlertState
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import Sli
from gateway.policy.slo.series import Kind, Series
from gateway.state.store import Document
from gateway.telemetry.slo_recorder import follow

pytestmark = pytest.mark.anyio


def table(*models: str, versions: int = 1, backends: int = 1) -> RouteTable:
    names = [f"v{number + 1}" for number in range(versions)]
    share = tuple((name, 1.0) for name in names)
    specs = {
        name: ModelSpec(name, {each: VersionSpec(each, (each,), name) for each in names}, share) for name in models
    }
    pools = {
        name: PoolSpec(
            name, tuple(BackendSpec(name, f"http://e:{port + 1}", "e", port + 1) for port in range(backends))
        )
        for name in names
    }
    return RouteTable(pools=pools, models=specs, names=specs)


class Town:
    """A ledger and its alerts on a clock that is set by hand."""

    def __init__(
        self, notify: Callable[[Notice], None] | None, *, routes: RouteTable | None = None, now: float = 1_700_000_000.0
    ) -> None:
        self.now = now
        self.ledger = SloLedger(self.now)
        self.follow(routes or table("m"))
        self.alerter = Alerter(self.ledger, lambda: self.now, notify)

    def follow(self, routes: RouteTable) -> None:
        follow(self.ledger, routes, self.now)

    def live(
        self, seconds: float, bad: float = 0.0, *, version: str = "v1", rate: float = 20.0, beside: str = ""
    ) -> None:
        """Let so many requests a second come, of which a share is bad, and twenty good ones to another version."""
        owed = 0.0
        for _ in range(round(seconds)):
            self.now += 1.0
            owed += rate * bad
            counted = {version: (round(rate) - int(owed), int(owed))}
            owed -= int(owed)
            if beside:
                counted[beside] = 20, 0
            for each, (good, missed) in counted.items():
                for kind, name in ((Kind.MODEL, "m"), (Kind.VERSION, f"m/{each}")):
                    self.ledger.count(self.availability(kind, name), good=good, bad=missed)
            self.ledger.advance(self.now)
            self.alerter.evaluate()

    def fail_each_minute(self, requests: int) -> None:
        """Let so many requests fail, one a minute."""
        for _ in range(requests):
            self.ledger.count(self.availability(Kind.MODEL, "m"), bad=1)
            self.live(60, rate=0.0)

    def availability(self, kind: Kind, name: str) -> Series:
        (found,) = [each for each in self.ledger.get(kind, name) if each.sli == Sli.AVAILABILITY]
        return found

    def restarted(self, notify: Callable[[Notice], None] | None, after: float) -> "Town":
        """Return another process that goes on from what this one kept, so many seconds later."""
        again = Town(notify, now=self.now + after)
        again.ledger.restore(self.ledger.unsaved())
        again.alerter.restore(self.alerter.documents())
        return again


def test_an_outage_is_told_once_with_its_numbers_and_resolves(caplog: pytest.LogCaptureFixture) -> None:
    """The model and its only version, both page pairs and both ticket pairs are one incident: one notification."""
    told: list[Notice] = []
    town = Town(told.append)
    town.live(60)
    town.live(600, 1.0)
    (notice,) = told
    assert notice.firing
    assert dict(notice.labels) == {
        "severity": "page",
        "model": "m",
        "objective": "default",
        "sli": "availability",
    }
    assert notice.summary == "availability of m: at this rate a whole 28-day budget is gone in 88 min"
    assert notice.description.startswith("1,020 of 2,220 requests failed in the last hour. ")
    record = next(each for each in caplog.records if each.getMessage() == "alert firing")
    assert vars(record)["summary"] == notice.summary
    town.live(2 * 3600)
    assert [each.firing for each in told] == [True, False]
    assert (told[1].started, told[1].ended) == (notice.started, pytest.approx(1_700_004_260, abs=120))
    availability = town.availability(Kind.MODEL, "m")
    assert {alert.state for _, alert in town.alerter.of(availability)} <= set(AlertState)
    assert not town.alerter.of(town.availability(Kind.VERSION, "m/v1"))


def test_a_fault_after_a_reload_that_began_the_windows_anew_is_told_too() -> None:
    told: list[Notice] = []
    town = Town(told.append)
    town.live(600, 1.0)
    town.live(7200)
    gone = RouteTable(pools={}, models={}, names={})
    town.follow(gone)
    town.alerter.evaluate()
    town.follow(table("m"))
    town.live(120, 1.0)
    assert [each.firing for each in told] == [True, False, True]


def test_the_only_version_of_a_model_has_no_alerts_of_its_own_from_the_start_on() -> None:
    town = Town(None, routes=table("m"))
    before = {series.key for series, _, _ in town.alerter}
    town.alerter.evaluate()
    assert before == {series.key for series, _, _ in town.alerter}
    assert {key.kind for key in before} == {Kind.MODEL}


def test_a_fault_that_burns_on_below_the_paging_rate_is_told_as_a_ticket() -> None:
    """A ticket that began while its subject paged belonged to the page; the page is over, and the fault is not."""
    told: list[Notice] = []
    town = Town(told.append)
    town.live(3600, 0.0)
    town.live(1800, 1.0)
    town.live(8 * 3600, 0.004)
    assert [(each.labels["severity"], each.firing) for each in told] == [
        ("page", True),
        ("page", False),
        ("ticket", True),
    ]


@pytest.mark.parametrize(("rate", "version"), [(20.0, ""), (2.0, "v2")], ids=["half", "a twentieth"])
def test_a_version_that_fails_is_one_incident(rate: float, version: str) -> None:
    """With half of the traffic the model soon burns too; with a twentieth the version is told of, and the model's alert
    that follows belongs to it."""
    told: list[Notice] = []
    town = Town(told.append, routes=table("m", versions=2))
    town.live(1800, 1.0, version="v2", rate=rate, beside="v1")
    of_model = town.alerter.of(town.availability(Kind.MODEL, "m"))
    assert any(alert.state is AlertState.FIRING for _, alert in of_model)
    assert [each.labels.get("version", "") for each in told] == [version]


def test_a_second_version_that_fails_is_another_incident() -> None:
    told: list[Notice] = []
    town = Town(told.append, routes=table("m", versions=2))
    town.live(1800, 1.0, version="v2", rate=2.0, beside="v1")
    town.live(300, 1.0, version="v1")
    assert [each.labels.get("version", "") for each in told] == ["v2", ""]


def test_the_backend_where_it_happens_is_named() -> None:
    told: list[Notice] = []
    town = Town(told.append, routes=table("m", backends=3))
    attempts = [town.ledger.get(Kind.BACKEND, f"v1/e:{port + 1}")[0].windows for port in range(3)]
    for windows, (good, bad) in zip(attempts, ((900, 190), (1090, 10), (1090, 12)), strict=True):
        windows.good, windows.bad = good, bad
    town.live(60, 1.0)
    assert "190 of them on v1/e:1" in told[0].description


def test_what_fires_goes_on_over_a_restart_and_is_not_told_again() -> None:
    told: list[Notice] = []
    town = Town(told.append)
    town.live(120, 1.0)
    (first,) = told
    town.alerter.delivered(first, SENT)
    again = town.restarted(told.append, 30.0)
    again.live(120, 1.0)
    assert len(told) == 1
    ((_, _, incident),) = again.alerter.incidents
    assert incident.started == first.started
    again.live(2 * 3600)
    assert [each.firing for each in told] == [True, False]
    assert told[1].started == first.started


def test_what_ended_while_no_gateway_ran_is_resolved_after_the_restart() -> None:
    told: list[Notice] = []
    town = Town(told.append)
    town.live(120, 1.0)
    town.alerter.delivered(told[0], SENT)
    again = town.restarted(told.append, 9 * 3600.0)
    again.live(1)
    assert [each.firing for each in told] == [True, False]
    assert told[1].labels == told[0].labels


def test_after_a_restart_another_incident_still_needs_failures_of_its_own() -> None:
    """Three more failures burn with those of an outage that people know of and that is over: no other page."""
    told: list[Notice] = []
    town = Town(told.append)
    town.live(300, 1.0)
    town.live(3 * 3600, rate=0.0)
    assert [each.firing for each in told] == [True, False]
    for notice in told:
        town.alerter.delivered(notice, SENT)
    town.fail_each_minute(1)
    again = town.restarted(told.append, 5.0)
    again.fail_each_minute(3)
    assert len(told) == 2
    again.fail_each_minute(10)
    assert [each.firing for each in told] == [True, False, True]


def test_what_nobody_could_be_told_is_told_after_the_restart() -> None:
    town = Town(lambda _: None)
    town.live(120, 1.0)
    told: list[Notice] = []
    again = town.restarted(told.append, 5.0)
    again.live(2, 1.0)
    assert [each.firing for each in told] == [True]


def test_a_receiver_that_was_down_is_told_again_as_long_as_it_matters() -> None:
    told: list[Notice] = []
    town = Town(told.append)
    town.live(60, 1.0)
    town.alerter.delivered(told[0], FAILED)
    town.live(59, 1.0)
    assert len(told) == 1
    town.live(5, 1.0)
    assert len(told) == 2
    assert told[0] == told[1]
    town.alerter.delivered(told[1], SENT)
    town.live(300, 1.0)
    assert len(told) == 2


def test_kept_alerts_that_cannot_be_read_are_none(caplog: pytest.LogCaptureFixture) -> None:
    town = Town(None)
    town.alerter.restore([Document("alerts", "all", '{"pairs": [[1]]}'), Document("rollout", "m", "x")])
    town.live(1)
    assert "cannot be read" in caplog.text
    assert not town.alerter.incidents


def test_without_a_webhook_the_log_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    town = Town(None)
    town.live(60, 1.0)
    ((_, _, incident),) = town.alerter.incidents
    assert incident.delivery == "no webhook"
    town.live(3 * 3600)
    assert [each.getMessage() for each in caplog.records] == ["alert firing", "alert resolved"]
    assert not town.alerter.incidents


def test_what_the_routes_no_longer_name_resolves() -> None:
    told: list[Notice] = []
    town = Town(told.append)
    town.live(60, 1.0)
    assert [each.firing for each in told] == [True]
    town.follow(table("other"))
    town.alerter.evaluate()
    assert [each.firing for each in told] == [True, False]
    assert {series.model for series, _, _ in town.alerter} == {"other"}
