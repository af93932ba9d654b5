"""`python -m loadtest.scenarios`: play scenarios through several gateways side by side, and write the table."""

import asyncio
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gateway.cli.demo.processes import ProcessDied
from loadtest.report.page import write_report
from loadtest.report.recording import Recording, machine
from loadtest.scenarios import benchmarks, runs
from loadtest.scenarios.gateways import APART, NAMES, chosen, missing, versions
from loadtest.scenarios.play import play
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
    table_only: Annotated[bool, typer.Option(help="Play nothing; judge what is in --out.")] = False,
) -> None:
    """Play scenarios and say what users lived through behind each gateway."""
    # A polite kill unwinds like Ctrl-C, so that nothing is left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    scenarios = _scenarios(only)
    for name in gateway or ():
        if name not in NAMES:
            raise typer.BadParameter(f"no gateway {name!r}; there are {', '.join(NAMES)}", param_hint="--gateway")
    if not table_only:
        for name, binary in missing().items():
            _console.print(f"left out: {name}, since {binary} is not installed (`make peers`)")
        for repetition in range(repeat):
            for scenario in scenarios:
                for names in chosen(gateway or NAMES, scenario):
                    _play(scenario, seed + repetition, names, out)
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
    for name in only or ():
        if name not in known and not Path(name).is_file():
            raise typer.BadParameter(f"no scenario {name!r}; there are {', '.join(known)}", param_hint="--only")
    try:
        return [load(known.get(name, Path(name))) for name in only or known]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--only") from None


def _play(scenario: Scenario, seed: int, names: list[str], out: Path) -> None:
    apart = f"-{names[0]}" if set(names) <= APART else ""
    folder = (out / scenario.name / f"{seed}{apart}").absolute()
    try:
        recording = asyncio.run(play(scenario, seed, names, folder / "files"))
    except* ProcessDied as errors:
        _console.print(f"{scenario.name}: {errors.exceptions[0]}", markup=False)
        raise typer.Exit(1) from None
    recording.write(folder)
    write_report(recording, folder)
    _console.print(f"{scenario.name}, seed {seed}: {recording.about.notes[-1]}")
    for run in runs.judged(scenario, recording):
        _console.print(f"  {run.gateway:22s} {run.share:8.2%} of {run.requests} missed")


def _judge(out: Path, scenarios: list[Scenario]) -> list[runs.Run]:
    """Judge every recording there is, those of earlier commands among them."""
    found = []
    for scenario in scenarios:
        for folder in sorted((out / scenario.name).glob("*/run.json")):
            found += runs.judged(scenario, Recording.read(folder.parent))
    return found


def _tell(found: list[runs.Run], scenario: Scenario) -> bool:
    told = benchmarks.verdicts([run for run in found if run.scenario == scenario.name], scenario)
    for text, reached in told:
        _console.print(f"{'ok  ' if reached else 'SHORT'} {scenario.name}: {text}")
    return all(reached for _, reached in told)


if __name__ == "__main__":
    typer.run(main)
