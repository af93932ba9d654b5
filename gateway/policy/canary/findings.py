"""What evidence says of a candidate, in words: reasons to go back, to ask a person, or to wait."""

from math import log

from gateway.policy.canary.evidence import (
    ALPHA,
    AVAILABILITY,
    FEWEST_FAILED,
    FEWEST_KEYS,
    FIRST,
    FIRST_ATTEMPT,
    HIDDEN,
    STAYED,
    Evidence,
    shown,
)


def regression_reason(evidence: Evidence) -> str | None:
    """Say why the candidate is worse than stable, None while that may be chance, or one client's doing."""
    if evidence.failed_first >= FIRST:
        return f"its first {evidence.failed_first} requests all failed"
    if not evidence.is_beyond_chance or evidence.is_by_one_key or not evidence.is_worth_it:
        return None
    return f"{_told(evidence)} has reached {1 / ALPHA:g}; {_shares(evidence)}"


def doubt(evidence: Evidence) -> str | None:
    """Say why a person should look at the candidate, None without a reason; that a key makes it is asked once."""
    if evidence.is_beyond_chance and evidence.is_by_one_key and not evidence.accepted and evidence.is_worth_it:
        return (
            f"{_told(evidence)} has reached {1 / ALPHA:g}, but would not have without one "
            f"of its {evidence.keys[1]:,} sticky keys; {_shares(evidence)}"
        )
    logs = {name: track.comparison.log_e for name, track in evidence.hidden.items()}
    name = max(logs, key=lambda each: logs[each])
    if logs[name] - log(len(HIDDEN)) < -log(ALPHA) or not evidence.hidden[name].is_worth_it:
        return None
    what = {FIRST_ATTEMPT: "failed at first, which retries hid", STAYED: "were given up by their clients"}[name]
    candidate, stable = (evidence.hidden[name].comparison.seen(candidate=side) for side in (True, False))
    e_value = f"e-value {shown(logs[name]):.3g}"
    return f"{_share(candidate)} of its requests {what}, {_share(stable)} of stable's ({e_value})"


def failing(evidence: Evidence, stable: str, candidate: str) -> str:
    """Say that the candidate fails at page rate, and more than twice as often as stable, before that decides.

    "" while it does not; `stable` and `candidate` are the names of the versions.
    """
    track = evidence.tracks.get(AVAILABILITY)
    if track is None:
        return ""
    mine, theirs = track.side(candidate=True), track.side(candidate=False)
    if mine[1] < FEWEST_FAILED:
        return ""
    usual = theirs[1] / sum(theirs) if any(theirs) else 0.0
    if mine[1] / sum(mine) <= max(evidence.factor * track.budget, 2 * usual):
        return ""
    said = f"{_share(mine)} requests of {candidate} failed"
    if evidence.failed_first == evidence.answered:
        return f"{said}; it is rolled back if its first {FIRST} all fail"
    e_value = f"e-value {shown(evidence.log_e):.3g}, decided at {1 / ALPHA:g}"
    return f"{said}, {_share(theirs)} of {stable}; {e_value}"


def notes(evidence: Evidence, least: int = 0) -> list[str]:
    """Say what else one should know of this evidence; of sticky keys once the candidate answered `least` times."""
    found = []
    if evidence.is_beyond_chance and not evidence.is_worth_it:
        found.append(
            f"{_told(evidence)}, by less than a quarter of the budget, which is no reason to "
            f"go back; {_shares(evidence)}"
        )
    fewest = min(evidence.keys)
    if any(evidence.keys) and fewest < FEWEST_KEYS and evidence.answered >= least:
        side = "the candidate" if evidence.keys[1] == fewest else "stable"
        found.append(f"{fewest} sticky keys on {side}: fewer than {FEWEST_KEYS} cannot tell versions apart")
    for sli, track in evidence.tracks.items():
        if track.incident:
            found.append(f"{sli}: stable itself is in an incident, what arrives is set aside")
    return found


def _told(evidence: Evidence) -> str:
    return f"{evidence.worst} is worse than stable's: e-value {shown(evidence.log_e):.3g}"


def _shares(evidence: Evidence) -> str:
    comparison = evidence.tracks[evidence.worst].comparison
    candidate, stable = comparison.seen(candidate=True), comparison.seen(candidate=False)
    return f"{_share(candidate)} of its requests missed, {_share(stable)} of stable's"


def _share(counts: tuple[int, int]) -> str:
    return f"{counts[1]:,} of {sum(counts):,}"
