"""The soak itself: engines that flap, clients that hang up, routes that are reloaded, and what the gateway holds."""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from loadtest.report.recording import Request
from loadtest.scenarios.client import ask
from loadtest.scenarios.engines import Engine, controlling, engines, inflict
from loadtest.scenarios.gateways import ROUTES, TIDEGATE, Gateway, running
from loadtest.scenarios.peers import Setup
from loadtest.scenarios.scenario import Scenario
from loadtest.scenarios.traffic import Traffic

OTHER_DESCRIPTORS = "other_descriptors"
"""Those that are no connection of a client or to an engine, whose number is that of the load of the moment."""
WATCHED = {
    "process_resident_memory_bytes": "memory, MiB",
    OTHER_DESCRIPTORS: "descriptors, connections aside",
    "tidegate_tasks": "tasks",
}
TOLD = (
    "tidegate_requests_total",
    "tidegate_reloads_total",
    "tidegate_reload_failures_total",
    "tidegate_ejections_total",
    "process_cpu_seconds_total",
)
AT_REST = ("tidegate_in_flight", "tidegate_client_connections", "tidegate_backend_in_flight", "tidegate_queue_depth")
_CONNECTIONS = ("tidegate_client_connections", "tidegate_backend_in_flight", "tidegate_backend_idle_connections")
_CONTROL_SECONDS = 60.0
"""Processes at the lowest priority are seconds late on a busy machine, which is no fault of theirs."""
_HANGS_UP = 0.15
_PATIENCE = (0.05, 0.4)
_SCRAPE = 1.0
_TRIES = 3
_FLAP = 6.0
_RELOAD = 2.0
_REST_SECONDS = 15.0
_FAULTS: tuple[dict[str, object], ...] = (
    {"slow": 6.0},
    {"error_rate": 1.0},
    {"cut_after": 3},
    {"refuse": True, "cut_after": 0},
    {"stall_after": 4},
    {"stream_error_after": 3},
    {"not_ready_seconds": 3.0},
)


@dataclass
class Seen:
    """What a soak saw.

    `samples` are (second, value) by metric, `rest` what was still in progress at the end, `told` what the gateway
    counted meanwhile.
    """

    requests: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    hung_up: int = 0
    flaps: int = 0
    written: int = 0
    broken: int = 0
    samples: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    rest: dict[str, float] = field(default_factory=dict)
    told: dict[str, float] = field(default_factory=dict)


def scenario(rate: float) -> Scenario:
    """Return the engines and the load: four of them, at about three fifths of what they can bear."""
    return Scenario.model_validate(
        {
            "name": "soak",
            "title": "Soak",
            "about": "Engines flap, clients hang up, routes are reloaded.",
            "seconds": 600,
            "judged": [0, 600],
            "engines": {"gpu": {"count": 4}},
            "load": [
                {"name": "chat", "rate": rate, "prompt_tokens": [50, 4000], "output_tokens": [5, 60], "sessions": 500},
            ],
            "objective": {"ttft": "1s", "tpot": "150ms"},
            "tidegate": {"model": {"timeouts": {"first_token": "5s", "stall": "2s", "total": "30s"}}},
        }
    )


async def soak(seconds: float, rate: float, seed: int, folder: Path) -> Seen:
    """Run it and return what was seen; raises ProcessDied when something does not start."""
    plan, seen = scenario(rate), Seen()
    async with contextlib.AsyncExitStack() as stack:
        control = await stack.enter_async_context(controlling(_CONTROL_SECONDS))
        group = await stack.enter_async_context(engines(plan, seed))
        setup = Setup(plan, group, folder)
        gateway = await stack.enter_async_context(running(TIDEGATE, setup))
        before = await scraped(control, gateway)
        troubles = asyncio.gather(
            _flapping(control, group, Random(seed), seen),
            _reloading(setup.folder / ROUTES, seen),
            _watching(control, gateway, monotonic(), seen),
        )
        load = asyncio.create_task(_load(plan, seed, gateway, seconds, seen))
        either: list[asyncio.Future[Any]] = [troubles, load]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if troubles.done():
            load.cancel()
            troubles.result()
        troubles.cancel()
        await asyncio.gather(troubles, return_exceptions=True)
        await load
        await inflict(control, group, {})
        seen.rest = await _at_rest(control, gateway)
        after = await scraped(control, gateway)
    seen.told = {name: after.get(name, 0.0) - before.get(name, 0.0) for name in TOLD}
    return seen


