"""`tidegate canary status` says in one line what a rollout waits for, or why it stands where it does."""

from typing import Any

import pytest

from gateway.cli.canary import standing


@pytest.mark.parametrize(
    ("phase", "requests", "said"),
    [
        ("idle", 0, "waits for `tidegate canary start m`"),
        ("waiting", 0, "started by ann, and waits: waits for `tidegate canary start m`"),
        ("step", 1, "1 request in this step: waits for `tidegate canary start m`"),
        ("paused", 1200, "paused by ann: lunch; 1,200 requests since then"),
        ("rolled_back", 5, "rolled back by ann: lunch"),
        ("promoted", 5, "promoted by ann: lunch"),
    ],
)
def test_every_phase_says_who_and_why(phase: str, requests: int, said: str) -> None:
    found: dict[str, Any] = {"phase": phase, "requests_in_step": requests, "actor": "ann", "reason": "lunch"}
    found["candidate"] = "v2"
    assert standing(found | {"decision": "waits for `tidegate canary start m`"}) == said


def test_one_whose_candidate_is_ready_waits_for_nothing() -> None:
    found = {"phase": "waiting", "requests_in_step": 0, "actor": "ann", "candidate": "v2", "decision": "v2 is ready"}
    assert standing(found) == "started by ann: v2 is ready, and gets its first requests now"
