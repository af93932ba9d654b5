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
from types import MappingProxyType
from typing import cast

from gateway.cli.demo.load import MODEL
from gateway.processes.child import Child, spawn

_HOST = "127.0.0.1"
_POOLS = {"gpu": 2, "cpu": 1}
"""Engines by profile; each profile has a pool of its name."""

_DRAIN_SECONDS = "1"
_URL = re.compile(r"http://[0-9.]+:\d+")
_PRICES = MappingProxyType({"gpu": 2.5, "cpu": 0.2})
NEXT = "next"
"""The pool of the candidate of `--canary`."""
CANARY: Mapping[str, object] = MappingProxyType(
    {
        "stable": "v1",
        "candidate": "v2",
        "steps": [10, 50],
        "hold": "15s",
        "last_hold": "30s",
        "warm_up_time": "5s",
    }
)
"""A rollout that one can watch: minutes, where the defaults take more than an hour."""
OBJECTIVE: Mapping[str, object] = MappingProxyType(
    {
        "availability": {"target": 99},
        "ttft": {"target": 99, "under": "2s"},
        "tpot": {"target": 99, "under": "200ms"},
    }
)
"""What that rollout is judged by: a target of 99 % takes a tenth of the requests that one of 99.9 % does."""


class PortTaken(RuntimeError):
    """A port that was asked for cannot be had; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the gateway listens, as URLs, and every process there is."""

    data: str
    admin: str
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


async def build(stack: AsyncExitStack, *, port: int, admin_port: int, seed: int, canary: bool = False) -> Stage:
    """Start everything, to be ended by `stack`; with `canary` an engine of another version too. Raises ProcessDied."""
    engines: dict[str, list[Child]] = {}
    for pool, profile, count in (*((name, name, count) for name, count in _POOLS.items()), (NEXT, "gpu", int(canary))):
        for index in range(count):
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
    routes.write_text(json.dumps(routes_of(urls), indent=2))
    listeners = ("--host", _HOST, "--port", str(port), "--admin-host", _HOST, "--admin-port", str(admin_port))
    quiet = ("--no-access-log", "--log-level", "warning", "--drain-timeout", _DRAIN_SECONDS, "--state", "memory://")
    gateway = await _start(stack, "the gateway", "gateway.cli", "serve", str(routes), *listeners, *quiet)
    data, admin = _URL.findall(await gateway.line_with("tidegate serves"))
    return Stage(data, admin, (*(engine for pool in engines.values() for engine in pool), gateway))


async def _start(stack: AsyncExitStack, name: str, *arguments: str) -> Child:
    child = await spawn(name, arguments)
    stack.push_async_callback(child.stop)
    return child


def routes_of(urls: dict[str, list[str]]) -> dict[str, object]:
    """Return the route file of engines by pool; with a pool `next` there is a rollout of v2, which that pool serves."""
    pools = {
        name: {
            "accelerator": "gpu" if name == NEXT else name,
            "cost_per_hour": _PRICES["gpu" if name == NEXT else name],
            "backends": backends,
        }
        for name, backends in urls.items()
    }
    versions = {"v1": {"pools": [*_POOLS], "served_model": MODEL}}
    rules: list[dict[str, object]] = [
        {"when": {"prompt_tokens": "<256", "max_tokens": "<=16"}, "use": ["cpu", "gpu"]},
        {"use": ["gpu", "cpu"]},
    ]
    model: dict[str, object] = {"aliases": ["gpt-4o-mini"], "versions": versions}
    if NEXT not in urls:
        return {"pools": pools, "models": {MODEL: {**model, "rules": rules}}}
    versions["v2"] = {"pools": [NEXT], "served_model": MODEL}
    for rule in rules:
        rule["use"] = [*cast(list[str], rule["use"]), NEXT]
    model |= {"objective": "demo", "canary": {**CANARY}, "rules": rules}
    return {"pools": pools, "objectives": {"demo": {**OBJECTIVE}}, "models": {MODEL: model}}
