"""First, do no harm: requests served in time with the gateway's refusals, beside the same requests without them."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil, inf
from pathlib import Path
from random import Random

from gateway.policy.admission.decide import Shed
from gateway.policy.routing.limit_evidence import UNLIMITED
from loadtest.admission.seats import THRESHOLDS, WITHOUT_SHARES, Drawn, Guest, Lengths, Policy, Seats

SEEDS = 10
TAIL, GRACE = 30.0, 5.0
"""Seconds of light load after the load's end, and those after which no request is refused early any more that would be
served otherwise: a queue of requests that last for long outlives the load."""
LIGHT = 0.1
SLOT, LARGE = 1000, 3.0
"""Tokens of the KV cache for each slot, and how many times as many a large request needs."""
REQUESTS = 250
BEGIN, END = "<!-- harm: written by python -m loadtest.admission harm -->", "<!-- end of harm -->"
PAGE = Path(__file__).parents[2] / "docs" / "admission.md"
MIXES: Mapping[str, Mapping[str, float]] = {
    "standard": {"standard": 1.0},
    "interactive and batch": {"interactive": 0.5, "batch": 0.5},
    "all three": {"interactive": 1.0, "standard": 1.0, "batch": 1.0},
}
MIXED = ("interactive and batch", "all three")
LENGTHS = {"interactive": 0.5, "standard": 1.0, "batch": 2.0}
"""How long requests of a class hold a slot, beside each other."""
ALONE = 2.0
"""The TTFT threshold of an impatient class, in seconds, that `pace` is told in."""
BASELINES = (Policy(early=False), Policy(early=False, patient=True))


@dataclass(frozen=True)
class Cell:
    """One kind of service: `load` times its capacity, at `rate` requests a second, a first token after `pace` times the
    2 s of the objective; for `spell` seconds in the middle the engines are ten times slower.

    `fixed` slots are set by the routes; with `kv` requests need so different parts of the KV cache that it bounds them;
    an engine that has `room` for few to wait says that it is busy; with `hold` sheddable classes are held back while
    interactive requests wait.
    """

    load: float
    rate: float
    pace: float
    mix: str
    spell: float = 0.0
    engines: int = 1
    fixed: int | None = None
    kv: bool = False
    room: float = inf
    hold: bool = False

    @property
    def special(self) -> str:
        """What sets it apart, in words."""
        if self.fixed is not None:
            return f"fixed at {self.fixed}"
        if self.kv:
            return "KV cache"
        if self.hold:
            return "held back"
        return f"room for {self.room:g}" if self.room < inf else f"{self.spell:g} s slow" if self.spell else "-"

    @property
    def ttft(self) -> float:
        """Seconds that an engine takes for a first token."""
        return self.pace * ALONE

    @property
    def seats(self) -> int:
        """Requests that one engine serves at once: as many as make answers last longer than their first tokens."""
        if self.fixed is not None:
            return self.fixed
        few = {0.2: 1, 2.0: 4, 10.0: 16, 50.0: 64}[self.rate]
        return max(few, ceil(1.5 * self.ttft * self.rate / self.load / self.engines))

    @property
    def holding(self) -> float:
        """Seconds that an answer takes, on average."""
        return self.load * self.seats * self.engines / self.rate

    @property
    def span(self) -> float:
        """Seconds of load."""
        return min(600.0, max(30.0, REQUESTS / self.rate, 3 * self.holding))

    def draw(self, seed: int) -> list[Drawn]:
        """Return the requests of one run, light load at its end included."""
        rng, shares = Random(f"{self} {seed}"), MIXES[self.mix]
        found: list[Drawn] = []
        at = rng.expovariate(self.rate)
        while at < self.span + TAIL:
            name = rng.choices(list(shares), list(shares.values()))[0]
            found.append(Drawn(at, name, self._kv(rng) if self.kv else 1))
            at += rng.expovariate(self.rate * (LIGHT / max(LIGHT, self.load) if at >= self.span else 1.0))
        return found

    def _kv(self, rng: Random) -> int:
        """Return the tokens of one request, a slot's worth on average; one in ten is large."""
        mean = LARGE if rng.random() < 0.1 else 0.75
        return max(1, min(int(SLOT * rng.gammavariate(2.0, 0.5) * mean), self.seats * SLOT))

    def lengths(self, seed: int) -> Lengths:
        """Return how long requests hold their slots in one run."""
        shares = MIXES[self.mix]
        mean = sum(LENGTHS[name] * share for name, share in shares.items()) / sum(shares.values())
        return {
            name: partial(_length, Random(f"{self} {seed} {name}"), self.holding * LENGTHS[name] / mean)
            for name in shares
        }

    def slow(self, now: float) -> float:
        """Return how many times slower everything is."""
        return 10.0 if self.span / 2 <= now < self.span / 2 + self.spell else 1.0

    def run(self, seed: int, policy: Policy) -> "Tally":
        """Play one run to its end; who is refused long after the load is asked after in a run without refusals."""
        guests = self._play(seed, policy, max(30.0, 10 * self.holding))
        tally = self._tally(guests)
        late = [number for number, guest in enumerate(guests) if self._is_refused_late(guest)]
        if late:
            others = self._play(seed, replace(policy, early=False), max(THRESHOLDS.values()))
            tally.afterwards = sum(others[number].first >= 0 for number in late)
        return tally

    def _play(self, seed: int, policy: Policy, rest: float) -> Sequence[Guest]:
        world = Seats(
            self.draw(seed),
            self.lengths(seed),
            policy,
            seats=3 * self.seats if self.kv else self.seats,
            engines=self.engines,
            ttft=self.ttft,
            limit=self.seats if self.seats <= 4 and not self.kv and self.room == inf else None,
            slow=self.slow,
            room=self.room,
            kv=self.seats * SLOT if self.kv else UNLIMITED,
            hold=self.hold and policy.early,
        )
        world.run(self.span + TAIL + rest)
        return world.guests

    def _is_refused_late(self, guest: Guest) -> bool:
        return guest.why is Shed.HOPELESS and guest.drawn.at > self.span + GRACE

    def _tally(self, guests: Sequence[Guest]) -> "Tally":
        tally = Tally()
        for guest in guests:
            name, arrived = guest.drawn.name, guest.drawn.at
            tally.early += guest.why is Shed.HOPELESS
            tally.inversions += guest.why is not None and guest.overtaken
            if arrived < self.span:
                tally.arrived[name] += 1
                tally.in_time[name] += 0 <= guest.first <= arrived + self._allowed(name)
        return tally

    def _allowed(self, name: str) -> float:
        """What is in time: within the threshold, or where the engine alone is slower, so long after its own time."""
        threshold = THRESHOLDS[name]
        return threshold if self.ttft < threshold else threshold + self.ttft


