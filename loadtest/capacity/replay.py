"""Replays of real load and of a crowd against what the gateway wants, in virtual time, beside an oracle.

Exits 1 when the objective is missed, when it costs more than 1.3 times what the oracle does, or when it changes
direction more than once in a cool-down.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf
from pathlib import Path
from random import Random
from typing import Annotated

import typer

from gateway.policy.capacity.want import Rules
from loadtest.capacity.oracle import Choice, Oracle, choices
from loadtest.capacity.world import PATIENCE, TARGET, Gateway, Pool, Request, play, replicas_for
from loadtest.traces.formats import TraceError, read_trace

TRACES = Path("../shared/traces")
HOUR = 3600.0
WARM_UP = 180.0
UNKNOWABLE = WARM_UP + 60.0
"""Seconds from the begin of a crowd within which no replica can be there for it."""
MOST_COST = 1.3
SLOTS = 4
MEAN_HOLDING = 3.125
SILENCE = 3600.0
RULES = Rules(min=1, max=60, warm_up=WARM_UP)


@dataclass(frozen=True)
class Scene:
    """Requests, when crowds begin that nothing announces, and when the last request comes."""

    name: str
    requests: Sequence[Request]
    crowds: tuple[float, ...]
    end: float

    def share(self, pool: Pool) -> float:
        """Return the share of good requests, of those that came when a replica could have been there."""
        judged = [
            good for at, good in pool.answers if not any(begin <= at < begin + UNKNOWABLE for begin in self.crowds)
        ]
        return sum(judged) / len(judged)


@dataclass(frozen=True)
class Engine:
    """How fast a replica is: one slot decodes so many seconds a token, and prefills so many tokens a second."""

    per_token: float
    prefill: float

    def holding(self, prompt: int, output: int) -> float:
        return prompt / self.prefill + output * self.per_token


FAST, SLOW = Engine(0.025, 8000.0), Engine(0.1, 2000.0)


def trace(path: Path, name: str, engine: Engine) -> Scene:
    """Return a trace as it was recorded."""
    requests = [(each.at, engine.holding(each.prompt_tokens, each.output_tokens)) for each in read_trace(path)]
    return Scene(name, requests, crowds(requests), requests[-1][0])


def flash(minutes: int, seed: int = 1) -> Scene:
    """Return a steady load of 1.5 requests/s, four hours long, that is ten times as much after one hour."""
    rng = Random(seed)
    begin, end, last = HOUR, HOUR + 60 * minutes, 4 * HOUR
    now, requests = 0.0, []
    while now < last:
        now += rng.expovariate(15.0 if begin <= now < end else 1.5)
        requests.append((now, _some_holding(rng)))
    return Scene(f"crowd of {minutes} min, 10 x", requests, (0.0, begin), last)


def steady(slots: float, seed: int = 1, hours: int = 4) -> Scene:
    """Return hours of a load that holds so many slots on average."""
    rng = Random(f"{slots} {seed}")
    now, requests = 0.0, []
    while now < hours * HOUR:
        now += rng.expovariate(slots / MEAN_HOLDING)
        requests.append((now, _some_holding(rng)))
    return Scene(f"steady, {slots:g} slots", requests, (0.0,), hours * HOUR)


def _some_holding(rng: Random) -> float:
    return FAST.holding(1000, round(rng.expovariate(1 / 120)))


def crowds(requests: Sequence[Request]) -> tuple[float, ...]:
    """Return when more came than ever before: the first minute, and each with twice the most of all minutes before."""
    counts = [0] * (int(requests[-1][0] // 60) + 1)
    for at, _ in requests:
        counts[int(at // 60)] += 1
    return (0.0, *(60.0 * minute for minute in range(1, len(counts)) if counts[minute] > 2 * max(counts[:minute])))


@dataclass(frozen=True)
class Result:
    """What came of one scene: the share of good requests, and replica hours, the oracle's beside them.

    `most` is the highest want, `at_end` how many replicas there are when nothing has come for `SILENCE` seconds.
    """

    name: str
    share: float
    cost: float
    oracle: float | None
    choice: Choice | None
    turns: list[float]
    most: int
    at_end: int
    mase: float | None
    pinball: tuple[float, float] | None

    def row(self) -> str:
        """Return a row of the table."""
        ratio = "-" if self.oracle is None else f"{self.cost / self.oracle:.2f}"
        oracle = "-" if self.oracle is None else f"{self.oracle:.1f}"
        mase = "-" if self.mase is None else f"{self.mase:.2f}"
        own, naive = self.pinball or (0.0, 0.0)
        return (
            f"| {self.name} | {100 * self.share:.2f} | {self.cost:.1f} | {oracle} | {ratio} | {self.most} "
            f"| {len(self.turns)} | {self.at_end} | {mase} | {own:.2f} / {naive:.2f} |"
        )

    def wrong(self) -> list[str]:
        """Return what is not as it has to be."""
        found = []
        if self.share < TARGET:
            found.append(f"{100 * self.share:.2f} % good")
        if self.oracle is not None and self.cost > MOST_COST * self.oracle:
            found.append(f"{self.cost / self.oracle:.2f} x the oracle's cost")
        if any(later - earlier < RULES.cool_down for earlier, later in pairwise(self.turns)):
            found.append("two changes of direction in one cool-down")
        if self.at_end != RULES.min:
            found.append(f"{self.at_end} replicas {SILENCE / 60:.0f} min after the last request")
        return [f"{self.name}: {each}" for each in found]


def run(scene: Scene) -> Result:
    """Play a scene with the gateway, and a quiet hour after it."""
    gateway = Gateway(RULES)
    pool = Pool(SLOTS, WARM_UP, replicas_for(scene.requests, SLOTS))
    play(scene.requests, gateway, pool, scene.end)
    share, cost = scene.share(pool), pool.replica_seconds / HOUR
    turns, most = gateway.turns(), max(want.target for _, want in gateway.wants)
    forecast = gateway.forecast
    mase, pinball = forecast.mase, forecast.pinball
    play((), gateway, pool, scene.end + SILENCE, begin=scene.end)
    return Result(scene.name, share, cost, None, None, turns, most, pool.replicas, mase, pinball)


def oracle(scene: Scene) -> tuple[float, Choice] | None:
    """Return what the cheapest oracle that keeps the objective costs in replica hours, and which it is."""
    best: tuple[float, Choice] | None = None
    begin = replicas_for(scene.requests, SLOTS)
    for choice in choices():
        pool = Pool(SLOTS, WARM_UP, begin)
        most = best[0] * HOUR if best else inf
        if not play(scene.requests, Oracle(choice, scene.requests), pool, scene.end, most=most):
            continue
        if scene.share(pool) >= TARGET:
            best = pool.replica_seconds / HOUR, choice
    return best


def compared(scene: Scene) -> Result:
    """Play a scene with the gateway and with every oracle."""
    result, best = run(scene), oracle(scene)
    return result if best is None else replace(result, oracle=best[0], choice=best[1])


def from_zero() -> list[str]:
    """Return what is wrong with a pool that may have no replica: it goes in to none, and wakes for a request."""
    rng = Random(3)
    requests = [(at, _some_holding(rng)) for at in (10.0, 20.0, 4000.0)]
    gateway = Gateway(replace(RULES, min=0))
    pool = Pool(SLOTS, WARM_UP)
    play(requests, gateway, pool, 3999.0)
    asleep = pool.replicas
    play(requests[2:], gateway, pool, 4300.0, begin=3999.0)
    awake = [now for now, want in gateway.wants if now > 3999 and want.target == 1]
    print(f"at zero traffic: {asleep} replicas after an hour; a request at 4000 s wakes one at {awake[0]:.0f} s")
    return [] if asleep == 0 and awake[0] <= 4001 and pool.replicas == 1 else ["from zero: it does not sleep or wake"]


STEADY = (0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1, 3.0)
"""Slots of loads about that which one replica of four carries within the objective, and two."""
MOST_TURNS = 2
"""Changes of direction in four hours of a load that does not change."""


def replay(
    traces: Annotated[Path, typer.Option(help="Folder with azure2023_conv.csv and azure2023_code.csv.")] = TRACES,
    jobs: Annotated[int, typer.Option(help="Processes.")] = os.cpu_count() or 1,
) -> None:
    """Replay real load and a crowd against what the gateway wants, beside an oracle, in virtual time."""
    print(f"replicas of {SLOTS} slots, {WARM_UP:.0f} s of warm-up, {100 * TARGET:g} % wait at most {PATIENCE:g} s\n")
    print("| load | good % | replica h | oracle | ratio | most | turns | at the end | MASE | pinball / naive |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    wrong = []
    with ProcessPoolExecutor(jobs) as pool:
        for result in pool.map(compared, [*_recorded(traces), flash(60)]):
            print(result.row(), flush=True)
            wrong += result.wrong()
            if result.choice is None:
                wrong.append(f"{result.name}: no oracle keeps the objective")
        short, *others = pool.map(run, [flash(20), *map(steady, STEADY)])
        for result in (short, *others):
            print(result.row(), flush=True)
            wrong += result.wrong()
        wrong += [f"{each.name}: {len(each.turns)} turns" for each in others if len(each.turns) > MOST_TURNS]
    wrong += from_zero()
    for each in wrong:
        print(f"WRONG: {each}")
    print("as it has to be" if not wrong else f"{len(wrong)} wrong")
    raise typer.Exit(1 if wrong else 0)


def _recorded(folder: Path) -> list[Scene]:
    """Return the scenes of the traces; raises typer.BadParameter where one is missing."""
    try:
        return [
            trace(folder / "azure2023_conv.csv", "Azure conversation", FAST),
            trace(folder / "azure2023_code.csv", "Azure code", SLOW),
        ]
    except TraceError as error:
        raise typer.BadParameter(f"{error} (github.com/Azure/AzurePublicDataset has them)") from None
