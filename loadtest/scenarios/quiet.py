"""Quiet services: the variants of `python -m loadtest.routing quiet`, for real."""

from collections.abc import Sequence
from statistics import median

from loadtest.routing.quiet import JUDGED, SECONDS, VARIANTS, Variant, is_certain
from loadtest.routing.quiet_world import Spell
from loadtest.scenarios.gateways import ROUND_ROBIN, TIDEGATE
from loadtest.scenarios.peers import COMMANDS, NGINX_ROUND_ROBIN
from loadtest.scenarios.runs import Run
from loadtest.scenarios.scenario import Scenario

SEEDS = 10
FAMILY = "quiet"
_APART = {
    NGINX_ROUND_ROBIN: "is no better at this than least_conn",
    ROUND_ROBIN: "is no peer",
    "LiteLLM": "needs a core for itself",
}
assert _APART.keys() <= {ROUND_ROBIN, *COMMANDS}


def family() -> list[Scenario]:
    """Return a scenario for each variant."""
    return [_scenario(variant) for variant in VARIANTS]


def verdicts(runs: Sequence[Run]) -> list[tuple[str, bool]]:
    """Hold Tidegate against each peer over all seeds, and against the best of them in each seed."""
    by = {name: {run.seed: run for run in runs if run.gateway == name} for name in {run.gateway for run in runs}}
    ours = by.pop(TIDEGATE, {})
    told = []
    for name, theirs in sorted(by.items()):
        seeds = sorted(ours.keys() & theirs.keys())
        if seeds:
            own, other = (median(rows[seed].share for seed in seeds) for rows in (ours, theirs))
            worse = own > other and is_certain([ours[seed].missed - theirs[seed].missed for seed in seeds])
            told.append((f"median {own:.2%} missed, behind {name} {other:.2%}", not worse))
    for seed, run in sorted(ours.items()):
        best = min((theirs[seed].missed for theirs in by.values() if seed in theirs), default=run.missed)
        if run.missed > 2 * best + max(1.0, 0.01 * run.requests):
            told.append((f"seed {seed}: {run.missed} of {run.requests} missed, against {best}", False))
    return told


def _scenario(variant: Variant) -> Scenario:
    name = "".join(char for char in variant.name.replace(" ", "-") if char != ",")
    return Scenario.model_validate(
        {
            "name": f"{FAMILY}-{name}",
            "title": f"Quiet: {variant.name}",
            "about": f"{variant.rate:g} requests a second, engines: {variant.engines}; short spells, then all is well.",
            "seconds": SECONDS,
            "judged": JUDGED,
            "engines": {"gpu": {"count": variant.engines, "engine": {"step_base": 0.03, "prefix_caching": 0}}},
            "load": [
                {"name": "chat", "rate": variant.rate, "prompt_tokens": (100, 1500), "output_tokens": (10, 60)},
            ],
            "faults": [
                {
                    "at": spell.at,
                    "until": spell.at + spell.seconds,
                    "engines": [f"gpu-{number}" for number in spell.engines],
                    "set": _faults(spell),
                    "label": f"{', '.join(f'gpu-{number}' for number in spell.engines)}: {variant.name}",
                }
                for spell in variant.spells
            ],
            "objective": {"ttft": "2s", "tpot": "100ms"},
            "without": _APART,
            "repeat": SEEDS,
        }
    )


def _faults(spell: Spell) -> dict[str, object]:
    """Say what befalls engines in the simulated server's terms; a pause is a step that does not end in time."""
    if spell.unready:
        return {"not_ready_seconds": spell.seconds}
    if spell.down:
        return {"refuse": True, "cut_after": 0}
    return {"slow": 200.0 if spell.paused else spell.slow, "error_rate": spell.failing}
