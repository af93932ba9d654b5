"""Gateways that share a state file: those with other routes are told, after a while, that they save nothing."""

from pathlib import Path
from typing import Any

import pytest

from gateway.control.persistence import LEADER, LEASE_SECONDS
from gateway.control.sharing import Sharing
from gateway.state.store import Document
from tests.control.tables import in_force, models, versions, written
from tests.waiting import HandClock

ROLLOUT = versions("http://a:1", "http://b:1")


class Gateways:
    """A gateway that leads, and one that does not."""

    def __init__(self, folder: Path, leads: dict[str, Any], follows: dict[str, Any]) -> None:
        self.clock, self.is_leading = HandClock(), True
        self.leader = Sharing(
            "state.db", in_force(written(folder / "one.yaml", leads)), lambda: self.is_leading, self.clock
        )
        self.other = Sharing("state.db", in_force(written(folder / "two.yaml", follows)), lambda: False, self.clock)


def test_what_leads_tells_of_its_routes_once_until_they_change(tmp_path: Path) -> None:
    gateways = Gateways(tmp_path, models("http://a:1"), models("http://a:1"))
    (document,) = gateways.leader.documents()
    assert document.kind == LEADER
    assert gateways.leader.documents() == []
    assert gateways.other.documents() == [], "it does not lead"
    gateways.is_leading = False
    assert gateways.leader.documents() == []
    gateways.is_leading = True
    assert gateways.leader.documents() == [document], "another one may have led meanwhile"


def test_the_same_routes_are_no_problem(tmp_path: Path) -> None:
    gateways = Gateways(tmp_path, ROLLOUT, ROLLOUT)
    told = gateways.leader.documents()
    for _ in range(2):
        gateways.other.led(told)
        gateways.clock.advance(10 * LEASE_SECONDS)
    assert gateways.other.problem == ""


def test_other_routes_are_a_problem_once_the_lease_of_one_that_was_killed_would_be_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateways = Gateways(tmp_path, models("http://a:1"), ROLLOUT)
    told = gateways.leader.documents()
    gateways.other.led(told)
    gateways.clock.advance(LEASE_SECONDS)
    gateways.other.led(told)
    assert gateways.other.problem == ""
    gateways.clock.advance(0.1)
    for _ in range(2):
        gateways.other.led(told)
    assert "one.yaml" in gateways.other.problem
    assert "keeps its state in state.db too" in gateways.other.problem
    assert "rollouts do not begin here (m)" in gateways.other.problem
    assert len(caplog.records) == 1, "it is logged once"


def test_the_problem_is_over_when_the_other_gateway_is(tmp_path: Path) -> None:
    gateways = Gateways(tmp_path, models("http://a:1"), ROLLOUT)
    for _ in range(2):
        gateways.other.led(gateways.leader.documents() or [Document(LEADER, "", "{}")])
        gateways.clock.advance(2 * LEASE_SECONDS)
    gateways.other.led([])
    assert gateways.other.problem == ""


@pytest.mark.parametrize("body", ["", "{}", "[]", '{"process": "1", "routes": 7, "models": {}}'])
def test_what_cannot_be_read_is_told_by_nobody(tmp_path: Path, body: str) -> None:
    gateways = Gateways(tmp_path, models("http://a:1"), ROLLOUT)
    for _ in range(3):
        gateways.other.led([Document(LEADER, "", body)])
        gateways.clock.advance(2 * LEASE_SECONDS)
    assert gateways.other.problem == ""
