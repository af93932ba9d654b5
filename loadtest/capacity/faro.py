"""The benchmark of Faro (EuroSys'25): ten jobs share a limited number of replicas for six hours."""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from gateway.policy.capacity.allocation import Aim
from loadtest.capacity.faro_policies import Aiad, FairShare, Oneshot, Tidegate
from loadtest.capacity.faro_world import Cluster, Policy, Result, judge

WORKLOAD = Path(__file__).parents[2] / "../shared/traces/faro_input.json"
SEEDS = (24, 32, 40, 42, 62)
SIZES = (16, 32, 36, 40, 44)
JUDGED = 32
"""The size that has targets."""
MOST_VIOLATIONS, MOST_LOST = 0.035, 0.75
MOST_DECISION_SECONDS = 0.05
POLICIES = ("Tidegate", "Sum", "FairShare", "Oneshot", "AIAD")
OWN = POLICIES[0]
_console = Console(width=160)


@dataclass(frozen=True, slots=True)
class Run:
    """One policy at one size with one seed; `decisions` are CPU seconds of each, for the gateway's own."""

    policy: str
    size: int
    seed: int
    result: Result
    decisions: tuple[float, ...]


def read_workload(path: Path) -> NDArray[np.int64]:
    """Return the requests of each job (row) in each minute (column)."""
    minutes = [json.loads(line)["counts"] for line in path.read_text().splitlines() if line.strip()]
    jobs = sorted(minutes[0])
    return np.array([[sum(minute[job].values()) for minute in minutes] for job in jobs], dtype=np.int64)


def make(policy: str, size: int, jobs: int) -> Policy:
    """Return a policy by its name."""
    match policy:
        case "FairShare":
            return FairShare(size, jobs)
        case "Oneshot":
            return Oneshot(jobs)
        case "AIAD":
            return Aiad(jobs)
        case "Sum":
            return Tidegate("Sum", Aim.SUM)
        case _:
            return Tidegate()


def play(counts: NDArray[np.int64], policy: str, size: int, seed: int) -> Run:
    """Simulate one run."""
    decides = make(policy, size, len(counts))
    cluster = Cluster(counts, size, decides.start, seed)
    cluster.run(decides)
    decisions = tuple(decides.seconds) if isinstance(decides, Tidegate) else ()
    return Run(policy, size, seed, judge(cluster), decisions)


def missed(runs: Sequence[Run]) -> list[str]:
    """Say which targets the gateway's own policy misses."""
    found = []
    judged = [run for run in runs if run.policy == OWN and run.size == JUDGED]
    if judged:
        violations = fmean(run.result.violation_rate for run in judged)
        lost = fmean(run.result.lost_utility for run in judged)
        if violations > MOST_VIOLATIONS:
            found.append(f"{JUDGED} replicas: violation rate {violations:.4f} (most {MOST_VIOLATIONS})")
        if lost > MOST_LOST:
            found.append(f"{JUDGED} replicas: lost utility {lost:.3f} (most {MOST_LOST})")
    for size in sorted({run.size for run in runs}):
        decisions = [each for run in runs if run.policy == OWN and run.size == size for each in run.decisions]
        if decisions and np.quantile(decisions, 0.99) > MOST_DECISION_SECONDS:
            found.append(
                f"{size} replicas: p99 of a decision {np.quantile(decisions, 0.99) * 1000:.0f} ms (most 50 ms)"
            )
    return found


def _table(runs: Sequence[Run]) -> Table:
    table = Table(title="means over the seeds", title_justify="left")
    for column in ("replicas", "policy"):
        table.add_column(column)
    for column in ("seeds", "violation rate", "lost utility", "worst job", "changes of direction", "decision p50, p99"):
        table.add_column(column, justify="right")
    for size, policy in dict.fromkeys((run.size, run.policy) for run in runs):
        group = [run for run in runs if (run.size, run.policy) == (size, policy)]
        decisions = [each * 1000 for run in group for each in run.decisions]
        table.add_row(
            str(size),
            policy,
            str(len(group)),
            f"{fmean(run.result.violation_rate for run in group):.3f}",
            f"{fmean(run.result.lost_utility for run in group):.2f}",
            f"{fmean(max(run.result.violations) for run in group):.3f}",
            f"{fmean(run.result.changes_of_direction for run in group):.0f}",
            f"{np.median(decisions):.0f}, {np.quantile(decisions, 0.99):.0f} ms" if decisions else "-",
        )
    return table


def faro(
    *,
    workload: Annotated[
        Path, typer.Option(envvar="FARO_WORKLOAD", help="The authors' input.json, one line for each minute.")
    ] = WORKLOAD,
    sizes: Annotated[str, typer.Option(help="Limits of replicas, with commas.")] = ",".join(map(str, SIZES)),
    seeds: Annotated[str, typer.Option(help="Seeds, with commas.")] = ",".join(map(str, SEEDS)),
    policies: Annotated[str, typer.Option(help="Policies, with commas.")] = ",".join(POLICIES),
    minutes: Annotated[int, typer.Option(help="Play only so many minutes (0: all).")] = 0,
    processes: Annotated[int, typer.Option(help="Runs at the same time.")] = 2,
) -> None:
    """Play Faro's workload under several policies; exit code 1 where the gateway's own misses a target."""
    if not workload.is_file():
        raise typer.BadParameter(
            f"{workload} does not exist; it is input.json of experiments/10_top9_twitter_1_1600_avgproc_min_int5m_"
            "reduced_6hr_augmented in github.com/beomyeol/faro",
            param_hint="--workload",
        )
    names = policies.split(",")
    unknown = [each for each in names if each not in POLICIES]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(POLICIES)}", param_hint="--policies")
    counts = read_workload(workload)
    counts = counts[:, :minutes] if minutes else counts
    begun = time.perf_counter()
    cells = [
        (counts, policy, int(size), int(seed))
        for size in sizes.split(",")
        for policy in names
        for seed in seeds.split(",")
    ]
    if processes == 1:
        runs = [play(*cell) for cell in cells]
    else:
        with ProcessPoolExecutor(processes) as pool:
            runs = list(pool.map(play, *zip(*cells, strict=True)))
    _console.print(_table(runs))
    _console.print(f"{counts.sum():,} requests of {len(counts)} jobs in each run; {time.perf_counter() - begun:.0f} s")
    faults = missed(runs)
    for each in faults:
        _console.print(each)
    if faults:
        raise typer.Exit(1)
