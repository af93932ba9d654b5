"""What the demo shows of its rollout."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gateway.cli.canary import phase_words
from gateway.cli.demo.load import MODEL
from gateway.policy.canary.words import span

STATUS = f"/admin/models/{MODEL}/canary"


def commands(admin: str) -> str:
    """Return how to follow and to steer the rollout, to be copied from the terminal."""
    return f"""\
v2 is rolled out beside v1, in steps of 10, 50 and 95 %. In another shell:
    tidegate canary status {MODEL} --admin {admin}
    tidegate canary pause {MODEL} --admin {admin}    # or resume, promote, rollback
"""


def standing(status: Mapping[str, Any]) -> str:
    """Return where a rollout stands, in one line."""
    words = f"canary {status['stable']} -> {status['candidate']}: {phase_words(status)}"
    if status["phase"] in {"step", "paused"}:
        words += f", {status['weight']:g} % of requests"
    if status["phase"] in {"promoted", "rolled_back"} and status["started"] is not None:
        took = datetime.fromisoformat(status["since"]) - datetime.fromisoformat(status["started"])
        return f"{words} after {span(took.total_seconds())}: {status['reason']}"
    left = status["seconds_to_promotion"]
    if status["phase"] == "step" and left is not None:
        words += f", promotion in {span(left)}"
    return words
