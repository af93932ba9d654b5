"""The objective of the gateway under test, as its admin listener tells it, so that a run is judged by that."""

from collections.abc import Mapping, Sequence
from typing import Any

from loadtest.report.recording import Objective

_JUDGED = ("availability", "ttft", "tpot")


def chosen(objectives: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> Mapping[str, Any] | None:
    """Return the objective that holds for these classes of service; None where they do not share one."""
    named = [next((each for each in objectives if name in each["classes"]), None) for name in classes]
    others = [each for each in objectives if not each["classes"]]
    found = [each or (others[0] if others else None) for each in named]
    return found[0] if all(each is found[0] for each in found) else None


def objective(told: Mapping[str, Any]) -> Objective:
    """Read one; what it has no target for has a target of 0."""
    targets = {each["sli"]: each for each in told["targets"]}

    def target(sli: str) -> float:
        return round(100 * targets[sli]["target"], 6) if sli in targets else 0.0

    def thresholds(sli: str) -> dict[int, float]:
        return {each["prompt_tokens"]: each["seconds"] for each in targets.get(sli, {}).get("thresholds", ())}

    ttft = thresholds("ttft")
    return Objective(
        availability=target("availability"),
        ttft=ttft.get(0, 0.0),
        ttft_target=target("ttft"),
        tpot=thresholds("tpot").get(0, 0.0),
        tpot_target=target("tpot"),
        long_prompts=tuple((tokens, under) for tokens, under in sorted(ttft.items()) if tokens),
    )


def not_judged(told: Mapping[str, Any]) -> list[str]:
    """Return the SLIs of an objective that a report does not know."""
    return [each["sli"] for each in told["targets"] if each["sli"] not in _JUDGED]
