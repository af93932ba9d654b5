"""This checkout beside another commit of it, measured in pairs, so that the machine's moods hit both alike.

Both are compiled as they would be installed, and driven by this checkout's own bench, with the packages of the
interpreter that runs it. In each pair both start afresh, and who comes first alternates.
"""

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench import measure, peers, summary
from loadtest.bench.ratios import LEAST_PAIRS, WORSE, Compared, compare
from loadtest.bench.report import aligned, number
from loadtest.bench.summary import Summary

PAIRS = 10
BUILD = ("hatch_build.py", "pyproject.toml")
"""What compiles the data path of a checkout."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure that is compared; smaller is better."""

    title: str
    read: Callable[[Summary], float]


ROWS = (
    Row("CPU per plain request, us", lambda s: s.plain_us),
    Row("CPU per 1-chunk stream, us", lambda s: s.one_chunk_us),
    Row("CPU per relayed chunk, paced, us", lambda s: s.chunk_us),
    Row("CPU per stream of 128 chunks in one burst, us", lambda s: s.burst_us),
    Row("memory per open idle stream, KB", lambda s: s.idle_stream_kb),
    Row("added TTFT at low load, p50, ms", lambda s: s.added_ttft_ms[0]),
    Row("added TTFT at low load, p99, ms", lambda s: s.added_ttft_ms[1]),
    Row("added relay delay at low load, p50, ms", lambda s: s.added_relay_ms[0]),
    Row("added relay delay at low load, p99, ms", lambda s: s.added_relay_ms[1]),
    Row("upstream connects per 10,000 requests", lambda s: s.connects_per_10k),
)


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


def measure_pairs(bench: measure.Bench, now: Checkout, then: Checkout, pairs: int) -> list[tuple[Summary, Summary]]:
    """Return (now, then) of each pair."""
    measured = []
    for pair in range(1, pairs + 1):
        bench.say(f"pair {pair} of {pairs}")
        direct = measure.measure_direct(bench)
        order = (now, then) if pair % 2 else (then, now)
        figures = {each.label: summary.summarize(_measure(bench, each, pair), direct) for each in order}
        measured.append((figures[now.label], figures[then.label]))
    return measured


def _measure(bench: measure.Bench, checkout: Checkout, pair: int) -> measure.Measurement:
    def start(port: int, folder: Path) -> list[str]:
        return peers.tidegate(port, folder, peers.routes(bench.backend), program=checkout.program())

    return measure.measure_gateway(bench, f"{checkout.label}-{pair}", start)


def judge(pairs: Sequence[tuple[Summary, Summary]]) -> list[tuple[Row, Compared | None]]:
    """Compare every row over all pairs."""
    return [(row, compare([row.read(now) for now, _ in pairs], [row.read(then) for _, then in pairs])) for row in ROWS]


def markdown(pairs: Sequence[tuple[Summary, Summary]], judged: Sequence[tuple[Row, Compared | None]], then: str) -> str:
    """The rows as an aligned markdown table: medians of both, and their ratio with its interval."""
    table = [("", then, "now", "now / then", "95 % interval", "ok?")]
    for row, compared in judged:
        before, now = (number(summary.median_of(row.read(each[side]) for each in pairs)) for side in (1, 0))
        if compared is None:
            cells = ("-", "-", "-")
        else:
            interval = f"{compared.low:.3f} to {compared.high:.3f}"
            cells = (f"{compared.median:.3f}", interval, "SLOWER" if compared.is_worse else "yes")
        table.append((row.title, before, now, *cells))
    return aligned(table)


def passes(pairs: Sequence[tuple[Summary, Summary]], judged: Sequence[tuple[Row, Compared | None]]) -> bool:
    """Whether no row is worse, and nothing failed that did not before."""
    failed_now, failed_then = (sum(each[side].errors for each in pairs) for side in (0, 1))
    return not any(compared is not None and compared.is_worse for _, compared in judged) and failed_now <= failed_then


NOTE = (
    f"Medians of pairs; the interval is the sign test's. A row is slower when all of its interval is above {WORSE:g}; "
    f"a row in which fewer than {LEAST_PAIRS} pairs had values above 0 is not judged."
)
