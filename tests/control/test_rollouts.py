"""The real controller on a clock of its own: a newcomer's canary is promoted in about the time that was said."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.cli.demo.load import MODEL
from gateway.config.load import load_routes
from gateway.exchange import Exchange, Outcome
from gateway.policy.canary.rollout import Event, Phase
from tests.attempts import attempted
from tests.control.rollouts import demos, newcomers, rolled

RATE = 12.0


@pytest.mark.parametrize(("routes_file", "longest"), [(newcomers, 3 * 3600.0), (demos, 300.0)])
def test_a_canary_at_twelve_requests_a_second_is_promoted_in_about_the_time_that_was_said(
    tmp_path: Any, routes_file: Callable[[], dict[str, Any]], longest: float
) -> None:
    """With default settings, as a newcomer starts it, and as `tidegate demo --canary` does."""
    now = [1_000_000.0]
    rollouts, audit = rolled(tmp_path / "routes.yaml", routes_file(), now)
    running = rollouts.get(MODEL)
    assert running is not None
    rng, said, started = Random(1), 0.0, 0.0
    while running.rollout.phase is not Phase.PROMOTED and now[0] < 1_000_000 + 20_000:
        now[0] += 1 / RATE
        candidate = rng.random() * 100 < running.rollout.share
        exchange = Exchange("r", "/v1/chat/completions", now[0] - 1.0)
        exchange.model, exchange.version = MODEL, "v2" if candidate else "v1"
        exchange.backend = exchange.version
        exchange.outcome = Outcome.OK if rng.random() > 0.0005 else Outcome.BACKEND_ERROR
        exchange.attempts, exchange.ended, exchange.client_status = [attempted()], now[0], 200
        rollouts.weigh_settled(exchange)
        if rng.random() < 0.1:
            rollouts.tick()
        if not said and running.pace.requests >= 20 and running.rollout.phase is Phase.STEP:
            said, started = rollouts.outlook(running).rest or 0.0, now[0]
    assert running.rollout.phase is Phase.PROMOTED, running.decision.reason
    assert 0.5 < (now[0] - started) / said < 2.0
    assert said < longest
    assert [record.action for record in audit][:2] == ["start", "ready"]


def test_what_a_person_asked_for_is_answered_in_the_words_of_the_new_state(tmp_path: Path) -> None:
    """They were those of the state before: after `start` it waited for `tidegate canary start`."""
    now = [1_000_000.0]
    routes = newcomers()
    routes["models"][MODEL]["canary"] |= {"start": "manual", "steps": [10], "hold": "5s"}
    rollouts, _ = rolled(tmp_path / "routes.yaml", routes, now)
    rollouts.tick()

    def said(event: Event) -> str:
        now[0] += 1.0
        words = rollouts.ask(MODEL, event, actor="ann", reason=f"ann wants to {event}").decision.reason
        rollouts.tick()
        return words

    assert said(Event.START) == "v2 is ready"
    assert said(Event.PAUSE) == "ann wants to pause"
    assert said(Event.RESUME).startswith("held for 0 s of 5 s")
    assert said(Event.ROLLBACK) == "ann wants to rollback"
    assert said(Event.START) == "v2 is ready"
    assert said(Event.PROMOTE) == "ann wants to promote"


def test_a_second_start_pause_or_resume_changes_nothing_and_leaves_no_record(tmp_path: Path) -> None:
    now = [1_000_000.0]
    routes = newcomers()
    routes["models"][MODEL]["canary"] |= {"start": "manual", "steps": [10], "hold": "5s"}
    rollouts, audit = rolled(tmp_path / "routes.yaml", routes, now)
    rollouts.ask(MODEL, Event.START, actor="ann", reason="now")
    for event in (Event.START, Event.RESUME, Event.PAUSE):
        if event is Event.RESUME:
            rollouts.tick()
        if event is Event.PAUSE:
            rollouts.ask(MODEL, event, actor="ann", reason="lunch")
        before, records = rollouts.ask(MODEL, event, actor="bob", reason="me too").rollout, len(list(audit))
        now[0] += 1.0
        assert rollouts.ask(MODEL, event, actor="bob", reason="me too").rollout is before
        assert len(list(audit)) == records
        assert before.actor != "bob"


def test_a_reload_is_recorded_in_the_words_of_route_files(tmp_path: Path) -> None:
    rollouts, audit = rolled(tmp_path / "routes.yaml", newcomers(), [1_000_000.0])
    routes = newcomers()
    routes["models"][MODEL]["canary"] |= {"steps": [5, 10, 60], "hold": "1m", "max_hold": "1h", "pause_below": 2.5}
    (tmp_path / "routes.yaml").write_text(json.dumps(routes))
    rollouts.follow(load_routes(tmp_path / "routes.yaml"))
    (record,) = audit
    assert record.reason == (
        "steps: auto -> 5, 10, 60; hold: 10m -> 1m; max_hold: as predicted -> 1h; pause_below: 5 -> 2.5; "
        "v2 has 0 % of requests, as before"
    )


def test_after_a_restart_within_a_step_it_is_known_how_long_that_takes(tmp_path: Path) -> None:
    now = [1_000_000.0]
    rollouts, _ = rolled(tmp_path / "routes.yaml", newcomers(), now)
    for number in range(200):
        now[0] += 1 / RATE
        exchange = Exchange("r", "/v1/chat/completions", now[0] - 1.0)
        exchange.model, exchange.version, exchange.backend = MODEL, "v1" if number % 2 else "v2", "b"
        exchange.outcome, exchange.ended, exchange.client_status = Outcome.OK, now[0], 200
        rollouts.weigh_settled(exchange)
        rollouts.tick()
    said = rollouts.outlook(cast(Any, rollouts.get(MODEL)))
    now[0] += 60.0
    again, _ = rolled(tmp_path / "routes.yaml", newcomers(), now, rollouts.documents())
    told = again.outlook(cast(Any, again.get(MODEL)))
    assert "promotion in" in said.words
    assert "promotion in" in told.words
    assert told.missing == said.missing


@pytest.mark.parametrize(
    ("outcome", "weighed"),
    [
        (Outcome.OK, 1),
        (Outcome.BACKEND_ERROR, 1),
        (Outcome.TIMEOUT, 0),
        (Outcome.CLIENT_GONE, 0),
        (Outcome.CLIENT_TIMEOUT, 0),
    ],
)
def test_what_the_gateway_itself_was_late_with_says_nothing_of_a_version(
    tmp_path: Path, outcome: Outcome, weighed: int
) -> None:
    rollouts, _ = rolled(tmp_path / "routes.yaml", newcomers(), [1_000_000.0])
    running = rollouts.get(MODEL)
    assert running is not None
    running.rollout = replace(running.rollout, phase=Phase.STEP, share=10.0)
    rollouts._lateness.beat(1000.0)
    rollouts._lateness.beat(1025.0)
    exchange = Exchange("r", "/v1/chat/completions", 1000.0)
    exchange.model, exchange.version, exchange.backend, exchange.attempts = MODEL, "v2", "v2", [attempted()]
    exchange.stream, exchange.first_content, exchange.outcome, exchange.ended = True, 1025.1, outcome, 1025.2
    rollouts.weigh_first_token(exchange)
    assert not exchange.weighed
    before = running.evidence.answered
    rollouts.weigh_settled(exchange)
    assert running.evidence.answered - before == weighed


def test_a_rollout_waits_while_stable_is_away_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    """The candidate that served in stable's stead was promoted: with nothing left to compare, nothing was worse."""
    now = [1_000_000.0]
    routes = newcomers()
    routes["models"][MODEL]["canary"] |= {"steps": [10], "hold": "15s", "min_requests": 20, "margin": 50}
    rollouts, _ = rolled(tmp_path / "routes.yaml", routes, now)
    running = rollouts.get(MODEL)
    assert running is not None
    versions: dict[str, Any] = cast(Any, rollouts._current.table.model(MODEL)).versions

    def served(seconds: float, *, stable: bool) -> None:
        versions["v1"] = SimpleNamespace(is_ready=stable, backends=(), name="v1")
        for number in range(round(seconds * RATE)):
            now[0] += 1 / RATE
            drawn = "v1" if number % 4 else "v2"
            exchange = Exchange("r", "/v1/chat/completions", now[0] - 0.01)
            exchange.model, exchange.version = MODEL, drawn if stable else "v2"
            exchange.stands_in, exchange.backend = exchange.version != drawn, exchange.version
            exchange.outcome, exchange.ended, exchange.client_status = Outcome.OK, now[0], 200
            exchange.attempts = [attempted()]
            rollouts.weigh_settled(exchange)
            rollouts.tick()

    served(5.0, stable=False)
    assert running.rollout.phase is Phase.IDLE
    served(10.0, stable=True)
    assert (running.rollout.phase, running.rollout.share) == (Phase.STEP, 10.0)
    began, answered = now[0], running.evidence.answered
    served(60.0, stable=False)
    assert (running.rollout.phase, running.rollout.share) == (Phase.STEP, 10.0)
    assert running.decision.reason == "waits: stable v1 has no ready backend"
    assert running.evidence.answered <= answered + 1, "nothing is compared with nothing"
    assert 59.0 < running.away <= 61.0
    again, _ = rolled(tmp_path / "routes.yaml", routes, now, rollouts.documents())
    assert cast(Any, again.get(MODEL)).away == running.away
    served(1.0, stable=True)
    assert running.decision.reason.startswith("held for 1")
    served(14.0, stable=True)
    assert (running.rollout.phase, running.rollout.share) == (Phase.STEP, 95.0)
    assert began + 60.0 < running.rollout.since < began + 75.0
    rollouts.ask(MODEL, Event.PROMOTE, actor="ann", reason="it is fine")
    rollouts.documents()
    versions["v1"] = SimpleNamespace(is_ready=False, backends=(), name="v1")
    now[0] += 1.0
    rollouts.tick()
    assert not running.changed, "once promoted, a stable that is gone is nothing to be saved"
