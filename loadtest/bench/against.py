"""This checkout beside another commit of it, measured in pairs, so that the machine's moods hit both alike.

Both are compiled as they would be installed, and driven by this checkout's own bench, with the packages of the
interpreter that runs it. In each pair both start afresh with everything on, and again with one backend, and who comes
first alternates.
"""

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from loadtest.bench import gateways, measure, peers, report
from loadtest.bench.gateways import OFF, ON, Gateway
from loadtest.bench.ratios import LEAST_PAIRS, WORSE, Compared, compare
from loadtest.bench.report import aligned, number
from loadtest.bench.summary import Summary, summarize

PAIRS = 10
WINDOW_SECONDS = 2.0
"""Many pairs say more than long windows."""
BUILD = ("hatch_build.py", "pyproject.toml")
"""What compiles the data path of a checkout."""
SCENARIOS = {
    ON: (*measure.CPU_SCENARIOS, measure.LOW, *(body.scenario for body in measure.LONGEST)),
    OFF: measure.CPU_SCENARIOS,
}
"""What is measured of each row set: with one backend, only what everything else adds to."""
Sets = Mapping[str, Summary]
"""The figures of one version in one pair, by row set."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of one row set that is compared; smaller is better."""

    title: str
    read: Callable[[Sets], float | None]


def _rows() -> Iterator[Row]:
    for which in SCENARIOS:
        for row in report.ROWS:
            for at, part in enumerate(("p50", "p99") if "p50 / p99" in row.title else ("",)):
                title = f"{which}: {row.title.replace('p50 / p99', part)}"
                if not row.worst:
                    yield Row(title, partial(_read, which, row, at))


def _read(which: str, row: report.Row, at: int, measured: Sets) -> float | None:
    values = row.read(measured[which])
    return None if values is None else values[at]


ROWS = tuple(_rows())


@dataclass(frozen=True, slots=True)
class Checkout:
    """A version of the code to run: `label` in tables, `root` the folder that holds the package `gateway`."""

    label: str
    root: Path

    def program(self) -> list[str]:
        """What starts its `tidegate`, with the packages of this interpreter."""
        return ["env", f"PYTHONPATH={self.root}", sys.executable, "-m", "gateway.cli"]

    def compile(self) -> None:
        """Compile what an installation of it would have compiled."""
        if (self.root / BUILD[0]).is_file():
            subprocess.run([sys.executable, self.root / BUILD[0]], check=True)

    def require_own_code(self) -> None:
        """Raise SystemExit unless its own package is what would run."""
        environment = {**os.environ, "PYTHONPATH": str(self.root)}
        ask = [sys.executable, "-c", "import gateway; print(gateway.__path__[0])"]
        done = subprocess.run(ask, env=environment, cwd="/", capture_output=True, text=True, check=False)
        if Path(done.stdout.strip()) != self.root / "gateway":
            raise SystemExit(f"{self.label}: python runs {done.stdout.strip() or done.stderr}, not {self.root}")


def unpack(commit: str, folder: Path, repository: Path = peers.ROOT) -> Checkout:
    """Lay the code of a commit into a folder of its own below `folder`; raises SystemExit for what is no commit."""
    git = ["git", "-C", str(repository)]
    found = subprocess.run(
        [*git, "rev-parse", "--short=12", "--verify", f"{commit}^{{commit}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        raise SystemExit(f"--against {commit}: no such commit here")
    name = found.stdout.strip()
    root = folder / name
    asked = [*git, "ls-tree", "--name-only", name, "gateway", *BUILD]
    there = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    packed = subprocess.run([*git, "archive", "--format=tar", name, *there], capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(root, filter="data")
    return Checkout(name, root)


def measure_pairs(
    bench: measure.Bench, now: Checkout, then: Checkout, pairs: int, dashboards: int = 0
) -> list[tuple[Sets, Sets]]:
    """Return (now, then) of each pair; so many dashboards are open at this checkout's gateway, none at the other."""
    measured: list[tuple[Sets, Sets]] = []
    for pair in range(1, pairs + 1):
        bench.say(f"pair {pair} of {pairs}")
        direct = measure.measure_direct(bench, pair)
        found: dict[str, dict[str, Summary]] = {now.label: {}, then.label: {}}
        for which, scenarios in SCENARIOS.items():
            for each in (now, then) if pair % 2 else (then, now):
                gateway = _gateway(each, which)
                figures = measure.measure_gateway(
                    bench, gateway, pair, scenarios, idle=which == ON, dashboards=dashboards if each is now else 0
                )
                found[each.label][which] = summarize(figures, direct)
        measured.append((found[now.label], found[then.label]))
    return measured


def _gateway(checkout: Checkout, which: str) -> Gateway:
    start = {ON: gateways.tidegate_on, OFF: gateways.tidegate_off}[which]
    return Gateway(f"{checkout.label}-{which}", start(checkout.program()))


def judge(pairs: Sequence[tuple[Sets, Sets]]) -> list[tuple[Row, Compared | None]]:
    """Compare every row that was measured over all pairs."""
    judged = []
    for row in ROWS:
        now, then = ([row.read(pair[side]) for pair in pairs] for side in (0, 1))
        if any(value is not None for value in (*now, *then)):
            judged.append((row, compare([value or 0.0 for value in now], [value or 0.0 for value in then])))
    return judged


def markdown(pairs: Sequence[tuple[Sets, Sets]], judged: Sequence[tuple[Row, Compared | None]], then: str) -> str:
    """The rows as an aligned markdown table: medians of both, and their ratio with its interval."""
    table = [("", then, "now", "now / then", "95 % interval", "ok?")]
    for row, compared in judged:
        before, now = (number(median(row.read(pair[side]) or 0.0 for pair in pairs)) for side in (1, 0))
        if compared is None:
            cells = ("-", "-", "-")
        else:
            interval = f"{compared.low:.3f} to {compared.high:.3f}"
            cells = (f"{compared.median:.3f}", interval, "SLOWER" if compared.is_worse else "yes")
        table.append((row.title, before, now, *cells))
    return aligned(table)


def passes(pairs: Sequence[tuple[Sets, Sets]], judged: Sequence[tuple[Row, Compared | None]]) -> bool:
    """Whether no row is worse, and nothing failed that did not before."""
    failed_now, failed_then = (sum(each.errors for pair in pairs for each in pair[side].values()) for side in (0, 1))
    return not any(compared is not None and compared.is_worse for _, compared in judged) and failed_now <= failed_then


NOTE = (
    f"Medians of pairs; the interval is the sign test's. A row is slower when all of its interval is above {WORSE:g}; "
    f"a row in which fewer than {LEAST_PAIRS} pairs had values above 0 is not judged."
)
