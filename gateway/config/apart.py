"""Loading large route files in a process of its own: for seconds of work the event loop would share its interpreter.

`python -m gateway.config.apart PATH HOST:PORT...` writes what it loads to standard output, an entry at a time.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

from gateway.config.itself import Listening
from gateway.config.load import load_routes
from gateway.config.problems import RoutesError
from gateway.config.sources import route_files
from gateway.config.table import RouteTable
from gateway.config.transfer import COMPLETE, send

LARGE = 128 * 1024
"""Bytes of all route files from which loading is worth a process: less takes no longer than to start one."""
_NICE = 5
_SECONDS = 120.0
_log = logging.getLogger(__name__)


def are_large(path: Path) -> bool:
    """Whether the route files at a path are large."""
    try:
        return sum(file.stat().st_size for file in route_files(path)) >= LARGE
    except OSError:
        return False


def load_apart(path: Path, listeners: Collection[Listening]) -> bytes | None:
    """Load route files in a process, and return what `transfer.receive` reads; None where that cannot be. Blocks."""
    where = [f"{each.host}:{each.port}" for each in listeners]
    # Without -P, Python would look for modules in the current directory first.
    command = [
        sys.executable,
        "-P",
        "-m",
        "gateway.processes.ends_with_parent",
        "gateway.config.apart",
        str(path),
        *where,
    ]
    reading, writing = os.pipe()
    try:
        # Nothing else can be inherited, and closing each of many descriptors would take its time.
        ended = subprocess.run(  # noqa: S603 - ourselves
            command, stdin=reading, stdout=subprocess.PIPE, check=True, close_fds=False, timeout=_SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        reason = str(error)
    else:
        if ended.stdout.endswith(COMPLETE):
            return ended.stdout
        reason = "the process that loads them ended early"
    finally:
        os.close(reading)
        os.close(writing)  # the process ends when this does, however the gateway ends
    _log.warning("routes are loaded in the gateway's own process", extra={"reason": reason})
    return None


def _main() -> None:
    os.nice(_NICE)
    path, *where = sys.argv[1:]
    listeners = [Listening(host, int(port)) for host, _, port in (each.rpartition(":") for each in where)]
    loaded: RouteTable | RoutesError
    try:
        loaded = load_routes(Path(path), listeners=listeners)
    except RoutesError as error:
        loaded = error
    send(loaded, sys.stdout.buffer)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    _main()
