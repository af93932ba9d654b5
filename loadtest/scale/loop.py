"""`python -m loadtest.scale loop`: whether anything that a large gateway does now and then stalls its event loop."""

import asyncio
import contextlib
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import httpx
import typer

from gateway import native
from gateway.processes.child import Child, spawn
from gateway.processes.resources import raise_descriptor_limit
from loadtest.scale.size import Size, write
from loadtest.scale.traffic import Traffic
from loadtest.scale.watched import EVERY, SAMPLE

BOUND = 0.010
USUAL = Size()
_RATE = 50.0
_PATIENCE = 120.0
_LOOKS, _SETTLES = 60, 5.0
_RESERVE = 2_000
"""Descriptors for all but streams, of which each takes two at the gateway."""


def loop(
    *,
    backends: Annotated[int, typer.Option(help="How many backends.")] = USUAL.backends,
    models: Annotated[int, typer.Option(help="How many models.")] = USUAL.models,
    tenants: Annotated[int, typer.Option(help="How many tenants.")] = USUAL.tenants,
    streams: Annotated[int, typer.Option(help="How many streams that stay open.")] = USUAL.streams,
    pools: Annotated[int, typer.Option(help="Among how many pools backends and models are dealt out.")] = USUAL.pools,
    seconds: Annotated[float, typer.Option(help="How long a phase lasts that has no end of its own.")] = 15.0,
    pace: Annotated[float, typer.Option(help="Seconds between two chunks of a stream.")] = 5.0,
) -> None:
    """Measure how late the event loop is while the gateway scrapes and reloads; fail where it is over the bound."""
    size = Size(backends, models, tenants, streams, pools)
    raise_descriptor_limit()
    most = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _RESERVE) // 2
    if size.streams > most:
        print(f"{most:,} streams and no more: the limit of descriptors (ulimit -n) allows no {size.streams:,}")
        size = replace(size, streams=most)
    phases = asyncio.run(_measured(size, seconds, pace))
    print(f"\n{size}\n")
    print("| phase | seconds | p50 | p99 | longest | by the clock: p99 | longest |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for phase in phases:
        print(phase)
    worst = max(phase.own.at(0.99) for phase in phases)
    print(f"\nworst p99 {1000 * worst:.1f} ms, bound {1000 * BOUND:g} ms; tidegate ran {native.running()}")
    raise typer.Exit(int(worst > BOUND))


@dataclass(frozen=True, slots=True)
class Lags:
    """Delays of the loop, in seconds, as whoever comes at any moment meets them.

    A stall of 100 ms is met by all that would have come in it: by the first for 100 ms, by the last for none.
    """

    lags: list[float]

    @classmethod
    def met(cls, delays: list[float]) -> "Lags":
        found = []
        for delay in delays:
            while delay > 0:
                found.append(delay)
                delay -= EVERY
            found += [0.0] * (delay == 0)
        return cls(sorted(found))

    def at(self, share: float) -> float:
        return self.lags[min(len(self.lags) - 1, int(share * len(self.lags)))] if self.lags else 0.0


@dataclass(frozen=True, slots=True)
class Phase:
    """What the loop was like while something went on; `own` is what the process itself had a part in."""

    name: str
    seconds: float
    own: Lags
    clock: Lags

    def __str__(self) -> str:
        columns = (*(self.own.at(each) for each in (0.5, 0.99, 1.0)), *(self.clock.at(each) for each in (0.99, 1.0)))
        return f"| {self.name} | {self.seconds:.1f} | {' | '.join(f'{1000 * each:.1f} ms' for each in columns)} |"


async def _measured(size: Size, seconds: float, pace: float) -> list[Phase]:
    with TemporaryDirectory(prefix="tidegate-scale-") as name:
        folder = Path(name)
        routes, samples = folder / "routes", folder / "samples"
        spans: list[tuple[str, float, float]] = []
        async with _running("engines", "loadtest.scale.stream_engines", str(size.models), str(pace)) as engines:
            port = int((await engines.line_with("engines on")).split()[-1])
            write(size, port, routes)
            arguments = ("loadtest.scale.watched", str(routes), str(samples), f"sqlite:///{folder}/state.db")
            async with _running("gateway", *arguments) as gateway:
                _, data, admin = (await gateway.line_with("serves", seconds=_PATIENCE)).split()
                await _play(
                    size,
                    int(data.rpartition(":")[2]),
                    admin,
                    lambda: write(size, port, routes, changed=True),
                    seconds,
                    spans,
                )
        rows = list(SAMPLE.iter_unpack(_whole(samples.read_bytes())))
    return [_phase(*span, rows) for span in (*spans, ("all of these", spans[0][1], spans[-1][2]))]


async def _play(
    size: Size, port: int, admin: str, change: Callable[[], None], seconds: float, spans: list[tuple[str, float, float]]
) -> None:
    async def during(name: str, what: Awaitable[object]) -> None:
        print(f"{name} ...", file=sys.stderr, flush=True)
        began = time.monotonic()
        await what
        spans.append((name, began, time.monotonic()))

    traffic = Traffic(size, port)
    async with httpx.AsyncClient(base_url=admin, timeout=_PATIENCE, trust_env=False) as client:
        await _ready(client, f"http://127.0.0.1:{port}")
        print("opening streams ...", file=sys.stderr, flush=True)
        await traffic.touch()
        await traffic.open()
        asking = asyncio.create_task(traffic.ask(_RATE))
        await asyncio.sleep(2.0)
        await during("at rest", asyncio.sleep(seconds))
        await during("one scrape", _scrape(client, 1))
        await during("two scrapes at once", _scrape(client, 2))
        await during("reload of the same", _post(client))
        await asyncio.to_thread(change)
        await during("reload of a change", _post(client))
        await during("after it", asyncio.sleep(seconds))
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
    if traffic.lost():
        raise ConnectionError(f"{traffic.lost()} streams broke")
    traffic.close()


async def _ready(client: httpx.AsyncClient, url: str) -> None:
    for _ in range(_LOOKS):
        if (await client.get(f"{url}/ready")).status_code == httpx.codes.OK:
            await asyncio.sleep(_SETTLES)  # until every backend was probed
            return
        await asyncio.sleep(1.0)
    raise TimeoutError("the gateway did not become ready")


async def _scrape(client: httpx.AsyncClient, times: int) -> None:
    answers = await asyncio.gather(*(client.get("/metrics") for _ in range(times)))
    for answer in answers:
        answer.raise_for_status()
        print(f"  {len(answer.content):,} bytes in {answer.elapsed.total_seconds():.2f} s", file=sys.stderr)


async def _post(client: httpx.AsyncClient) -> None:
    (await client.post("/admin/reload")).raise_for_status()


@contextlib.asynccontextmanager
async def _running(name: str, *arguments: str) -> AsyncIterator[Child]:
    child = await spawn(name, arguments)
    try:
        yield child
    finally:
        await child.stop()


def _whole(data: bytes) -> bytes:
    return data[: len(data) // SAMPLE.size * SAMPLE.size]


def _phase(name: str, began: float, ended: float, rows: list[tuple[float, ...]]) -> Phase:
    """Return what the timers showed that were due meanwhile; lag that cost no CPU was another process' doing."""
    found = [(lag, min(lag, used)) for due, lag, used in rows if began <= due <= ended]
    return Phase(name, ended - began, Lags.met([own for _, own in found]), Lags.met([lag for lag, _ in found]))
