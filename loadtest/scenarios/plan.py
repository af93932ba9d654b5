"""All runs that a command asks for: which there are, which are left, and playing one."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from loadtest.report.page import write_report
from loadtest.report.recording import Recording
from loadtest.scenarios import runs
from loadtest.scenarios.finished import Finished, clear, commit
from loadtest.scenarios.gateways import APART, chosen
from loadtest.scenarios.play import play
from loadtest.scenarios.scenario import Scenario
from loadtest.traces.formats import Arrival, read_trace

_LATE = 0.1
"""Seconds by which load may be late at p99: clients see that delay as the gateway's."""
_OTHERS = 0.15
"""The share of all cores that other programs may use: gateways that need more CPU would suffer more from them."""
_console = Console(width=160, highlight=False)
_AROUND = 15.0
"""Seconds that a run takes beside those of its scenario: processes start and end."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One run: a scenario, a seed, and the gateways that play it side by side."""

    scenario: Scenario
    seed: int
    names: tuple[str, ...]


def seconds(run: Wanted) -> float:
    """Return about how long a run takes."""
    return run.scenario.seconds + _AROUND


class Plan:
    """The runs that a command asks for, in the order in which they are played: all scenarios before any is repeated."""

    def __init__(
        self,
        scenarios: Sequence[Scenario],
        gateways: Sequence[str],
        seeds: range,
        out: Path,
        trace: Path | None,
        *,
        keep_all: bool = False,
        reports: bool = False,
        again: bool = False,
    ) -> None:
        self._scenarios = scenarios
        self._out = out
        self._keep_all = keep_all
        self._reports = reports
        self._trace_file = str(trace or "")
        self._trace: Sequence[Arrival] = read_trace(trace) if trace else ()
        self._commit = commit()
        self._wanted = [
            Wanted(scenario, seed, tuple(names))
            for number, seed in enumerate(seeds)
            for scenario in scenarios
            for names in chosen(gateways, scenario)
            if not scenario.repeat or number < scenario.repeat
        ]
        if again:
            for run in self._wanted:
                clear(self._folder(run))

    def wanted(self) -> list[Wanted]:
        """Return every run that was asked for."""
        return self._wanted

    def left(self) -> list[Wanted]:
        """Return the runs that there are not yet."""
        return [run for run in self._wanted if not self.has(run)]

    def has(self, run: Wanted) -> bool:
        """Whether a run has been played at this commit, and counts."""
        finished = Finished.read(self._folder(run))
        return finished is not None and finished.covers(self._commit, run.names, self._trace_file)

    async def play(self, run: Wanted, starting: AbstractAsyncContextManager[object] | None = None) -> None:
        """Play a run and keep it, unless the load generator was late; raises ProcessDied."""
        folder, scenario = self._folder(run), run.scenario
        clear(folder)
        played = await play(scenario, run.seed, run.names, folder / "files", starting, self._trace)
        played.recording.write(folder)
        _console.print(f"{scenario.name}, seed {run.seed}: {played.recording.about.notes[-1]}")
        for each in runs.judged(scenario, played.recording):
            _console.print(f"  {each.gateway:22s} {each.share:8.2%} of {each.requests} missed  {each.streams}")
        if not self._keep_all and (played.late > _LATE or played.others > _OTHERS):
            _console.print("  refused: this machine was too busy (--keep-all keeps such runs)")
            return
        if self._reports and starting is None:  # those who play beside it would wait for it
            write_report(played.recording, folder)
        Finished(self._commit, run.names, self._trace_file).write(folder)

    def judged(self, *, any_commit: bool) -> tuple[list[runs.Run], list[str]]:
        """Judge what has been played at this commit, or at any, by earlier commands too; and say at which."""
        found: list[runs.Run] = []
        commits: set[str] = set()
        for scenario in self._scenarios:
            for file in sorted((self._out / scenario.name).glob("*/finished.json")):
                finished = Finished.read(file.parent)
                if finished is not None and (any_commit or finished.commit == self._commit):
                    found += runs.judged(scenario, Recording.read(file.parent))
                    commits.add(finished.commit)
        return found, sorted(commits)

    def _folder(self, run: Wanted) -> Path:
        apart = f"-{run.names[0]}" if set(run.names) <= APART.keys() else ""
        return (self._out / run.scenario.name / f"{run.seed}{apart}").absolute()
