"""How much CPU time a gateway takes that gets no requests: what its backends cost by their mere number."""

import asyncio
from pathlib import Path
from typing import Annotated

import httpx
import typer

from gateway import native
from loadtest.bench import proc
from loadtest.scale import world

LIMITS = {64: 21.0, 256: 80.0}
"""Milliseconds of CPU time a second that so many backends may cost."""
_SETTLES = 6.0
_LOOKS = 60


def idle(
    *,
    backends: Annotated[list[int] | None, typer.Option(help="How many backends; may be given several times.")] = None,
    seconds: Annotated[float, typer.Option(help="How long each is measured.")] = 20.0,
    out: Annotated[Path, typer.Option(help="Where routes go.")] = Path("out/scale"),
) -> None:
    """Measure the CPU time of a gateway without traffic; fail where it is over the limit."""
    over = 0
    for count in backends or LIMITS:
        cost, ready = asyncio.run(_measure(count, seconds, out))
        limit = LIMITS.get(count)
        verdict = "" if limit is None else f"  at most {limit:g}: {'ok' if cost <= limit else 'FAIL'}"
        print(f"{count:5d} backends, {ready} ready: {cost:7.1f} ms of CPU time a second{verdict}", flush=True)
        over += ready < count or (limit is not None and cost > limit)
    print(f"tidegate ran {native.running()}")
    raise typer.Exit(1 if over else 0)


async def _measure(count: int, seconds: float, out: Path) -> tuple[float, int]:
    """Return milliseconds of CPU time a second, and how many backends were ready in the end."""
    async with world.engines(count) as urls:
        routes = world.write_routes(out / f"idle-{count}.yaml", urls)
        async with world.gateway(routes) as gateway, httpx.AsyncClient(trust_env=False, timeout=30.0) as client:
            await _until_ready(client, gateway.admin, count)
            await asyncio.sleep(_SETTLES)
            before = proc.sample([gateway.pid])
            await asyncio.sleep(seconds)
            after = proc.sample([gateway.pid])
            ready = await _ready(client, gateway.admin)
    return 1000 * (after.cpu - before.cpu) / (after.at - before.at), ready


async def _until_ready(client: httpx.AsyncClient, admin: str, count: int) -> None:
    """Wait for every backend, for a while: a gateway that never gets there is measured as it is."""
    for _ in range(_LOOKS):
        if await _ready(client, admin) >= count:
            return
        await asyncio.sleep(1.0)


async def _ready(client: httpx.AsyncClient, admin: str) -> int:
    """Return how many backends are ready, 0 where the gateway does not answer."""
    try:
        status = (await client.get(f"{admin}/admin/status")).json()
    except httpx.HTTPError:
        return 0
    return sum(each["state"] == "ready" for each in status["backends"])