@dataclass
class Tally:
    """What became of requests, by class; `early` were refused at once, `afterwards` those of them that came after the
    load and are served where none is refused early."""

    arrived: Counter[str] = field(default_factory=Counter)
    in_time: Counter[str] = field(default_factory=Counter)
    early: int = 0
    inversions: int = 0
    afterwards: int = 0

    def add(self, other: "Tally") -> None:
        """Pool another seed."""
        for name in other.arrived:
            self.arrived[name] += other.arrived[name]
            self.in_time[name] += other.in_time[name]
        self.early += other.early
        self.inversions += other.inversions
        self.afterwards += other.afterwards


@dataclass
class Row:
    """One cell with refusals, and without them in two ways."""

    cell: Cell
    seen: Tally
    without: Sequence[Tally]

    def faults(self) -> Iterator[str]:
        """Return what is wrong, in words."""
        seen, total = self.seen, sum(self.seen.arrived.values())
        for other in self.without:
            lost = sum(other.in_time.values()) - sum(seen.in_time.values())
            if lost > _tolerance(total):
                yield f"{lost} fewer in time"
        gained = 0
        for name in sorted(seen.arrived, key=lambda each: WITHOUT_SHARES[each].priority):
            less = self.without[0].in_time[name] - seen.in_time[name]
            if less > max(_tolerance(seen.arrived[name]), gained):
                yield f"{less} fewer of {name} in time"
            gained += max(0, -less)
        most = 0 if self.cell.load <= 0.5 else 0.01 * total if self.cell.load <= 0.9 else total
        if seen.early > most:
            yield f"{seen.early} refused early at {self.cell.load:g}x"
        if seen.inversions:
            yield f"{seen.inversions} refused while a lower class was served"
        if seen.afterwards:
            yield f"{seen.afterwards} refused after the load who would be served"


def _length(rng: Random, mean: float) -> float:
    return mean * rng.gammavariate(2.0, 0.5)


