"""How soon a fault pages, beside who knows all: the budget's share is spent, and five requests have failed."""

from dataclasses import dataclass
from math import sqrt
from random import Random
from statistics import median

from gateway.policy.slo.alerts import MIN_BAD, PAIRS, AlertPair
from gateway.policy.slo.burn import Counts
from gateway.policy.slo.objective import DAY
from loadtest.alerts.world import SHAPES, SLO, Service, constant

PAGES = PAIRS[:2]
HISTORY = 4 * DAY
LONGEST = 12 * 3600.0
"""Seconds after which a page is lost: three and a half times what the slowest of these faults takes who knows all."""
TARGETS = (0.95, 0.99, 0.999, 0.9999)
RATES = (1 / 600, 1 / 60, 1 / 10, 1.0, 10.0, 1000.0)
SHARES = (0.001, 0.01, 0.02, 0.05, 0.2, 1.0)
CLEAR = 1.3
"""A fault that burns this much faster than a factor must page; one nearer to it may or may not."""
BY_CHANCE_SEEDS = 5
"""Faults of one kind whose median is held against the ideal where chance moves the time to page."""
STEADY = 1.0
"""Requests per second from which the time to page is held against the ideal."""


@dataclass(frozen=True, slots=True)
class Case:
    """One service and one fault: `share` of its requests fail from some moment on, with or without days before that."""

    target: float
    rate: float
    share: float
    lived: bool
    seed: int

    def __str__(self) -> str:
        since = "days before" if self.lived else "a new service"
        return f"{100 * self.target:g} %, {self.rate:.3g}/s, {self.share:.1%} fail, {since}, seed {self.seed}"

    @property
    def burn(self) -> float:
        """How fast it burns."""
        return self.share / (1 - self.target)

    @property
    def ideal(self) -> float:
        """Seconds to the page of who knows all."""
        spent = min(pair.factor(SLO) / self.burn * pair.long for pair in PAGES if self.burn > pair.factor(SLO))
        return max(spent, MIN_BAD / (self.rate * self.share))

    @property
    def certain(self) -> float:
        """Seconds until chance does not explain the failures among the requests of a long window."""
        found = []
        for pair in PAGES:
            total = round(self.rate * pair.long)
            if self.burn > pair.factor(SLO):
                found.append(_speaking(pair, total, 1 - self.target) / (self.rate * self.share))
        return min(found)

    @property
    def latest(self) -> float:
        """Seconds to the page at most: a fifth more than that, and as much again as chance delays so few failures."""
        seconds = max(self.ideal, self.certain)
        return seconds * (1.2 + 2 / sqrt(seconds * self.rate * self.share)) + 10.0 + 2 / self.rate

    @property
    def by_chance(self) -> bool:
        """Whether it is held against the ideal though it takes so few failures that chance moves the time to page."""
        return self.rate >= STEADY and self.rate * self.share * self.certain < 30

    @property
    def must(self) -> bool:
        """Whether it has to page: it burns clearly faster than a factor, and enough requests come in that window."""
        for pair in PAGES:
            share = pair.factor(SLO) * (1 - self.target)
            if self.burn >= CLEAR * pair.factor(SLO) and self.rate * pair.long * self.share >= 2.5 * max(
                MIN_BAD, 4 * share / max(self.share - share, 1e-9)
            ):
                return self.rate * pair.long / 4 >= 1.5
        return False


def _speaking(pair: AlertPair, total: int, budget: float) -> int:
    """Return how many of the events of a long window have to be bad until it speaks."""
    factor = pair.factor(SLO)
    fewest = int(factor * budget * total)
    return next(bad for bad in range(fewest, total + 1) if pair.speaks(Counts(total - bad, bad), factor, budget))


@dataclass(frozen=True, slots=True)
class Found:
    """When a case paged, None if not, and how many pages there were until an hour after the fault's end."""

    case: Case
    seconds: float | None
    pages: int
    resolved: int


def play(case: Case) -> Found:
    """Play one case."""
    service = Service(case.target, constant(case.rate), case.seed)
    if case.lived:
        service.run(HISTORY, 0.1 * (1 - case.target), tick=max(60.0, 1 / case.rate), patience=1800.0)
    pace = min(case.ideal if case.must else LONGEST, LONGEST)
    tick = min(max(1.0, pace / 200), 60.0)
    seconds = service.until_page(LONGEST, case.share, tick=tick)
    if seconds is not None:
        service.run(900.0, case.share, tick=10.0)
        service.run(9 * 3600.0, tick=max(30.0, 0.2 / case.rate))
    return Found(case, seconds, len(service.pages), service.resolved)


def cases(seeds: int, *, quick: bool) -> list[Case]:
    """Return every case that has to page."""
    rates = RATES[1::2] if quick else RATES
    shares = SHARES[1::2] if quick else SHARES
    found = [
        Case(target, rate, share, lived, 1000 * number + seed)
        for number, (target, rate, share, lived) in enumerate(
            (target, rate, share, lived)
            for target in TARGETS
            for rate in rates
            for share in shares
            for lived in (True, False)
        )
        for seed in range(max(seeds, BY_CHANCE_SEEDS))
    ]
    return [case for case in found if case.must and case.seed % 1000 < (BY_CHANCE_SEEDS if case.by_chance else seeds)]


def late(found: list[Found]) -> list[str]:
    """Return what was lost, told twice, or later than it has to be."""
    wrong = []
    by_case: dict[tuple[float, float, float, bool], list[Found]] = {}
    for each in found:
        case = each.case
        by_case.setdefault((case.target, case.rate, case.share, case.lived), []).append(each)
        if each.seconds is None:
            wrong.append(f"{case}: no page")
        elif each.pages != 1:
            wrong.append(f"{case}: {each.pages} pages")
        elif each.resolved < 1:
            wrong.append(f"{case}: never resolved")
    for group in by_case.values():
        case, times = group[0].case, [each.seconds for each in group if each.seconds is not None]
        if times and case.rate >= STEADY and median(times) > case.latest:
            wrong.append(f"{case}: {median(times):.0f} s (at most {case.latest:.0f} s)")
    return wrong


def shaped(seed: int, shape: str, target: float, rate: float) -> Found:
    """Play a total outage of an hour in the middle of a working day, of traffic that is not steady."""
    case = Case(target, rate, 1.0, lived=True, seed=seed)
    service = Service(target, SHAPES[shape](rate), seed)
    service.run(7 * DAY + 12 * 3600.0, 0.1 * (1 - target), tick=max(60.0, 1 / rate), patience=1800.0)
    jitter = Random(seed).uniform(0, 600)
    service.run(jitter, tick=10.0)
    seconds = service.until_page(3600.0, 1.0, tick=2.0)
    service.run(9 * 3600.0, tick=60.0)
    return Found(case, seconds, len(service.pages), service.resolved)
