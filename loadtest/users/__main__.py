"""Put load on a demo, or on a running gateway (--url), with locust, and write a report."""

import argparse
import asyncio
import csv
import re
import shutil
import signal
import socket
import sys
from collections import Counter
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from rich.console import Console
from rich.table import Table

from gateway.cli.demo.load import MODEL
from gateway.processes.child import ProcessDied, spawn
from loadtest.report.figures import all_gaps, distribution
from loadtest.report.page import write_report
from loadtest.report.recording import CUT, FAILED, OK, REFUSED, Recording
from loadtest.report.verdict import MET, MISSED, UNKNOWN, headline, state, verdicts
from loadtest.report.view import View
from loadtest.users.shapes import SHAPES

_HOST = "127.0.0.1"
_LOCUSTFILE = Path(__file__).with_name("locustfile.py")
_STOP_SECONDS = 15.0
_PER_CENT = (50, 90, 99, 100)
_LAST_LINES = 15
_SECONDS = 45
_REASONS = 3
_COLOURS = MappingProxyType({MET: "green", MISSED: "red", UNKNOWN: "default"})


class LoadFailed(RuntimeError):
    """A run from which nothing can be told; the message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """What the load goes to. `admin` is "" where it is not known."""

    url: str
    admin: str
    model: str


def main() -> None:
    """Run, write, print; exit with 1 when more requests failed than may."""
    chosen, more = _options()
    try:
        recording = asyncio.run(_run(chosen, more))
        page = write_report(recording, chosen.folder, table=chosen.folder / "locust_stats.csv")
    except (LoadFailed, ProcessDied) as error:
        sys.exit(f"loadtest: {error}")
    except asyncio.CancelledError:
        sys.exit(130)
    console = Console(highlight=False)
    outcomes = Counter(request.outcome for request in recording.requests)
    console.print(_table(recording))
    console.print(", ".join(f"{outcomes[outcome]} {outcome}" for outcome in (OK, REFUSED, FAILED, CUT)))
    _judge(recording, console)
    console.print(f"{page}\n{page.with_suffix('.md')}", soft_wrap=True)
    bad = 100 * (1 - outcomes[OK] / len(recording.requests))
    if bad > chosen.most_failures:
        listed = (f"\n  {count} x {words}" for words, count in reasons(chosen.folder).most_common(_REASONS))
        allowed = f"--most-failures allows {chosen.most_failures:g} %"
        sys.exit(f"loadtest: {bad:.2f} % of all requests were not answered completely; {allowed}{''.join(listed)}")


def _judge(recording: Recording, console: Console) -> None:
    for name, slis in verdicts(View.of(recording)).items():
        console.print(headline(name, slis), style=f"bold {_COLOURS[state(slis)]}")
        for sli in slis:
            console.print(f"  {sli.state}: {sli.words()}", style=_COLOURS[sli.state], soft_wrap=True)


def reasons(folder: Path) -> Counter[str]:
    """Return why requests failed, as locust lists it, and how many did so."""
    found: Counter[str] = Counter()
    try:
        with (folder / "locust_failures.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                found[re.sub(r"^\w+\('(.*)'\)$", r"\1", row["Error"])] += int(row["Occurrences"])
    except FileNotFoundError:
        pass
    return found


def _options() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.users",
        description=__doc__,
        epilog="All other arguments go to locust.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--url", default="", help="URL of a running gateway. Without it, a demo is started for the run."
    )
    parser.add_argument("--admin", default="", help="With --url: admin listener of the gateway, to record its metrics.")
    parser.add_argument("--model", default=MODEL, help="Model to ask for; %(default)s by default.")
    parser.add_argument(
        "--shape",
        default="flash",
        choices=SHAPES,
        help="How the number of users changes (docs/loadtest.md); %(default)s by default.",
    )
    parser.add_argument("--users", type=int, default=40, help="Number of users at the peak; %(default)s by default.")
    parser.add_argument(
        "--seconds",
        type=int,
        help=f"Length of the run; {_SECONDS} by default, and all of the trace with --shape replay.",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("out/loadtest"),
        help="Folder for report and recording; %(default)s by default.",
    )
    parser.add_argument(
        "--most-failures",
        type=float,
        default=1.0,
        help="Percentage of requests that may fail before the exit status is 1; %(default)s by default.",
    )
    chosen, more = parser.parse_known_args()
    if chosen.seconds is None and chosen.shape != "replay":
        chosen.seconds = _SECONDS
    return chosen, more


async def _run(chosen: argparse.Namespace, more: list[str]) -> Recording:
    """Put the load on and return what was recorded; raises LoadFailed and ProcessDied. Ends all that it started."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    record, log = chosen.folder / "recording", chosen.folder / "locust.log"
    shutil.rmtree(record, ignore_errors=True)
    async with AsyncExitStack() as stack:
        target = Target(chosen.url, chosen.admin, chosen.model) if chosen.url else await _demo(stack)
        users = "" if chosen.shape == "replay" else f", up to {chosen.users} users"
        length = () if chosen.seconds is None else ("--run-time", f"{chosen.seconds}s")
        span = f" for {chosen.seconds} s" if length else ""
        print(f"{chosen.shape}{users}{span} at {target.url} (log: {log})", flush=True)
        status = await _locust(
            log,
            *("-f", str(_LOCUSTFILE), "--headless", "--only-summary", "--exit-code-on-error", "0"),
            *("--host", target.url, "--admin", target.admin, "--model", target.model),
            *("--shape", chosen.shape, "--users", str(chosen.users), *length),
            *("--stop-timeout", "10", "--csv", str(chosen.folder / "locust"), "--record", str(record), *more),
        )
    if status:
        words = "\n  ".join(log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
        raise LoadFailed(f"locust ended with status {status}\n  {words}")
    recording = Recording.read(record)
    if not recording.requests:
        raise LoadFailed(f"no request ended; {log} may say why")
    return recording


async def _demo(stack: AsyncExitStack) -> Target:
    with ExitStack() as holding:
        held = [holding.enter_context(socket.create_server((_HOST, 0))) for _ in range(2)]
        port, admin_port = (str(each.getsockname()[1]) for each in held)
    options = ("--port", port, "--admin-port", admin_port, "--quiet", "--rate", "0.1", "--plain")
    demo = await spawn("the demo", ("gateway.cli", "demo", *options))
    stack.push_async_callback(demo.stop, grace=_STOP_SECONDS)
    await demo.line_with("Ctrl-C ends it")
    return Target(f"http://{_HOST}:{port}", f"http://{_HOST}:{admin_port}", MODEL)


async def _locust(log: Path, *arguments: str) -> int:
    """Run locust to its end, which comes with ours however that comes, and return its status."""
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "loadtest.users.tied", *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            return await process.wait()
        finally:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _table(recording: Recording) -> Table:
    """Quantiles in milliseconds, of requests that were answered well."""
    rows = {measure: distribution(recording.requests, measure) for measure in ("TTFT", "TPOT", "e2e")}
    rows["ITL"] = all_gaps(recording.gaps)
    table = Table("ms", "count", *("max" if each == 100 else f"p{each}" for each in _PER_CENT))
    for name in ("TTFT", "ITL", "TPOT", "e2e"):
        values = (rows[name].percentile(each) for each in _PER_CENT)
        table.add_row(
            name, str(rows[name].count), *("-" if value is None else f"{1000 * value:.1f}" for value in values)
        )
    return table


if __name__ == "__main__":
    main()
