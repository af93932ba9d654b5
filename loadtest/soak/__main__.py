"""`python -m loadtest.soak`: ten minutes of trouble, and whether anything piled up in the gateway."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from loadtest.soak.leaks import Allowed, Course
from loadtest.soak.soak import OTHER_DESCRIPTORS, WATCHED, Seen, soak

ALLOWED = {
    "process_resident_memory_bytes": Allowed(0.05, after=300),
    OTHER_DESCRIPTORS: Allowed(0.25),
    "tidegate_tasks": Allowed(0.10),
}
"""Memory rises for a minute or two, since buffers, connections and series are made as the load first needs them, and
in bursts. 5 % of it is about 240 bytes for each request of ten minutes: less than what a request that is kept needs.
"""

_console = Console(width=120, highlight=False)


def main(
    *,
    seconds: Annotated[float, typer.Option(min=30, help="How long.")] = 600.0,
    warm: Annotated[
        float, typer.Option(min=1, help="Seconds that do not count yet; at most a third of the run.")
    ] = 60.0,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second.")] = 30.0,
    seed: Annotated[int, typer.Option(help="Decides load and troubles.")] = 1,
    out: Annotated[Path, typer.Option(help="Where samples and files go.")] = Path("out/soak"),
) -> None:
    """Load a gateway while engines flap, clients hang up and routes change; fail when anything piles up."""
    out.mkdir(parents=True, exist_ok=True)
    seen = asyncio.run(soak(seconds, rate, seed, out.absolute()))
    (out / "soak.json").write_text(json.dumps(vars(seen), indent=1))
    counted_from = min(warm, seconds / 3)
    courses = [
        Course.of(name, samples, warm=counted_from, allowed=ALLOWED[name])
        for name, samples in sorted(seen.samples.items())
    ]
    _console.print(_summary(seen))
    _console.print(_table(courses))
    left = {name: value for name, value in seen.rest.items() if value}
    _console.print(f"left in progress at the end: {left or 'nothing'}")
    counted = seen.told["tidegate_requests_total"]
    _console.print(f"requests sent {seen.requests}, counted by the gateway {counted:.0f}")
    # Who hangs up before the request has arrived was never a request.
    lost = not seen.requests - seen.hung_up <= counted <= seen.requests
    raise typer.Exit(1 if any(course.grew for course in courses) or left or lost else 0)


def _summary(seen: Seen) -> str:
    told = seen.told
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in seen.outcomes.most_common())
    return (
        f"{seen.requests} requests: {outcomes}, {seen.hung_up} hung up; {seen.flaps} faults of engines; "
        f"{seen.written} good routes and {seen.broken} broken ones written "
        f"({told['tidegate_reloads_total']:.0f} loaded, {told['tidegate_reload_failures_total']:.0f} refused); "
        f"{told['tidegate_ejections_total']:.0f} ejections; {told['process_cpu_seconds_total']:.1f} s of CPU"
    )


def _table(courses: list[Course]) -> Table:
    table = Table(
        title="medians of the first and the last tenth after warming up, and growth that all tenths share",
        title_justify="left",
    )
    for name in ("figure", "first", "last", "highest", "steadily", "may grow", "grew"):
        table.add_column(name, justify="left" if name == "figure" else "right")
    for course in courses:
        scale = 2**20 if "bytes" in course.name else 1
        figures = (f"{value / scale:.1f}" for value in (course.first, course.last, course.highest, course.steady))
        grew = "YES" if course.grew else "no" if course.judged else f"needs {course.allowed.after:.0f} s"
        table.add_row(WATCHED[course.name], *figures, f"{course.allowed.share:.0%}", grew)
    return table


if __name__ == "__main__":
    typer.run(main)
