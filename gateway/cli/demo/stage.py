"""What the demo runs: engines, the route file that names them, and the gateway in front."""

import json
import os
import re
import socket
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

from gateway.cli.demo.load import MODEL
from gateway.cli.demo.setting import Setting
from gateway.processes.child import Child, spawn

_HOST = "127.0.0.1"
_DRAIN_SECONDS = "1"
_URL = re.compile(r"http://[0-9.]+:\d+")


class PortTaken(RuntimeError):
    """A port that was asked for cannot be had; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the gateway and the engines of each pool listen, as URLs, and every process there is."""

    data: str
    admin: str
    engines: Mapping[str, list[str]]
    children: tuple[Child, ...]


def claim(port: int, admin_port: int) -> None:
    """Raise PortTaken when one of the ports cannot be listened on; 0 always can."""
    with ExitStack() as stack:
        for option, number in (("--port", port), ("--admin-port", admin_port)):
            try:
                stack.enter_context(socket.create_server((_HOST, number)))
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else str(error)
                raise PortTaken(
                    f"the gateway cannot listen on {_HOST}:{number}: {reason}.\n"
                    f"  Choose another {option}, or 0 for any free one; `ss -ltnp sport = :{number}` shows what has it."
                ) from None


async def build(stack: AsyncExitStack, setting: Setting, *, port: int, admin_port: int, seed: int) -> Stage:
    """Start everything, to be ended by `stack`. Raises ProcessDied."""
    engines: dict[str, list[Child]] = {}
    for pool, profiles in setting.pools.items():
        for index, profile in enumerate(profiles):
            number = seed + sum(map(len, engines.values()))
            options = ("--port", "0", "--profile", profile, "--model", MODEL, "--seed", str(number))
            engine = await _start(stack, f"engine {pool}-{index}", "gateway.sim", *options)
            engines.setdefault(pool, []).append(engine)
    urls = {
        pool: [_URL.findall(await engine.line_with("listening on"))[0] for engine in started]
        for pool, started in engines.items()
    }
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-demo-")))
    routes = folder / "routes.json"
    routes.write_text(json.dumps(setting.routes(urls), indent=2))
    listeners = ("--host", _HOST, "--port", str(port), "--admin-host", _HOST, "--admin-port", str(admin_port))
    quiet = ("--no-access-log", "--log-level", "warning", "--drain-timeout", _DRAIN_SECONDS, "--state", "memory://")
    gateway = await _start(stack, "the gateway", "gateway.cli", "serve", str(routes), *listeners, *quiet)
    data, admin = _URL.findall(await gateway.line_with("tidegate serves"))
    return Stage(data, admin, urls, (*(engine for pool in engines.values() for engine in pool), gateway))


async def _start(stack: AsyncExitStack, name: str, *arguments: str) -> Child:
    child = await spawn(name, arguments)
    stack.push_async_callback(child.stop)
    return child
