"""`python -m loadtest.soak`: ten minutes of trouble, and whether anything piled up in the gateway."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from loadtest.soak.leaks import Course
from loadtest.soak.soak import WATCHED, Seen, soak

ALLOWED = {"process_resident_memory_bytes": 0.05, "process_open_fds": 0.25, "tidegate_tasks": 0.10}
"""By how much the last tenth may lie above the first, as a share: what varies with the load of the moment."""

_console = Console(width=120, highlight=False)


def main(
    *,
    seconds: Annotated[float, typer.Option(min=30, help="How long.")] = 600.0,
    warm: Annotated[float, typer.Option(min=1, help="Seconds that do not count yet.")] = 60.0,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second.")] = 30.0,
    seed: Annotated[int, typer.Option(help="Decides load and troubles.")] = 1,
    out: Annotated[Path, typer.Option(help="Where samples and files go.")] = Path("out/soak"),
) -> None:
    """Load a gateway while engines flap, clients hang up and routes change; fail when anything piles up."""
    out.mkdir(parents=True, exist_ok=True)
    seen = asyncio.run(soak(seconds, rate, seed, out.absolute()))
    (out / "soak.json").write_text(json.dumps(vars(seen), indent=1))
    courses = [
        Course.of(name, samples, warm=warm, allowed=ALLOWED[name]) for name, samples in sorted(seen.samples.items())
    ]
    _console.print(_summary(seen))
    _console.print(_table(courses))
    left = {name: value for name, value in seen.rest.items() if value}
    _console.print(f"left in progress at the end: {left or 'nothing'}")
    counted = seen.told["tidegate_requests_total"]
    _console.print(f"requests sent {seen.requests}, counted by the gateway {counted:.0f}")
    # Who hangs up before the request has arrived was never a request.
    lost = not seen.requests - seen.hung_up <= counted <= seen.requests
    raise typer.Exit(0 if all(course.flat for course in courses) and not left and not lost else 1)


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
    table = Table(title="medians of the first and the last tenth after warming up", title_justify="left")
    for name in ("figure", "first", "last", "highest", "may grow", "flat"):
        table.add_column(name, justify="left" if name == "figure" else "right")
    for course in courses:
        scale = 2**20 if "bytes" in course.name else 1
        figures = (f"{value / scale:.1f}" for value in (course.first, course.last, course.highest))
        table.add_row(WATCHED[course.name], *figures, f"{course.allowed:.0%}", "yes" if course.flat else "NO")
    return table


if __name__ == "__main__":
    typer.run(main)
