"""Measures nginx and tidegate on this machine, in one run, and says whether tidegate is where it should be.

REPS (windows of each kind, 3) and WIN (seconds of each, 3) come from the environment. Exits with 1 when a limit that
must be reached is not, or when the run ended early. With --against, another commit of tidegate takes nginx's place, and
the status is 1 when some row is slower than there.
"""

import argparse
import json
import os
import platform
import signal
import sys
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from gateway import native
from loadtest.bench import against, measure, peers, report, summary
from loadtest.bench.ratios import LEAST_PAIRS

FULL_IDLE_STREAMS = 1000
QUICK = measure.Plan(repeats=1, seconds=1.0, idle_streams=300)
GATEWAYS = ("nginx", "tidegate")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="loadtest.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short window each: a glance, not a figure to quote")
    parser.add_argument("--only", choices=GATEWAYS, help="measure one gateway, beside none")
    parser.add_argument("--against", metavar="COMMIT", help="compare this checkout with another commit, in pairs")
    parser.add_argument("--pairs", type=int, help=f"how many, {against.PAIRS} by default ({LEAST_PAIRS} with --quick)")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="where results and logs go (%(default)s)")
    options = parser.parse_args()
    if options.pairs is None:
        options.pairs = LEAST_PAIRS if options.quick else against.PAIRS
    if options.pairs < LEAST_PAIRS:
        parser.error(f"--pairs {options.pairs}: fewer than {LEAST_PAIRS} show nothing with 95 % confidence")
    return options


def plan(quick: bool) -> measure.Plan:
    if quick:
        return QUICK
    return measure.Plan(int(os.environ.get("REPS", "3")), float(os.environ.get("WIN", "3")), FULL_IDLE_STREAMS)


def two_cores() -> tuple[int, int]:
    """A core for the gateway and one for all else; raises SystemExit where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise SystemExit("measuring needs two cores: one for the gateway, one for the load and the engine")
    return allowed[0], allowed[1]


def machine() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((entry.split(":", 1)[1].strip() for entry in cpuinfo if entry.startswith("model name")), "unknown")
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}


def run(names: tuple[str, ...], what: measure.Plan, folder: Path) -> dict[str, measure.Measurement]:
    """Measures `names`, after the engine alone; everything started here has ended when it returns or raises."""
    say = partial(print, file=sys.stderr, flush=True)
    with measure.engine(*two_cores(), folder, what, say) as bench:
        measured = {"direct": measure.measure_direct(bench)}
        for name in names:
            measured[name] = measure.measure_gateway(bench, name)
    return measured


def run_against(commit: str, pairs: int, what: measure.Plan, folder: Path) -> int:
    """Measures this checkout and another commit in pairs; 1 when the commit was faster."""
    then = against.unpack(commit, folder / "against")
    now = against.Checkout("now", peers.ROOT)
    for each in (now, then):
        each.compile()
        each.require_own_code()
    say = partial(print, file=sys.stderr, flush=True)
    with measure.engine(*two_cores(), folder, what, say) as bench:
        measured = against.measure_pairs(bench, now, then, pairs)
    judged = against.judge(measured)
    table = f"{against.markdown(measured, judged, then.label)}\n\n{against.NOTE}"
    stamp = time.strftime("%Y-%m-%dT%H%M%S")
    raw = {
        "when": stamp,
        "machine": machine(),
        "plan": asdict(what),
        "against": then.label,
        "pairs": [{"now": asdict(ours), "then": asdict(theirs)} for ours, theirs in measured],
    }
    (folder / f"{stamp}-against.json").write_text(json.dumps(raw, indent=1) + "\n")
    (folder / f"{stamp}-against.md").write_text(table + "\n")
    print(table)
    print(f"written to {folder / stamp}-against.json and .md")
    return 0 if against.passes(measured, judged) else 1


def main() -> int:
    options = arguments()
    what = plan(options.quick)
    names = (options.only,) if options.only else GATEWAYS
    folder: Path = options.out.resolve()
    # A polite kill unwinds like Ctrl-C, so that nothing is left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    if options.against is not None:
        # One window a kind in each of many pairs says more than many windows of one process.
        return run_against(options.against, options.pairs, replace(what, repeats=1), folder)
    measured = run(names, what, folder)
    figures = {name: summary.summarize(measured[name], measured["direct"]) for name in names}
    lines = [report.line(row, figures.get("nginx"), figures.get("tidegate")) for row in report.ROWS]
    table = report.markdown(lines)
    stamp = time.strftime("%Y-%m-%dT%H%M%S")
    raw = {
        "when": stamp,
        "machine": machine(),
        "tidegate": native.running(),
        "plan": asdict(what),
        "measured": {name: asdict(each) for name, each in measured.items()},
        "figures": {name: asdict(each) for name, each in figures.items()},
    }
    (folder / f"{stamp}.json").write_text(json.dumps(raw, indent=1) + "\n")
    (folder / f"{stamp}.md").write_text(table + "\n")

    print(table)
    windows = what.repeats * len(measure.EVERY_SCENARIO)
    for name, each in figures.items():
        if each.noisy:
            print(f"{name}: something else was busy during {each.noisy} of {windows} windows, each tried twice")
    print(f"tidegate ran {native.running()}; written to {folder / stamp}.json and .md")
    return 0 if all(each.reached is not False for each in lines) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
