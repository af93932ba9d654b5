"""The grid: in which worlds rollouts are simulated, and the targets there."""

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.policy.canary.evidence import AVAILABILITY
from loadtest.canary.world import BUDGETS, Clients, Incident, World

DAY = 86_400.0
_MOST_ERRORS = 0.5
RATES = (0.05, 0.2, 1.0, 3.0, 12.0, 60.0, 500.0)
STICKY_RATES = (0.2, 3.0, 12.0)
_MANY_CLIENTS = 1000
"""Clients from which on their own rates of failures even out."""
_FEW_CLIENTS = 60
"""Clients below which fewer than 30 are on either side."""
ERRORS = (0.0001, 0.001, 0.01, 0.05)
LONG_LATE = (0.002, 0.004, 0.03)
MIX = (0.6, 0.3, 0.1)


@dataclass(frozen=True)
class Cell:
    """One world. Its targets are the least share of promotions, and the largest shares of rollbacks and promotions.

    None where there is no target; `why` says the reason.
    """

    name: str
    world: World
    least_promoted: float | None = 0.95
    most_rolled_back: float | None = 0.01
    most_promoted: float | None = None
    why: str = ""


def equal() -> Iterator[Cell]:
    """Candidates that equal stable, assigned request by request."""
    for rate in RATES:
        for errors in ERRORS:
            yield Cell(f"{errors * 100:g} % errors", World(rate, errors))
    for rate in (0.2, 3.0, 60.0):
        yield Cell("1 % errors, three input classes", World(rate, 0.01, late=LONG_LATE, mix=MIX))
        yield Cell("0.1 % errors, cold for 60 s", World(rate, 0.001, cold=60.0))


def incidents() -> Iterator[Cell]:
    """Candidates that equal stable while both fail together."""
    for rate in (0.2, 3.0, 60.0):
        for share in (0.1, 0.5, 1.0):
            name = f"three incidents of 5 min, {share * 100:g} % fail"
            world = World(rate, 0.001, incidents=_spells(share))
            yield Cell(name, world, None, why="what an incident blurs takes longer, and may pause")


def sticky() -> Iterator[Cell]:
    """Candidates that equal stable, with clients that stay where they are."""
    unlike = (
        "few clients that fail at rates of their own, or unlike traffic: they look like versions that do; it may pause"
    )
    for rate in STICKY_RATES:
        for count in (20, 200, 1000):
            for kind, clients, has_target in (
                ("alike", Clients(count, alike=True), True),
                ("each with its own rate of failures", Clients(count), count >= _MANY_CLIENTS),
                ("heavy-tailed, each with its own", Clients(count, heavy=True), False),
            ):
                world = World(rate, 0.01, clients=clients)
                # With so few, one client's failures are the candidate's: the absolute guard may take it back for them.
                most_back = 0.01 if has_target or count >= _FEW_CLIENTS else None
                least, why = (0.95, "") if has_target else (None, unlike)
                yield Cell(f"{count:,} clients, {kind}", world, least, most_back, why=why)
    crowd = Clients(200, heavy=True)
    world = World(3.0, 0.01, late=LONG_LATE, mix=MIX, clients=crowd, mixed_clients=True)
    yield Cell("200 clients, heavy-tailed, each with its own mix of inputs", world, None, why=unlike)


def worse() -> Iterator[Cell]:
    """Candidates that are worse: never promoted at twenty times the errors, seldom at five."""
    for times, most in ((5.0, 0.08), (20.0, 0.0)):
        for rate in RATES:
            for errors in ERRORS:
                if errors * times <= _MOST_ERRORS:
                    within = errors * times < BUDGETS[AVAILABILITY]
                    why = "a candidate that is worse than stable, but within the objective" if within else ""
                    name = f"{errors * 100:g} % errors x {times:g}"
                    yield Cell(name, World(rate, errors, times), None, None, None if within else most, why)
        world = World(3.0, 0.001, times, incidents=_spells(0.5))
        yield Cell(f"0.1 % errors x {times:g} and incidents", world, None, None, most)


def _spells(share: float) -> tuple[Incident, ...]:
    return tuple(Incident(at, 300.0, share) for at in (120.0, 1500.0, 4000.0))


GROUPS = {"equal": equal, "incidents": incidents, "sticky": sticky, "worse": worse}
