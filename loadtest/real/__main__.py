"""`python -m loadtest.real`: clients and faults at a real vLLM; fails when something is not as it should be."""

import argparse
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from loadtest.real.clients import CLIENTS, Compared, compare
from loadtest.real.engine import Installed, NoEngine, running
from loadtest.real.gateway import serving

_MOST_SHOWN = 12


def main() -> int:
    parser = argparse.ArgumentParser(prog="loadtest.real")
    parser.add_argument("--only", choices=["clients", "faults"], help="half of it")
    parser.add_argument("--client", action="append", choices=CLIENTS, help="only this client; may be repeated")
    parser.add_argument("--engine", metavar="URL", help="an engine that runs already: clients only")
    parser.add_argument("--folder", type=Path, default=Path("out/real"), help="where clients lie and logs go")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the engine ends with this process
    began = time.monotonic()
    if options.engine:
        return 0 if clients(options.client or CLIENTS, options.engine, options.folder) else 1
    try:
        installed = Installed.found()
        print(f"vLLM {installed.version()}", flush=True)
        with running(installed, options.folder) as engine:
            print(f"  up after {time.monotonic() - began:.0f} s", flush=True)
            good = clients(options.client or CLIENTS, engine.url, options.folder)
    except NoEngine as error:
        print(f"loadtest.real: {error}", file=sys.stderr)
        return 2
    print(f"in {time.monotonic() - began:.0f} s")
    return 0 if good else 1


def clients(chosen: Iterable[str], engine_url: str, folder: Path) -> bool:
    """Compare each client's answers and print what differs; return whether nothing does."""
    good = True
    with serving(engine_url, folder) as gateway:
        for client in chosen:
            results = list(compare(client, engine_url, gateway.url, folder))
            bad = [each for each in results if each.differs]
            meant = sum(bool(each.meant) for each in results)
            failed = sum(each.failed for each in results)
            print(f"{client}: {len(results)} questions ({failed} errors), {len(bad)} differ, {meant} as meant")
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
