"""What gateways tell each other of rollouts through the store: where the leader's stand, and which were rolled back."""

import json
import logging
from collections.abc import Mapping

from gateway.clock import past
from gateway.control.rollout_progress import KEYS, KIND, RolloutProgress
from gateway.policy.canary.rollout import TRANSITIONS, Decision, Event, Phase, Rollout, move
from gateway.state.store import ROLLBACK, Document

_log = logging.getLogger(__name__)


def goes_on(running: RolloutProgress | None, body: str) -> bool:
    """Whether a rollout stands where it was kept, as far as that can be read, or was rolled back from there here."""
    if running is None:
        return True
    try:
        kept = json.loads(body)
        here, there = running.rollout, kept["rollout"]
        if here.phase is Phase.ROLLED_BACK and there["phase"] != here.phase and there["started"] == here.started:
            return bool(kept["fingerprint"] == running.plan.fingerprint)
        return running.goes_on_from(kept)
    except (KeyError, TypeError, ValueError):
        return True


def rolled_back(running: RolloutProgress) -> Document:
    """Return what any gateway may save of a rollout, whichever leads: that it was rolled back."""
    rollout = running.rollout
    body = {
        "fingerprint": running.plan.fingerprint,
        "started": rollout.started,
        "since": rollout.since,
        "actor": rollout.actor,
        "reason": rollout.reason,
    }
    return Document(ROLLBACK, running.model, json.dumps(body))


def after_rollback(running: RolloutProgress, body: str, now: float) -> Rollout | None:
    """Return a rollout as another gateway rolled it back, None where it was started again since, or is no more."""
    try:
        told = json.loads(body)
        since, actor, reason = past(told["since"], now), str(told["actor"]), str(told["reason"])
        same = told["fingerprint"] == running.plan.fingerprint and told["started"] == running.rollout.started
    except (KeyError, TypeError, ValueError):
        return None
    if not same or (running.rollout.phase, Event.ROLLBACK) not in TRANSITIONS:
        return None
    return move(running.rollout, Event.ROLLBACK, since, actor=actor, decision=Decision(Event.ROLLBACK, reason))


def restored(running: RolloutProgress, kept: Mapping[tuple[str, str], str], now: float) -> bool:
    """Take back what was kept of a rollout; return whether that could be read."""
    try:
        body = json.loads(kept.get((KIND, running.model), "{}"))
        if body.get("fingerprint") == running.plan.fingerprint:
            running.restore(body, now)
            keys = kept.get((KEYS, running.model))
            if keys is not None:
                running.evidence.restore_keys(json.loads(keys))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        _log.exception("a saved rollout cannot be read: it starts from the beginning", extra={"model": running.model})
        return False
    rollout = after_rollback(running, kept.get((ROLLBACK, running.model), "{}"), now)
    if rollout is not None:
        running.moved_to(rollout)
    return True
