"""Measures nginx and tidegate on this machine, in one run, and says whether tidegate is where it should be.

REPS (rounds, 3) and WIN (seconds of a window, 3) come from the environment. In each round every gateway starts afresh
and gets one window of each kind of load. Tidegate is measured twice: "on", as it serves a company, and "off", with one
backend and nothing more. Exits with 1 when a limit that must be reached is not, or when the run ended early. With
--against, another commit of tidegate takes nginx's place, and the status is 1 when some row is slower than there.
"""

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from gateway import native
from loadtest.bench import against, gateways, measure, peers, report
from loadtest.bench.ratios import LEAST_PAIRS
from loadtest.bench.summary import Summary, summarize

FULL_IDLE_STREAMS = 1000
QUICK = measure.Plan(repeats=1, seconds=1.0, idle_streams=300)
ALWAYS = (gateways.NGINX, gateways.ON, gateways.OFF)
BESIDE = report.ROWS[:6]
"""What is told of each gateway beside others."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="loadtest.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short window each: a glance, not a figure to quote")
    parser.add_argument("--peers", action="store_true", help=f"measure {', '.join(gateways.PEERS)} too (make peers)")
    parser.add_argument("--only", choices=gateways.NAMES, action="append", help="measure only this; may be repeated")
    parser.add_argument("--against", metavar="COMMIT", help="compare this checkout with another commit, in pairs")
    parser.add_argument("--pairs", type=int, help=f"how many, {against.PAIRS} by default ({LEAST_PAIRS} with --quick)")
    parser.add_argument(
        "--dashboards", type=int, default=0, help="with --against: how many are open at this checkout's gateway alone"
    )
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


Rounds = dict[str, list[measure.Measurement]]
"""What was measured of each gateway, and of the engine alone ("direct"), round by round."""


def run(names: tuple[str, ...], what: measure.Plan, folder: Path) -> Rounds:
    """Measures `names` in turn, in rounds; everything started here has ended when it returns or raises."""
    say = partial(print, file=sys.stderr, flush=True)
    measured: Rounds = {name: [] for name in ("direct", *names)}
    with measure.bench_of(*two_cores(), folder, what, say) as bench:
        for number in range(1, what.repeats + 1):
            say(f"round {number} of {what.repeats}")
            measured["direct"].append(measure.measure_direct(bench, number))
            for name in names:
                measured[name].append(measure.measure_gateway(bench, gateways.gateway(name), number))
    return measured


def run_against(commit: str, pairs: int, dashboards: int, what: measure.Plan, folder: Path) -> int:
    """Measures this checkout and another commit in pairs; 1 when the commit was faster."""
    then = against.unpack(commit, folder / "against")
    now = against.Checkout("now", peers.ROOT)
    for each in (now, then):
        each.compile()
        each.require_own_code()
    say = partial(print, file=sys.stderr, flush=True)
    with measure.bench_of(*two_cores(), folder, what, say) as bench:
        measured = against.measure_pairs(bench, now, then, pairs, dashboards)
    judged = against.judge(measured)
    table = f"{against.markdown(measured, judged, then.label)}\n\n{against.NOTE}"
    stamp = time.strftime("%Y-%m-%dT%H%M%S")
    raw = {
        "when": stamp,
        "machine": machine(),
        "plan": asdict(what),
        "against": then.label,
        "pairs": [{"now": plain(ours), "then": plain(theirs)} for ours, theirs in measured],
    }
    (folder / f"{stamp}-against.json").write_text(json.dumps(raw, indent=1) + "\n")
    (folder / f"{stamp}-against.md").write_text(table + "\n")
    print(table)
    print(f"written to {folder / stamp}-against.json and .md")
    return 0 if against.passes(measured, judged) else 1


def plain(figures: Mapping[str, Summary]) -> dict[str, Any]:
    """Return summaries as what JSON can hold."""
    return {
        name: {
            **asdict(replace(each, body_us={})),
            "body_us": {body.scenario.name: cost for body, cost in each.body_us.items()},
            "noisy": sorted(each.noisy),
        }
        for name, each in figures.items()
    }


def main() -> int:
    options = arguments()
    what = plan(options.quick)
    names = tuple(options.only or (*ALWAYS, *(gateways.PEERS if options.peers else ())))
    folder: Path = options.out.resolve()
    # A polite kill unwinds like Ctrl-C, so that nothing is left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    if options.against is not None:
        # One window a kind in each of many pairs says more than many windows of one process, or a noisy one again.
        short = replace(what, repeats=1, seconds=min(what.seconds, against.WINDOW_SECONDS), again=False)
        return run_against(options.against, options.pairs, options.dashboards, short, folder)
    measured = run(names, what, folder)
    figures = {
        name: [summarize(each, direct) for each, direct in zip(measured[name], measured["direct"], strict=True)]
        for name in names
    }
    lines = report.lines(report.ROWS, figures)
    told = tables(figures, lines, peers_too=len(names) > len(ALWAYS))
    stamp = time.strftime("%Y-%m-%dT%H%M%S")
    raw = {
        "when": stamp,
        "machine": machine(),
        "tidegate": native.running(),
        "plan": asdict(what),
        "measured": {name: [asdict(each) for each in rounds] for name, rounds in measured.items()},
        "figures": [plain({name: each[at] for name, each in figures.items()}) for at in range(what.repeats)],
    }
    (folder / f"{stamp}.json").write_text(json.dumps(raw, indent=1) + "\n")
    (folder / f"{stamp}.md").write_text(told + "\n")
    print(told)
    print(f"\ntidegate ran {native.running()}; written to {folder / stamp}.json and .md")
    return status(lines, options.quick)


def tables(figures: Mapping[str, list[Summary]], lines: list[report.TableRow], *, peers_too: bool) -> str:
    """Return what is printed: the table that is judged, the others beside it, long prompts, and what was noisy."""
    parts = [report.markdown(lines, report.head(figures))]
    if peers_too:
        parts.append(report.beside(BESIDE, figures))
    parts.append(report.bodies(figures) + "\n\n" + report.BODY_NOTE)
    noisy = {name: sum(len(each.noisy) for each in rounds) for name, rounds in figures.items()}
    if any(noisy.values()):
        counts = ", ".join(f"{count} of {name}'s" for name, count in noisy.items() if count)
        parts.append(f"Something else was busy during {counts} windows, each tried twice. {report.NOISY_NOTE}")
    return "\n\n".join(parts)


def status(lines: list[report.TableRow], quick: bool) -> int:
    """Return 1 where a limit is not kept, or, but for a glance, where noise hides whether it is."""
    return 1 if any(each.reached is False or (each.noisy and not quick) for each in lines) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
