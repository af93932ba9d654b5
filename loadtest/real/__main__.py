"""`python -m loadtest.real`: clients and faults at a real vLLM; fails when something is not as it should be."""

import argparse
import contextlib
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtest.real.comparison import ALLOWED, CLIENTS, OF_TRANSFORMERS, Allowed, Compared, compare
from loadtest.real.engine import Engine, Installed, NoEngine, running, running_transformers
from loadtest.real.faults import FAULTS, TIMEOUTS, Fault
from loadtest.real.gateway import difference, serving

COLUMNS = ("fault", "clients saw", "requests", "attempts", "users", "backend", "ejections", "reasons")
"""Of the table of faults: those between what was seen and the reasons are counts."""

_MOST_SHOWN = 12
_CLIENT_OF_TRANSFORMERS = "openai (Python)"


def main() -> int:
    parser = argparse.ArgumentParser(prog="loadtest.real")
    parser.add_argument("--only", choices=["clients", "faults", "transformers"], help="a part of it")
    parser.add_argument("--client", action="append", choices=CLIENTS, help="only this client; may be repeated")
    parser.add_argument("--fault", default="", metavar="TEXT", help="only faults whose names have this in them")
    parser.add_argument("--engine", metavar="URL", help="an engine that runs already: clients only")
    parser.add_argument("--folder", type=Path, default=Path("out/real"), help="where clients lie and logs go")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the engine ends with this process
    if options.engine:
        return 0 if clients(options.client or CLIENTS, options.engine, options.folder) else 1
    try:
        return 0 if everything(Installed.found(), options) else 1
    except NoEngine as error:
        print(f"loadtest.real: {error}", file=sys.stderr)
        return 2


def everything(installed: Installed, options: argparse.Namespace) -> bool:
    """Play clients and faults; return whether all is as it should be."""
    print(f"vLLM {installed.version()}", flush=True)
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    results: list[bool] = []
    if options.only in (None, "transformers"):
        results.append(transformers(installed, folder))
    if options.only == "transformers":
        return all(results)
    chosen = [fault for fault in FAULTS if options.only != "clients" and options.fault in fault.name]
    survived = [fault for fault in chosen if not fault.fatal]
    with contextlib.ExitStack() as stack:
        if survived or options.only != "faults":
            engine = stack.enter_context(running(installed, folder))
        if options.only != "faults":
            results.append(clients(options.client or CLIENTS, engine.url, folder))
        if chosen:
            row(*COLUMNS)
            row(*("---" for _ in COLUMNS))
        results += [play(fault, engine, folder) for fault in survived]
    for fault in chosen:
        if fault.fatal:
            with running(installed, folder) as engine:
                results.append(play(fault, engine, folder))
    return all(results)


def transformers(installed: Installed, folder: Path) -> bool:
    """Compare one client's answers at transformers serve; True where that is not installed."""
    command = installed.transformers()
    if command is None:
        print("transformers serve is not installed (docs/real-engines.md): left out", flush=True)
        return True
    with running_transformers(installed, command, folder) as engine:
        return clients([_CLIENT_OF_TRANSFORMERS], engine.url, folder, OF_TRANSFORMERS, at=" at transformers serve")


def play(fault: Fault, engine: Engine, folder: Path) -> bool:
    """Play one fault on a gateway of its own and print what came of it; return whether that is right."""
    engine.wait_until_healthy()
    with serving(engine.url, folder, **TIMEOUTS) as gateway:
        before = gateway.counts()
        seen = fault.act(engine, gateway)
        counted = difference(before, gateway.counts())
        reasons = gateway.reasons()
    ends = [tally(_counted(counted[name])) or "none" for name in COLUMNS[2:-1]]
    row(fault.name, tally(str(each) for each in seen), *ends, tally(reasons) or "none")
    wrong = fault.mismatches(seen, counted)
    for each in wrong:
        print(f"WRONG: {each}", flush=True)
    return not wrong


def row(*cells: str) -> None:
    """Print a row of a table in Markdown."""
    print(f"| {' | '.join(cells)} |", flush=True)


def _counted(counts: Mapping[str, int]) -> list[str]:
    return [label for label, count in counts.items() for _ in range(count)]


def tally(words: Iterable[str]) -> str:
    return ", ".join(f"{count} x {word}" if count > 1 else word for word, count in Counter(words).items())


def clients(
    chosen: Iterable[str], engine_url: str, folder: Path, allowed: Sequence[Allowed] = ALLOWED, *, at: str = ""
) -> bool:
    """Compare each client's answers and print what differs; return whether nothing does."""
    good = True
    with serving(engine_url, folder) as gateway:
        for client in chosen:
            results = compare(client, engine_url, gateway.url, folder, allowed)
            bad = [each for each in results if each.differs]
            meant = sum(bool(each.meant) for each in results)
            failed = sum(each.failed for each in results)
            fields = sum(each.fields for each in results)
            line = f"{len(results)} questions ({failed} errors), {fields} fields, {len(bad)} differ, {meant} as meant"
            print(f"{client}{at}: {line}", flush=True)
            for each in bad:
                show(each)
            good = good and not bad
    return good


def show(compared: Compared) -> None:
    print(f"  {compared.ask}:")
    for path, (direct, through) in list(compared.differs.items())[:_MOST_SHOWN]:
        print(f"    {path}: {short(direct)} at the engine, {short(through)} through the gateway")
    if (more := len(compared.differs) - _MOST_SHOWN) > 0:
        print(f"    and {more} more")


def short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) < 100 else f"{text[:97]}..."


if __name__ == "__main__":
    sys.exit(main())
