"""What the demo says of its rollout."""

from typing import Any

import pytest

from gateway.cli.demo.rollout import commands, standing
from tests.cli.demo.conftest import StartDemo

STATUS: dict[str, Any] = {
    "stable": "v1",
    "candidate": "v2",
    "step": 2,
    "steps": [10, 50, 95],
    "weight": 50.0,
    "started": "2026-01-01T00:00:00Z",
    "since": "2026-01-01T00:02:50Z",
    "reason": "held for 30 s",
    "seconds_to_promotion": 95.0,
}


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ("waiting", "canary v1 -> v2: waiting"),
        ("step", "canary v1 -> v2: step 2 of 3, 50 % of requests, promotion in 95 s"),
        ("paused", "canary v1 -> v2: paused in step 2 of 3, 50 % of requests"),
        ("promoted", "canary v1 -> v2: promoted after 3 min: held for 30 s"),
        ("rolled_back", "canary v1 -> v2: rolled back after 3 min: held for 30 s"),
    ],
)
def test_it_says_where_the_rollout_stands(phase: str, words: str) -> None:
    assert standing({**STATUS, "phase": phase}) == words


def test_while_the_time_cannot_be_said_none_is_said() -> None:
    silent = {**STATUS, "phase": "step", "seconds_to_promotion": None}
    assert standing(silent) == "canary v1 -> v2: step 2 of 3, 50 % of requests"


def test_its_commands_name_the_admin_listener() -> None:
    assert "tidegate canary status demo-chat --admin http://127.0.0.1:9" in commands("http://127.0.0.1:9")


def test_the_demo_rolls_a_second_version_out(start_demo: StartDemo) -> None:
    demo = start_demo("--canary", "--plain", "--rate", "20")
    demo.until_shown("canary v1 -> v2: step 1 of 3, 10 % of requests")
    assert "3 GPU engines, 1 CPU engine" in demo.out
