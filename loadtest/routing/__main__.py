"""`python -m loadtest.routing brownout|detector|cost|quiet|witnesses`: how routing bears sick engines, and its cost."""

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from loadtest.routing import cost, detector, quiet, witnesses
from loadtest.routing.brownout import ENGINES, RATE, STRATEGIES, Plan, Result, scenario

_QUICK = Plan(12.0, 62.0, 0.0)
F1_AT_LEAST = 0.95


def main() -> int:
    parser = argparse.ArgumentParser(prog="loadtest.routing", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    brownout = commands.add_parser("brownout", help="four engines, one or two slowed five times, three ways to choose")
    brownout.add_argument("--sick", type=int, default=1, choices=range(1, ENGINES), help="engines slowed (%(default)s)")
    brownout.add_argument("--rate", type=float, default=RATE, help="requests per second (%(default)s)")
    brownout.add_argument("--only", choices=sorted(STRATEGIES), help="one way of choosing alone")
    brownout.add_argument("--quick", action="store_true", help="short, and without the return to service")
    brownout.add_argument("--out", type=Path, default=Path("out/routing"), help="where results go (%(default)s)")
    runs = commands.add_parser("detector", help="seeded runs with and without a sick engine")
    runs.add_argument("--runs", type=int, default=40, help="how many (%(default)s)")
    commands.add_parser("cost", help="microseconds of counting, choosing and judging")
    quietly = commands.add_parser("quiet", help="quiet services with short spells, beside models of nginx and HAProxy")
    quietly.add_argument("--seeds", type=int, default=10, help="how many for each variant (%(default)s)")
    quietly.add_argument("--only", default="", help="variants whose name holds this")
    told = commands.add_parser("witnesses", help="a backend that gateways cannot reach: should others believe them?")
    told.add_argument("--seeds", type=int, default=10, help="how many for each case (%(default)s)")
    chosen = parser.parse_args()
    if chosen.command == "brownout":
        return _brownout(chosen)
    if chosen.command == "quiet":
        return _quiet(chosen.seeds, chosen.only)
    if chosen.command == "witnesses":
        return _witnesses(chosen.seeds)
    return _detector(chosen.runs) if chosen.command == "detector" else _cost()


def _brownout(chosen: argparse.Namespace) -> int:
    plan = _QUICK if chosen.quick else Plan()
    names = [chosen.only] if chosen.only else list(STRATEGIES)
    results = []
    for name in names:
        results.append(asyncio.run(scenario(name, plan, sick=chosen.sick, rate=chosen.rate)))
        _print(results[-1])
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "brownout.json").write_text(json.dumps([asdict(result) for result in results], indent=2))
    return _verdict(results)


def _print(result: Result) -> None:
    print(
        f"{result.strategy}: {result.sick} of {ENGINES} engines slowed 5x, utilisation before {result.utilisation:.0%}"
    )
    print(
        f"  share of the slowed        before {result.share_before:7.1%}   from 10 s on {result.share_after_10_s:7.1%}"
    )
    print(
        f"  over the TTFT threshold    before {result.missed_before:7.1%}   "
        f"in the minute after {result.missed_in_the_minute:7.1%} of {result.requests}"
    )
    if result.full_share_after is not None:
        print(f"  full share again after healing: {result.full_share_after:.0f} s")
    if result.panic:
        print("  the panic rule held for a while: ejections were ignored")
    for line in result.transitions:
        print(f"    {line}")
    sys.stdout.flush()


def _verdict(results: Sequence[Result]) -> int:
    """Hold the gateway's own choice against the others; with one engine sick the limits must be kept."""
    own = next((result for result in results if result.strategy == "tidegate"), None)
    if own is None or own.sick != 1:
        return 0
    others = min((result.missed_in_the_minute for result in results if result is not own), default=1.0)
    checks = {
        "share of the slowed engine under 5 %": own.share_after_10_s < 0.05,
        "misses at most a quarter of the others'": own.missed_in_the_minute <= others / 4,
    }
    if own.full_share_after is not None or own.strategy == "tidegate":
        checks["full share within 120 s"] = own.full_share_after is None or own.full_share_after <= 120
    for name, held in checks.items():
        print(f"{'ok  ' if held else 'FAIL'} {name}")
    return 0 if all(checks.values()) else 1


def _detector(count: int) -> int:
    cells: Counter[str] = Counter()
    for seed in range(count):
        run = detector.run(seed)
        cells[run.cell] += 1
        after = f" after {run.after:.0f} s" if run.after is not None else ""
        found = f"{', '.join(run.found) or '-'}{after}"
        print(f"{seed:3d}  {run.scenario:32s} sick {run.sick or '-':6s} found {found:20s} {run.cell}")
    f1 = detector.f1(cells)
    print("\n                 found sick   found well")
    print(f"  is sick        {cells['TP']:10d}   {cells['FN']:10d}")
    print(f"  is well        {cells['FP']:10d}   {cells['TN']:10d}")
    print(f"  F1 {f1:.3f} (at least {F1_AT_LEAST})")
    return 0 if f1 >= F1_AT_LEAST else 1


def _cost() -> int:
    costs = cost.report()
    for each in costs:
        limit = f"  at most {each.limit:g}: {'ok' if each.held else 'FAIL'}" if each.limit is not None else ""
        print(f"{each.microseconds:10.2f} us  {each.what}{limit}")
    return 0 if all(each.held for each in costs) else 1


def _quiet(seeds: int, only: str) -> int:
    found: dict[str, list[str]] = {}
    print(f"{'missed, median of seeds':28s}{''.join(f'{name:>20s}' for name in quiet.GATEWAYS)}")
    for variant in quiet.VARIANTS:
        if only in variant.name:
            outcomes = [*quiet.outcomes(variant, range(1, seeds + 1))]
            shares = quiet.medians(outcomes)
            found[variant.name] = quiet.breaches(outcomes)
            cells = "".join(f"{shares[name]:20.2%}" for name in quiet.GATEWAYS)
            print(f"{variant.name:28s}{cells}  {'; '.join(found[variant.name]) or 'ok'}", flush=True)
    return 1 if any(found.values()) else 0


def _witnesses(seeds: int) -> int:
    print(f"{'':48s}{'requests that met it':>24s}{'seconds in vain':>20s}{'out needlessly, s':>20s}")
    for case in witnesses.CASES:
        alone, told = witnesses.compare(case, seeds)
        pairs = (alone.met, told.met), (alone.vain, told.vain), (alone.needless, told.needless)
        cells = [f"{before:.1f} -> {after:.1f}" for before, after in pairs]
        print(f"{case.name:48s}{cells[0]:>24s}{cells[1]:>20s}{cells[2]:>20s}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