def _tolerance(count: int) -> float:
    return max(0.01 * count, 2)


def cells() -> list[Cell]:
    """Return the grid."""
    found = [
        Cell(load, rate, pace, mix)
        for load in (0.1, 0.5, 0.9, 1.5, 4.0)
        for rate in (0.2, 2.0, 10.0, 50.0)
        for pace in (0.02, 0.5, 1.25, 10.0)
        for mix in MIXES
        if (pace < 10 or rate <= 2) and (pace != 0.5 or mix == "all three")
    ]
    found += [
        Cell(load, rate, pace, mix, spell, engines)
        for load in (0.1, 0.5, 0.9)
        for rate, engines in ((0.2, 1), (2.0, 1), (2.0, 4), (10.0, 2))
        for pace in (0.02,)
        for mix in ("standard", "all three")
        for spell in (3.0, 10.0)
    ]
    for load in (0.1, 0.5, 0.9, 1.5, 4.0):
        for mix in ("standard", "all three"):
            found += [Cell(load, rate, 0.02, mix, fixed=slots) for rate, slots in ((0.2, 4), (2.0, 1), (10.0, 4))]
            found += [Cell(load, rate, 0.02, mix, kv=True) for rate in (2.0, 10.0)]
            found += [Cell(load, rate, 0.02, mix, room=room) for rate, room in ((2.0, 1), (10.0, 2))]
        found += [Cell(load, rate, 0.02, mix, hold=True) for rate in (2.0, 10.0) for mix in MIXED]
    return found


@dataclass(frozen=True)
class Share:
    """What is played: of the cells whose words match `only` every `parts`-th, from the `part`-th on; `seeds` of each.

    The default is the whole grid. `jobs` cells are played at a time.
    """

    only: str = ""
    part: int = 1
    parts: int = 1
    seeds: int = SEEDS
    jobs: int = 1

    @property
    def is_whole(self) -> bool:
        """Whether its table is that of the docs."""
        return not self.only and self.parts == 1 and self.seeds == SEEDS

    def cells(self) -> list[Cell]:
        """Return the cells, in the order of the grid."""
        return [cell for cell in cells() if re.search(self.only, str(cell))][self.part - 1 :: self.parts]


def measure(cell: Cell, seeds: int) -> Row:
    """Play one cell."""
    row = Row(cell, Tally(), [Tally() for _ in BASELINES])
    for seed in range(1, seeds + 1):
        row.seen.add(cell.run(seed, Policy()))
        for policy, tally in zip(BASELINES, row.without, strict=True):
            tally.add(cell.run(seed, policy))
    return row


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, those of the same load and pace together."""
    lines = [
        "| load | first token, of 2 s | beside | requests | in time | none early | none ever | early | inversions |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    groups: dict[tuple[float, float, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.cell.load, row.cell.pace, row.cell.special), []).append(row)
    for (load, pace, special), group in sorted(groups.items(), key=lambda each: (each[0][2], *each[0][:2])):
        arrived = sum(sum(row.seen.arrived.values()) for row in group)
        shares = [
            sum(sum(tally.in_time.values()) for tally in tallies) / max(1, arrived)
            for tallies in ([row.seen for row in group], *zip(*(row.without for row in group), strict=True))
        ]
        early = sum(row.seen.early for row in group) / max(1, arrived)
        inversions = sum(row.seen.inversions for row in group)
        words = " | ".join(f"{share:.1%}" for share in shares)
        lines.append(f"| {load:g}x | {pace:.0%} | {special} | {arrived:,} | {words} | {early:.1%} | {inversions} |")
    return "\n".join(lines)


def write(text: str, page: Path = PAGE) -> None:
    """Put the table between its marks."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def harm(share: Share) -> int:
    """Play the grid, or a share of it; return 1 when a cell is worse off with refusals."""
    rows, failed = [], 0
    with ProcessPoolExecutor(share.jobs) as pool:
        for row in pool.map(partial(measure, seeds=share.seeds), share.cells()):
            rows.append(row)
            for fault in dict.fromkeys(row.faults()):
                failed += 1
                print(f"FAIL {row.cell}: {fault}", flush=True)
    print(table(rows))
    print(f"{'FAIL' if failed else 'ok  '} {len(rows)} cells, {failed} faults")
    if share.is_whole:
        write(table(rows))
    return 1 if failed else 0
