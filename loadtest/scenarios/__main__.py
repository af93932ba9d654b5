"""`python -m loadtest.scenarios`: play scenarios through several gateways side by side, and write the table."""

import asyncio
import signal
import sys
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gateway.native import is_compiled
from gateway.processes.child import ProcessDied
from loadtest.report.recording import machine
from loadtest.scenarios import benchmarks, runs
from loadtest.scenarios.gateways import NAMES
from loadtest.scenarios.peers import install, missing, versions
from loadtest.scenarios.plan import Plan, Wanted, seconds
from loadtest.scenarios.quiet import FAMILY, family, verdicts
from loadtest.scenarios.scenario import Scenario, load, shipped

_console = Console(width=160, highlight=False)
_IN_VAIN = 3


def main(
    *,
    only: Annotated[list[str] | None, typer.Option(help="Scenarios, by comma or repeated. Without it, all.")] = None,
    gateways: Annotated[list[str] | None, typer.Option(help="Gateways, likewise. Without it, all.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from --seed on.")] = 5,
    seed: Annotated[int, typer.Option(help="First seed.")] = 1,
    trace: Annotated[
        Path | None, typer.Option(help="A trace of a code assistant, in place of a synthetic one.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where recordings go.")] = Path("out/scenarios"),
    docs: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Write benchmarks.md, .csv and .svg here, when nothing is left out."
        ),
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Runs of quiet services that are played side by side.")] = 5,
    keep_all: Annotated[
        bool, typer.Option(help="Keep runs whose load was late, or beside which other programs were busy.")
    ] = False,
    reports: Annotated[bool, typer.Option(help="Write a report of each run too.")] = False,
    again: Annotated[bool, typer.Option(help="Play runs that there are at this commit once more.")] = False,
    table_only: Annotated[bool, typer.Option(help="Play nothing; judge what is in --out, of any commit.")] = False,
) -> None:
    """Play scenarios and say what users experience behind each gateway; runs of this commit are not played twice."""
    # A polite kill unwinds like Ctrl-C, so that nothing is left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    scenarios, names = _scenarios(_split(only)), _gateways(_split(gateways))
    wanted = range(seed, seed + seeds)
    plan = Plan(scenarios, names, wanted, out, trace, keep_all=keep_all, reports=reports, again=again)
    if not table_only:
        install()
        for name, binary in missing().items():
            _console.print(f"left out: {name}, since {binary} is not installed (`make peers`)")
        _play_all(plan, parallel)
    found, commits = plan.judged(any_commit=table_only)
    if docs is not None and not only and not gateways:
        _write(docs, found, commits, trace)
    reached = [_tell(found, scenario) for scenario in scenarios]
    if not table_only and (short := plan.left()):
        _console.print(f"{len(short)} runs are missing, refused or died; the same command plays them again")
    raise typer.Exit(0 if all(reached) and (table_only or not short) else 1)


def _split(wanted: list[str] | None) -> list[str]:
    return [name.strip() for each in wanted or () for name in each.split(",") if name.strip()]


def _gateways(wanted: list[str]) -> Sequence[str]:
    for name in wanted:
        if name not in NAMES:
            raise typer.BadParameter(f"no gateway {name!r}; there are {', '.join(NAMES)}", param_hint="--gateways")
    return wanted or NAMES


def _scenarios(only: list[str]) -> list[Scenario]:
    known = {path.stem: path for path in shipped()}
    quiet = {scenario.name: scenario for scenario in family()}
    wanted = [each for name in only or known for each in (quiet if name == FAMILY else [name])]
    for name in wanted:
        if name not in known and name not in quiet and not Path(name).is_file():
            names = ", ".join([*known, FAMILY, *quiet])
            raise typer.BadParameter(f"no scenario {name!r}; there are {names}", param_hint="--only")
    try:
        return [quiet.get(name) or load(known.get(name, Path(name))) for name in wanted]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--only") from None


def _write(docs: Path, found: list[runs.Run], commits: Sequence[str], trace: Path | None) -> None:
    facts = {**machine(), "versions": ", ".join(f"{name} {version}" for name, version in versions().items())}
    facts["commit"] = ", ".join(commits)
    facts["Tidegate"] = "compiled" if is_compiled() else "not compiled"
    facts["code trace"] = "the real one" if trace else "synthetic, with the real one's statistics"
    facts["measured"] = f"{datetime.now(tz=UTC):%Y-%m-%d}"
    scenarios = [load(path) for path in shipped()]
    (docs / "benchmarks.md").write_text(benchmarks.document(found, scenarios, facts))
    (docs / benchmarks.CHART).write_text(benchmarks.chart(found, scenarios))
    runs.write(docs / "benchmarks.csv", found)


def _play_all(plan: Plan, parallel: int) -> None:
    """Play what is left, one run after the other; then quiet services, many at the same time.

    What was refused as late, or died, is tried once more.
    """
    for attempt in ("", "once more: "):
        if not (left := plan.left()):
            return
        loud, quiet = (
            [each for each in left if not each.scenario.repeat],
            [each for each in left if each.scenario.repeat],
        )
        minutes = (sum(map(seconds, loud)) + sum(map(seconds, quiet)) / parallel) / 60
        end = datetime.now().astimezone() + timedelta(minutes=minutes)
        _console.print(f"{attempt}{len(left)} of {len(plan.wanted())} runs, about {minutes:.0f} min, until {end:%H:%M}")
        in_vain = 0
        for run in loud:
            _try(plan.play(run))
            in_vain = 0 if plan.has(run) else in_vain + 1
            if in_vain == _IN_VAIN:
                _console.print(f"stopped: {in_vain} runs in a row were refused or died")
                raise typer.Exit(1)
        _try(_play_quiet(plan, quiet, parallel))


def _try(played: Coroutine[None, None, None]) -> None:
    """Await something, and say when a process died in it."""
    try:
        asyncio.run(played)
    except* ProcessDied as group:
        _console.print(f"{_first(group)}", markup=False)


async def _play_quiet(plan: Plan, left: Sequence[Wanted], parallel: int) -> None:
    """Play so many runs at the same time: each of them needs little of the machine."""
    waiting = iter(left)
    starting = asyncio.Lock()

    async def work() -> None:
        for run in waiting:
            await plan.play(run, starting)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(parallel):
            tasks.create_task(work())


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group of groups."""
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _tell(found: list[runs.Run], scenario: Scenario) -> bool:
    mine = [run for run in found if run.scenario == scenario.name]
    told = verdicts(mine) if scenario.repeat else benchmarks.verdicts(mine, scenario)
    for text, reached in told:
        _console.print(f"{'ok  ' if reached else 'SHORT'} {scenario.name}: {text}")
    return all(reached for _, reached in told)


if __name__ == "__main__":
    typer.run(main)