async def _load(plan: Scenario, seed: int, gateway: Gateway, seconds: float, seen: Seen) -> None:
    """Ask at random for so long; some clients lose their patience and hang up."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    gaps: Counter[tuple[int, float]] = Counter()
    rng = Random(seed)
    traffic = Traffic(plan, seed)
    began = monotonic()
    async with asyncio.TaskGroup() as asking:
        for arrival in traffic.arrivals:
            if arrival.at > seconds:
                return
            due = began + arrival.at
            await asyncio.sleep(due - monotonic())
            data = traffic.request(arrival, "soak")
            asked = ask((host, int(port)), arrival, data, due=due, gateway=TIDEGATE, gaps=gaps)
            patience = rng.uniform(*_PATIENCE) if rng.random() < _HANGS_UP else None
            asking.create_task(_one(asked, patience, seen))


async def _one(asked: Coroutine[Any, Any, Request], patience: float | None, seen: Seen) -> None:
    seen.requests += 1
    try:
        async with asyncio.timeout(patience):
            seen.outcomes[(await asked).outcome] += 1
    except TimeoutError:
        seen.hung_up += 1


async def _flapping(control: httpx.AsyncClient, group: list[Engine], rng: Random, seen: Seen) -> None:
    """Make one engine after another sick in some way for a while."""
    while True:
        victim, faults = rng.choice(group), rng.choice(_FAULTS)
        await inflict(control, [victim], faults)
        seen.flaps += 1
        await asyncio.sleep(rng.uniform(0.3, 1.0) * _FLAP)
        await inflict(control, [victim], {})
        await asyncio.sleep(rng.uniform(0.0, 0.5) * _FLAP)


async def _reloading(routes: Path, seen: Seen) -> None:
    """Rewrite the routes again and again, every fifth time so that they cannot be loaded."""
    good = _read(routes)
    for turn in count(1):
        await asyncio.sleep(_RELOAD)
        broken = turn % 5 == 0
        _written(routes, "models: [\n" if broken else good.replace("total: 30s", f"total: {30 + turn % 7}s"))
        seen.written += not broken
        seen.broken += broken


def _read(path: Path) -> str:
    return path.read_text()


def _written(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


async def _watching(control: httpx.AsyncClient, gateway: Gateway, began: float, seen: Seen) -> None:
    while True:
        figures = await scraped(control, gateway)
        for name in WATCHED:
            seen.samples.setdefault(name, []).append((monotonic() - began, figures[name]))
        await asyncio.sleep(_SCRAPE)


async def scraped(control: httpx.AsyncClient, gateway: Gateway) -> dict[str, float]:
    """Return every metric of the gateway, summed over its labels, and its OTHER_DESCRIPTORS.

    A kept connection that a starved gateway has just closed as idle is no fault: it is asked again.
    """
    for tries_left in reversed(range(_TRIES)):
        try:
            answer = (await control.get(f"{gateway.admin}/metrics")).raise_for_status()
            break
        except httpx.TransportError:
            if not tries_left:
                raise
    found: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found[sample.name] += sample.value
    return {**found, OTHER_DESCRIPTORS: found["process_open_fds"] - sum(found[name] for name in _CONNECTIONS)}


async def _at_rest(control: httpx.AsyncClient, gateway: Gateway) -> dict[str, float]:
    """Return what is still in progress once the load is over; waits for it to become nothing, for a while."""
    figures: dict[str, float] = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_REST_SECONDS):
            while True:
                figures = await scraped(control, gateway)
                if not any(figures.get(name) for name in AT_REST):
                    break
                await asyncio.sleep(_SCRAPE)
    return {name: figures.get(name, 0.0) for name in AT_REST}
