"""A real gateway in a process of its own, with as many backends as wanted."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.processes.child import spawn
from loadtest.scale.engines import MODEL


@dataclass(frozen=True, slots=True)
class Running:
    """The process of a gateway, and the URLs of its listeners."""

    pid: int
    url: str
    admin: str


@asynccontextmanager
async def gateway(routes: Path, *options: str) -> AsyncIterator[Running]:
    """Run a gateway until the block ends."""
    listening = ("--port", "0", "--admin-port", "0", "--state", "memory://")
    child = await spawn("gateway", ("gateway", "serve", str(routes), *listening, *options))
    try:
        said = (await child.line_with("serves http")).split()
        url, admin = [word.rstrip(",;") for word in said if word.startswith("http://")][:2]
        yield Running(child.pid, url.removesuffix("/v1"), admin)
    finally:
        await child.stop()


@asynccontextmanager
async def engines(count: int) -> AsyncIterator[list[str]]:
    """Run so many engines until the block ends; gives their URLs."""
    child = await spawn("engines", ("loadtest.scale.engines", str(count)))
    try:
        ports = (await child.line_with("listening on ")).split("listening on ")[1].split()
        yield [f"http://127.0.0.1:{port}" for port in ports]
    finally:
        await child.stop()


def write_routes(file: Path, urls: list[str], pools: int = 1) -> Path:
    """Write routes of one model for each pool, among which the engines are dealt out."""
    dealt = {f"pool-{number}": urls[number::pools] for number in range(pools)}
    models = {name: {"backends": share, "served_model": MODEL} for name, share in dealt.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"models": models}))
    return file
