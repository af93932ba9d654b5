"""Forty seeded runs with and without a sick engine: does the residual score tell the sick from the busy?"""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from gateway.policy.slo.objective import DEFAULT
from loadtest.routing.world import Server, Workload, World

WARM_UP = 40.0
WATCHED = 60.0
CONFIRMED = 8
"""Ticks in a row (2 s) that a backend must stand out to be called sick."""


@dataclass(frozen=True)
class Run:
    """One labelled run: what happened, to which backend ("" none), and which was called sick."""

    seed: int
    scenario: str
    sick: str
    found: tuple[str, ...]
    after: float | None

    @property
    def cell(self) -> str:
        """Where it falls in the confusion table; to blame the wrong one is to find a well one sick."""
        if not self.sick:
            return "FP" if self.found else "TN"
        if self.sick not in self.found:
            return "FN"
        return "TP" if self.found == (self.sick,) else "FP"


def run(seed: int) -> Run:
    """Return one run: an even seed changes the workload, an odd one makes an engine sick."""
    rng = Random(1000 + seed)
    world = World(seed, DEFAULT, Workload(rate=rng.uniform(30, 70), prompt=200, output=60))
    world.run(WARM_UP)
    if seed % 2 == 0:
        scenario, sick = _change(world, rng, seed // 2), ""
    else:
        victim = rng.choice(world.servers)
        scenario, sick = _injure(victim, rng, seed // 2, world.now), victim.name
    streaks: dict[str, int] = {}
    found: dict[str, float] = {}

    def watch() -> None:
        for server in world.servers:
            out = server.health.sickness is not None
            streaks[server.name] = streaks.get(server.name, 0) + 1 if out else 0
            if streaks[server.name] >= CONFIRMED:
                found.setdefault(server.name, world.now - WARM_UP)

    world.every_tick.append(watch)
    world.run(WARM_UP + WATCHED)
    return Run(seed, scenario, sick, tuple(sorted(found)), found.get(sick))


def f1(cells: Mapping[str, int]) -> float:
    """Return the harmonic mean of precision and recall."""
    return 2 * cells["TP"] / (2 * cells["TP"] + cells["FP"] + cells["FN"])


def _change(world: World, rng: Random, kind: int) -> str:
    """Change the work for everyone."""
    workload = world.workload
    match kind % 5:
        case 0:
            workload.prompt, workload.rate = 8000, rng.uniform(2, 5)
            return "prompts 200 -> 8,000"
        case 1:
            workload.rate *= 2
            return "twice the requests"
        case 2:
            workload.output *= 4
            workload.rate *= 0.6
            return "answers 4x as long"
        case 3:
            workload.prompt = 2000
            workload.rate *= 0.5
            return "prompts 200 -> 2,000"
        case _:
            workload.rate *= 0.2
            return "a fifth of the requests"


def _injure(victim: Server, rng: Random, kind: int, now: float) -> str:
    """Make one engine sick."""
    match kind % 5:
        case 0 | 1 | 2:
            victim.slow = rng.uniform(1.5, 5.0)
            return f"slowed {victim.slow:.1f}x"
        case 3:
            victim.freeze = (rng.uniform(1.0, 3.0), rng.uniform(3.0, 8.0))
            victim.next_freeze = now
            return f"stalls {victim.freeze[0]:.1f} s every {sum(victim.freeze):.1f} s"
        case _:
            victim.error_rate = rng.uniform(0.1, 1.0)
            return f"fails {victim.error_rate:.0%}"
