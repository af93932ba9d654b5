"""`python -m loadtest.routing quiet`: quiet services behind Tidegate and behind models of its peers, many times over.

Tidegate may not miss more than the best peer in any variant (median of the seeds), nor, in any single seed, more than
twice as much plus 1 % of the requests, or one. Where a stream breaks with its engine, or half the calls fail, it is
chance whom it hits: a median counts as worse where the mean is too, by two standard errors of the difference.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, median, pstdev

from loadtest.routing.quiet_world import HAPROXY, NGINX, TIDEGATE, Quiet, Spell, arrivals, counted

SECONDS = 120.0
JUDGED = (10.0, 110.0)
GATEWAYS = (TIDEGATE, NGINX, HAPROXY)


@dataclass(frozen=True)
class Variant:
    """One quiet service: `rate` requests a second, so many engines, and what befalls them."""

    name: str
    rate: float
    engines: int
    spells: tuple[Spell, ...]


def _some(count: int) -> tuple[int, ...]:
    return tuple(range(count))


VARIANTS = (
    Variant("one, slow twice", 1.5, 1, (Spell(25, 5, (0,), slow=10), Spell(70, 8, (0,), slow=10))),
    Variant("one, very slow once", 0.5, 1, (Spell(40, 15, (0,), slow=20),)),
    Variant("one, fails twice", 2, 1, (Spell(25, 5, (0,), failing=1), Spell(70, 2, (0,), failing=1))),
    Variant("one, paused", 1.5, 1, (Spell(40, 10, (0,), paused=True),)),
    Variant("two, both slow twice", 1.5, 2, (Spell(25, 8, _some(2), slow=10), Spell(70, 5, _some(2), slow=10))),
    Variant("two, one very slow", 1.5, 2, (Spell(40, 15, (0,), slow=20),)),
    Variant("two, one fails half", 3, 2, (Spell(40, 10, (0,), failing=0.5),)),
    Variant("two, one paused", 1.5, 2, (Spell(40, 10, (0,), paused=True),)),
    Variant("two, slow in turn", 5, 2, (Spell(25, 10, (0,), slow=15), Spell(60, 10, (1,), slow=15))),
    Variant("two, one down", 1, 2, (Spell(40, 12, (0,), down=True),)),
    Variant("three, one not ready", 0.5, 3, (Spell(40, 15, (0,), unready=True),)),
    Variant("three, all paused", 5, 3, (Spell(40, 5, _some(3), paused=True),)),
    Variant("four, two slow", 5, 4, (Spell(40, 15, (0, 1), slow=20),)),
    Variant("four, all fail half", 5, 4, (Spell(40, 5, _some(4), failing=0.5),)),
    Variant("four, paused in turn", 2, 4, tuple(Spell(25 + 20 * n, 4, (n,), paused=True) for n in range(4))),
    Variant("four, all a little slow", 1, 4, (Spell(25, 15, _some(4), slow=4), Spell(70, 15, _some(4), slow=4))),
)


@dataclass(frozen=True)
class Outcome:
    """What users missed in one seed of a variant, by gateway, of so many requests."""

    variant: str
    seed: int
    requests: int
    missed: Mapping[str, int]

    @property
    def best_peer(self) -> int:
        """The fewest that any peer missed."""
        return min(count for name, count in self.missed.items() if name != TIDEGATE)

    @property
    def is_harm(self) -> bool:
        """Whether Tidegate missed more than twice as much as the best peer and 1 % of the requests, or one."""
        return self.missed[TIDEGATE] > 2 * self.best_peer + max(1.0, 0.01 * self.requests)


def play(variant: Variant, seed: int, gateway: str) -> Quiet:
    """Play one seed of a variant through one gateway, to its end."""
    load = arrivals(seed, variant.rate, SECONDS)
    world = Quiet(gateway, seed, load, variant.spells, variant.engines)
    world.run(SECONDS + 40.0)
    return world


def outcomes(variant: Variant, seeds: Sequence[int]) -> Iterator[Outcome]:
    """Play a variant through every gateway, each seed alike."""
    for seed in seeds:
        rows = {name: counted(play(variant, seed, name), *JUDGED) for name in GATEWAYS}
        requests = rows[TIDEGATE][1]
        yield Outcome(variant.name, seed, requests, {name: missed for name, (missed, _) in rows.items()})


def medians(found: Sequence[Outcome]) -> dict[str, float]:
    """Return the median share of missed requests of each gateway."""
    return {name: median(each.missed[name] / max(1, each.requests) for each in found) for name in GATEWAYS}


def breaches(found: Sequence[Outcome]) -> list[str]:
    """Say in words where Tidegate did harm in a variant; empty where it did none."""
    shares = medians(found)
    best = min((name for name in GATEWAYS if name != TIDEGATE), key=lambda name: shares[name])
    told = []
    if shares[TIDEGATE] > shares[best] and is_certain([each.missed[TIDEGATE] - each.missed[best] for each in found]):
        told.append(f"median {shares[TIDEGATE]:.2%} against {shares[best]:.2%} of {best}")
    told += [
        f"seed {each.seed}: {each.missed[TIDEGATE]} of {each.requests} against {each.best_peer}"
        for each in found
        if each.is_harm
    ]
    return told


def is_certain(differences: Sequence[int]) -> bool:
    """Whether a mean difference above 0 is more than chance."""
    return fmean(differences) > 2 * pstdev(differences) / sqrt(len(differences))
