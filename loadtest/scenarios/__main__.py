"""`python -m loadtest.scenarios`: play scenarios through several gateways side by side, and write the table."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gateway.processes.child import ProcessDied
from loadtest.report.page import write_report
from loadtest.report.recording import Recording, machine
from loadtest.scenarios import benchmarks, runs
from loadtest.scenarios.gateways import APART, NAMES, chosen, missing, versions
from loadtest.scenarios.play import play
from loadtest.scenarios.quiet import FAMILY, family, verdicts
from loadtest.scenarios.scenario import Scenario, load, shipped

_console = Console(width=160, highlight=False)


def main(
    *,
    only: Annotated[list[str] | None, typer.Option(help="One scenario; repeatable. Without it, all.")] = None,
    gateway: Annotated[list[str] | None, typer.Option(help="One gateway; repeatable. Without it, all.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Repetitions, with seeds from --seed on.")] = 3,
    seed: Annotated[int, typer.Option(help="First seed.")] = 1,
    out: Annotated[Path, typer.Option(help="Where recordings and reports go.")] = Path("out/scenarios"),
    docs: Annotated[
        Path | None, typer.Option(help="Write benchmarks.md and .csv here, when nothing is left out.")
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Runs of quiet services that are played side by side.")] = 5,
    table_only: Annotated[bool, typer.Option(help="Play nothing; judge what is in --out.")] = False,
) -> None:
    """Play scenarios and say what users experience behind each gateway."""
    # A polite kill unwinds like Ctrl-C, so that nothing is left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    scenarios = _scenarios(only)
    for name in gateway or ():
        if name not in NAMES:
            raise typer.BadParameter(f"no gateway {name!r}; there are {', '.join(NAMES)}", param_hint="--gateway")
    if not table_only:
        for name, binary in missing().items():
            _console.print(f"left out: {name}, since {binary} is not installed (`make peers`)")
        _play_all(scenarios, gateway or NAMES, repeat=repeat, seed=seed, parallel=parallel, out=out)
    found = _judge(out, scenarios)
    if docs is not None and not only and not gateway:
        facts = {**machine(), "versions": ", ".join(f"{name} {version}" for name, version in versions().items())}
        facts["measured"] = f"{datetime.now(tz=UTC):%Y-%m-%d}"
        (docs / "benchmarks.md").write_text(benchmarks.document(found, [load(path) for path in shipped()], facts))
        runs.write(docs / "benchmarks.csv", found)
    reached = [_tell(found, scenario) for scenario in scenarios]
    raise typer.Exit(0 if all(reached) else 1)


def _scenarios(only: list[str] | None) -> list[Scenario]:
    known = {path.stem: path for path in shipped()}
    quiet = {scenario.name: scenario for scenario in family()}
    wanted = [each for name in only or [*known, FAMILY] for each in (quiet if name == FAMILY else [name])]
    for name in wanted:
        if name not in known and name not in quiet and not Path(name).is_file():
            names = ", ".join([*known, FAMILY, *quiet])
            raise typer.BadParameter(f"no scenario {name!r}; there are {names}", param_hint="--only")
    try:
        return [quiet.get(name) or load(known.get(name, Path(name))) for name in wanted]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--only") from None


def _play_all(
    scenarios: list[Scenario], gateways: Sequence[str], *, repeat: int, seed: int, parallel: int, out: Path
) -> None:
    """Play scenarios one after the other, all before any is repeated; then quiet services, many at the same time."""
    ended = False
    try:
        for repetition in range(repeat):
            for scenario in scenarios:
                for names in chosen(gateways, scenario) if not scenario.repeat else ():
                    asyncio.run(_play(scenario, seed + repetition, names, out))
        asyncio.run(_play_quiet([each for each in scenarios if each.repeat], gateways, seed, parallel, out))
    except* ProcessDied as died:
        _console.print(f"{_first(died)}", markup=False)
        ended = True
    if ended:
        raise typer.Exit(1)


async def _play_quiet(scenarios: list[Scenario], gateways: Sequence[str], seed: int, parallel: int, out: Path) -> None:
    """Play every seed of quiet services, so many runs at the same time: each of them needs little of the machine."""
    waiting = iter(
        [
            (scenario, seed + number, names)
            for number in range(max((each.repeat for each in scenarios), default=0))
            for scenario in scenarios
            for names in chosen(gateways, scenario)
            if number < scenario.repeat
        ]
    )
    starting = asyncio.Lock()

    async def work() -> None:
        for scenario, number, names in waiting:
            await _play(scenario, number, names, out, starting)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(parallel):
            tasks.create_task(work())


async def _play(
    scenario: Scenario, seed: int, names: list[str], out: Path, starting: asyncio.Lock | None = None
) -> None:
    apart = f"-{names[0]}" if set(names) <= APART else ""
    folder = (out / scenario.name / f"{seed}{apart}").absolute()
    recording = await play(scenario, seed, names, folder / "files", starting)
    recording.write(folder)
    if starting is None:  # a report takes long to write, and those who play beside it would wait for it
        write_report(recording, folder)
    _console.print(f"{scenario.name}, seed {seed}: {recording.about.notes[-1]}")
    for run in runs.judged(scenario, recording):
        _console.print(f"  {run.gateway:22s} {run.share:8.2%} of {run.requests} missed")


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group of groups."""
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _judge(out: Path, scenarios: list[Scenario]) -> list[runs.Run]:
    """Judge every recording there is, those of earlier commands among them."""
    found = []
    for scenario in scenarios:
        for folder in sorted((out / scenario.name).glob("*/run.json")):
            found += runs.judged(scenario, Recording.read(folder.parent))
    return found


def _tell(found: list[runs.Run], scenario: Scenario) -> bool:
    mine = [run for run in found if run.scenario == scenario.name]
    told = verdicts(mine) if scenario.repeat else benchmarks.verdicts(mine, scenario)
    for text, reached in told:
        _console.print(f"{'ok  ' if reached else 'SHORT'} {scenario.name}: {text}")
    return all(reached for _, reached in told)


if __name__ == "__main__":
    typer.run(main)
