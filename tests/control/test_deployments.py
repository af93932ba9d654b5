"""Deployments: a CD system registers one, and it is over once users get answers, or will not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.control.audit import Audit
from gateway.control.deployments import KIND, Deployment, Deployments, Result, Stage
from gateway.errors import ModelNotFound
from gateway.exchange import Exchange, Outcome
from gateway.policy.slo.ledger import SloLedger
from gateway.state.store import Document
from gateway.telemetry.slo_recorder import follow
from tests.control.tables import in_force, versions, written
from tests.waiting import HandClock


class Site:
    """A gateway's deployments, on a clock that is set by hand and without rollouts."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.audit, self.over = HandClock(1_700_000_000.0), Audit(lambda: 0.0), list[Deployment]()
        routes = written(folder / "routes.yaml", versions("http://a:1", "http://b:1"))
        ledger = SloLedger(self.clock())
        follow(ledger, routes, self.clock())
        rollouts = cast(Any, SimpleNamespace(get=lambda _: None))
        self.deployments = Deployments(
            ledger, in_force(routes), rollouts, self.audit, clock=self.clock, over=self.over.append
        )

    def register(self, version: str = "v2", **more: str) -> Deployment:
        return self.deployments.register("m", version, actor="ci", **more)

    def answered(self, version: str = "v2", outcome: Outcome = Outcome.OK, *, forced: bool = False) -> None:
        """Let a request of a user end."""
        exchange = Exchange("r1", "/v1/chat/completions", 0.0)
        exchange.model, exchange.version, exchange.outcome, exchange.forced = "m", version, outcome, forced
        if exchange.model in self.deployments.watched:
            self.deployments.weigh_settled(exchange)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_it_is_live_with_the_first_answer_to_a_user(site: Site) -> None:
    deployment = site.register()
    site.clock.advance(30.0)
    site.answered()
    assert deployment.result is Result.LIVE
    assert deployment.stages[Stage.FIRST_LIVE_ANSWER] - deployment.registered == 30.0
    assert site.deployments.stages()["m", "v2", Stage.FIRST_LIVE_ANSWER] == 30.0
    assert site.deployments.results["m", Result.LIVE] == 1
    assert [record.action for record in site.audit] == ["register", Result.LIVE]
    site.clock.advance(30.0)
    site.answered()
    assert site.deployments.results["m", Result.LIVE] == 1, "later answers are none of its business"


@pytest.mark.parametrize(
    ("version", "outcome", "forced"),
    [("v1", Outcome.OK, False), ("v2", Outcome.BACKEND_ERROR, False), ("v2", Outcome.OK, True)],
    ids=["another version's", "a failure", "forced"],
)
def test_other_answers_do_not_make_it_live(site: Site, version: str, outcome: Outcome, forced: bool) -> None:
    deployment = site.register()
    site.answered(version, outcome, forced=forced)
    assert deployment.result is Result.RUNNING


def test_another_version_supersedes_one_on_its_way(site: Site) -> None:
    first, second = site.register("v2"), site.register("v1")
    assert (first.result, first.reason) == (Result.SUPERSEDED, "v1 was deployed")
    assert first.is_over
    site.answered("v2")
    assert first.result is Result.SUPERSEDED
    assert second.result is Result.RUNNING


def test_to_register_it_again_by_its_id_changes_nothing(site: Site) -> None:
    first = site.register(identity="build-7")
    site.clock.advance(10.0)
    assert site.register("v1", identity="build-7") is first
    assert first.version == "v2"


def test_a_model_or_version_that_the_routes_do_not_name_cannot_be_deployed(site: Site) -> None:
    with pytest.raises(ModelNotFound):
        site.deployments.register("other", "v1", actor="ci")
    with pytest.raises(KeyError):
        site.register("v3")
    assert list(site.deployments) == []


def test_the_latest_hundred_are_known(site: Site) -> None:
    first = site.register()
    for _ in range(100):
        site.register()
    assert len(list(site.deployments)) == 100
    assert site.deployments.get(first.id) is None


def test_what_changed_is_kept_and_goes_on_after_a_restart(site: Site, tmp_path: Path) -> None:
    deployment = site.register(identity="build-7", traceparent="00-1-2-01")
    documents = site.deployments.documents()
    assert [each.name for each in documents] == ["build-7"]
    assert site.deployments.documents() == []
    again = Site(tmp_path)
    again.deployments.restore(documents)
    assert again.deployments.get("build-7") == deployment
    assert again.deployments.open == {"build-7"}
    again.clock.advance(20.0)
    again.answered()
    assert again.deployments.results["m", Result.LIVE] == 1


def test_no_time_of_a_kept_one_lies_ahead(site: Site, tmp_path: Path) -> None:
    site.clock.advance(3600.0)
    site.register(identity="build-7")
    again = Site(tmp_path)
    again.deployments.restore(site.deployments.documents())
    kept = again.deployments.get("build-7")
    assert kept is not None
    assert kept.registered == again.clock()


@pytest.mark.parametrize("body", ["", "{}", '{"id":"x","model":"m","version":"v2","actor":"ci","stages":{}}'])
def test_what_cannot_be_read_is_left_out(site: Site, body: str, caplog: pytest.LogCaptureFixture) -> None:
    site.deployments.restore([Document(KIND, "build-7", body), Document("rollout", "m", "{}")])
    assert list(site.deployments) == []
    assert [vars(record)["deployment"] for record in caplog.records] == ["build-7"]


def test_a_trace_tells_its_stages_and_how_it_ended(site: Site) -> None:
    deployment = site.register()
    site.clock.advance(5.0)
    site.register("v1")
    assert deployment.label == "deploy m/v2"
    assert [name for name, _ in deployment.milestones] == ["registered", "superseded"]
    assert deployment.failure == "superseded: v1 was deployed"
    assert deployment.attributes["deployment.status"] == "superseded"
