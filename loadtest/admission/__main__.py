"""`python -m loadtest.admission overload|limit|neighbour|starvation|harm|flood|real|hangups`:
what admission is worth.

The first five run in virtual time, on the simulated engine's scheduler and the gateway's own admission.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import uvloop

from loadtest.admission import real
from loadtest.admission.figures import Figures, figures, ttft_p99
from loadtest.admission.flood import flood
from loadtest.admission.hangups import hangups
from loadtest.admission.harm import SEEDS, Share, harm
from loadtest.admission.world import Admission, Overloaded
from loadtest.routing.world import Workload

PROMPT, OUTPUT = 400, 200
WARM_UP, SPAN, REST = 30.0, 60.0, 30.0
LOADS = (1.0, 2.0, 4.0, 8.0)


def main() -> int:
    commands: dict[str, Callable[[int], int]] = {
        "overload": overload,
        "limit": limit,
        "neighbour": neighbour,
        "starvation": starvation,
        "flood": refusals,
        "real": real_overload,
        "hangups": hang_up,
    }
    parser = argparse.ArgumentParser(prog="loadtest.admission", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=[*commands, "harm"])
    parser.add_argument("--seed", type=int, default=1, help="of arrivals and lengths (%(default)s)")
    some = parser.add_argument_group("harm", "a share of the grid, without a table in the docs")
    some.add_argument("--only", default="", metavar="REGEX", help="cells whose words match, as a fault names them")
    some.add_argument("--part", type=_part, default=(1, 1), metavar="K/N", help="the K-th of N parts of them")
    some.add_argument("--seeds", type=int, default=SEEDS, help="of each cell (%(default)s)")
    some.add_argument("--jobs", type=int, default=1, help="cells at a time (%(default)s)")
    chosen = parser.parse_args()
    if chosen.what == "harm":
        part, parts = chosen.part
        return harm(Share(chosen.only, part, parts, chosen.seeds, chosen.jobs))
    return commands[chosen.what](chosen.seed)


def _part(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not 1 <= int(part) <= int(parts or 1):
        raise argparse.ArgumentTypeError("not from 1/N to N/N")
    return int(part), int(parts or 1)


def capacity(seed: int) -> float:
    """Return the requests per second that the engines serve at most within every SLO, found by a sweep."""
    best = 0.0
    for rate in (10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 50.0):
        seen = run(seed, rate, Admission())
        best = max(best, seen.goodput / OUTPUT)
    return best


def run(seed: int, rate: float, admission: Admission) -> Figures:
    world = Overloaded(seed, Workload(rate, PROMPT, OUTPUT), admission)
    world.run(WARM_UP + SPAN)
    world.workload.rate = 0.01
    world.run(WARM_UP + SPAN + REST)
    return figures(world, WARM_UP, WARM_UP + SPAN)


def overload(seed: int) -> int:
    full = capacity(seed)
    print(f"2 engines, 60 % interactive and 40 % batch; capacity {full:.1f} requests/s of {PROMPT} + {OUTPUT} tokens\n")
    print("load       goodput  interactive in time  refused  told in (p99)  batch of tokens  preemptions")
    with_it = {}
    for on in (True, False):
        print("with the gateway's admission" if on else "without: limits off")
        for load in LOADS:
            seen = run(seed, full * load, Admission(on=on))
            if on:
                with_it[load] = seen
            print(
                f"{load:3.0f}x {seen.goodput:9.0f}/s {seen.met:19.1%} {seen.refused:8.1%} "
                f"{seen.refusal_p99 * 1000:11.0f} ms {seen.batch_share:16.1%} {seen.preemptions:12d}",
                flush=True,
            )
    peak = max(seen.goodput for seen in with_it.values())
    return _verdict(
        {
            "goodput at 8x at least 90 % of the peak": with_it[8.0].goodput >= 0.9 * peak,
            "interactive in time at 99 % or refused": all(seen.met >= 0.99 for seen in with_it.values()),
            "refused early within 10 ms (p99)": all(seen.refusal_p99 <= 0.01 for seen in with_it.values()),
        }
    )


def limit(seed: int) -> int:
    """At twice the capacity and without KV slots: sweep fixed limits, then let the limit find itself from 4 and 400."""
    rate = 2 * capacity(seed)
    best = 0.0
    for fixed in (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 128, 192, 256):
        seen = run(seed, rate, Admission(limit=fixed, kv=False))
        best = max(best, seen.goodput)
        print(f"fixed at {fixed:4d}: goodput {seen.goodput:6.0f}/s", flush=True)
    checks = {}
    for first in (4.0, 400.0):
        world = Overloaded(seed, Workload(rate, PROMPT, OUTPUT), Admission(first=first, kv=False))
        world.run(60.0 + SPAN)
        world.workload.rate = 0.01
        world.run(60.0 + SPAN + REST)
        seen = figures(world, 60.0, 60.0 + SPAN)
        values = ", ".join(f"{each.value:.0f}" for each in world.limits.values())
        print(f"adaptive from {first:3.0f}: goodput {seen.goodput:6.0f}/s after 60 s, limits at the end {values}")
        checks[f"from {first:.0f}: at least 90 % of the best fixed limit"] = seen.goodput >= 0.9 * best
    return _verdict(checks)


def neighbour(seed: int) -> int:
    """Three tenants at 15 % of the capacity each, without a fourth and beside one at twenty times its share."""
    full = capacity(seed)
    share = 0.15 * full
    quiet, noisy = {"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 1.0, "b": 1.0, "c": 1.0, "d": 20.0}
    seconds = {}
    for name, tenants, per_minute in (
        ("without it", quiet, None),
        ("beside it, each tenant limited to its share", noisy, round(share * 60)),
        ("beside it, by fair queueing alone", noisy, None),
    ):
        workload = Workload(share * sum(tenants.values()), PROMPT, OUTPUT)
        everyone = {"interactive": 1.0}
        world = Overloaded(seed, workload, Admission(), tenants=tenants, shares=everyone, per_minute=per_minute)
        world.run(2 * WARM_UP + SPAN)
        seconds[name] = ttft_p99(world, 2 * WARM_UP, 2 * WARM_UP + SPAN, *quiet)
        print(f"p99 TTFT of the other three {seconds[name] * 1000:4.0f} ms  {name}")
    alone, limited, _ = seconds.values()
    return _verdict({"limited, it moves theirs by less than 20 %": limited < 1.2 * alone})


def starvation(seed: int) -> int:
    full = capacity(seed)
    world = Overloaded(seed, Workload(4 * full, PROMPT, OUTPUT), Admission(), shares={"interactive": 0.8, "batch": 0.2})
    world.run(WARM_UP + SPAN)
    seen = figures(world, 0.0, WARM_UP + SPAN)
    print(f"batch got {seen.batch_share:.1%} of the tokens served under endless interactive load (guaranteed: 5 %)")
    return _verdict({"its guaranteed share": seen.batch_share >= 0.045})


def real_overload(seed: int) -> int:
    """As `overload`, with processes, sockets and the gateway's data plane; the seed decides arrivals."""
    full, seconds = capacity(seed), 24.0
    print(f"capacity {full:.1f} requests/s; {seconds:.0f} s each, the first third not counted\n")
    print("load    goodput  interactive in time  refused  told in (p99)")
    with_it = {}
    for on in (True, False):
        print("with the gateway's admission" if on else "without: limits off")
        for load in LOADS:
            seen = asyncio.run(real.overload(full * load, seconds=seconds, admission=on, seed=seed))
            if on:
                with_it[load] = seen
            told = seen.refusal_p99 * 1000
            print(
                f"{load:3.0f}x {seen.goodput:7.0f}/s {seen.met:18.1%} {seen.refused:8.1%} {told:11.1f} ms", flush=True
            )
    peak = max(seen.goodput for seen in with_it.values())
    return _verdict(
        {
            "goodput at 8x at least 90 % of the peak": with_it[8.0].goodput >= 0.9 * peak,
            "interactive in time at 99 % or refused": all(seen.met >= 0.99 for seen in with_it.values()),
            "refused early within 10 ms (p99)": all(seen.refusal_p99 <= 0.01 for seen in with_it.values()),
        }
    )


