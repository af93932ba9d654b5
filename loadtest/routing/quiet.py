"""`python -m loadtest.routing quiet`: quiet services behind Tidegate and behind models of its peers, many times over.

Tidegate may not miss more than the best peer in any variant (median of the seeds), nor, in any single seed, more than
twice as much plus 1 % of the requests, or one.

Chance that no gateway can know is the same for all: a seed is played with the spells at each of the engines in turn
(which of them dies, with whose streams, is chance), and whether the n-th attempt of a request fails is drawn once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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

    def turned(self) -> "Iterator[Variant]":
        """Return it with its spells at each of the engines in turn; as it is where they are at all of them."""
        turns = 1 if all(len(spell.engines) == self.engines for spell in self.spells) else self.engines
        for turn in range(turns):
            spells = [
                replace(spell, engines=tuple((number + turn) % self.engines for number in spell.engines))
                for spell in self.spells
            ]
            yield replace(self, spells=tuple(spells))


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
    """What users missed in one seed of a variant, by gateway, of so many requests: all turns together."""

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
        requests, missed = 0, dict.fromkeys(GATEWAYS, 0)
        for turned in variant.turned():
            for name in GATEWAYS:
                count, due = counted(play(turned, seed, name), *JUDGED)
                missed[name] += count
            requests += due
        yield Outcome(variant.name, seed, requests, missed)


def medians(found: Sequence[Outcome]) -> dict[str, float]:
    """Return the median share of missed requests of each gateway."""
    return {name: median(each.missed[name] / max(1, each.requests) for each in found) for name in GATEWAYS}


def breaches(found: Sequence[Outcome]) -> list[str]:
    """Say in words where Tidegate did harm in a variant; empty where it did none."""
    shares = medians(found)
    best = min((name for name in GATEWAYS if name != TIDEGATE), key=lambda name: shares[name])
    told = []
    if shares[TIDEGATE] > shares[best]:
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