def hang_up(_: int) -> int:
    """10,000 wait for one slot, or as many as the system allows, nine in ten hang up, then all."""
    with tempfile.TemporaryDirectory() as folder:
        seen = uvloop.run(hangups(Path(folder)))
    before, full, after = seen.blocks
    print(f"{seen.queued} waited, {seen.hung_up} hung up")
    print(f"from the hang-up to being gone: median {seen.median * 1000:.0f} ms, at most {seen.worst * 1000:.0f} ms")
    print(f"then {seen.waiting} wait and {seen.in_flight} is served; memory blocks: {before}, {full}, {after}")
    return _verdict(
        {
            "gone within 100 ms each": seen.worst <= 0.1,
            "no other lost, one slot taken": (seen.waiting, seen.in_flight) == (seen.queued - seen.hung_up, 1),
            "memory back": after - before <= 0.2 * (full - before),
        }
    )


def refusals(_: int) -> int:
    seen = flood()
    print(f"{seen.microseconds:.1f} us of CPU for each refusal, at {seen.rate:.0f} a second; answers {seen.statuses}")
    return _verdict({"at most 60 us": seen.microseconds <= 60})


def _verdict(checks: dict[str, bool]) -> int:
    for name, held in checks.items():
        print(f"{'ok  ' if held else 'FAIL'} {name}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
