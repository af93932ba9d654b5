"""Play one scenario once: the same requests and faults, at the same time, through several gateways side by side."""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from time import monotonic
from typing import TypeVar

import httpx

from loadtest.bench import proc
from loadtest.report.recording import About, Event, Recording, Request, Sample
from loadtest.report.told import read
from loadtest.scenarios.client import ask
from loadtest.scenarios.engines import Engine, controlling, engines, inflict
from loadtest.scenarios.gateways import TIDEGATE, Gateway, running
from loadtest.scenarios.peers import Setup
from loadtest.scenarios.scenario import Fault, Scenario
from loadtest.scenarios.traffic import Traffic
from loadtest.traces.formats import Arrival as Traced

_T = TypeVar("_T")
_STAGGER = 0.007
"""Seconds by which each gateway's load is behind the one before, so that not all are asked in the same instant."""
_SETTLE = 1.0


@dataclass(frozen=True, slots=True)
class Played:
    """What was recorded, and how far it can be trusted.

    `late` is by how many seconds requests were sent late at p99, which counts in their times; `others` is the share of
    all cores that other programs used, which gateways then waited for.
    """

    recording: Recording
    late: float
    others: float


async def play(
    scenario: Scenario,
    seed: int,
    names: Sequence[str],
    folder: Path,
    starting: AbstractAsyncContextManager[object] | None = None,
    trace: Sequence[Traced] = (),
) -> Played:
    """Return what happened, for all gateways in one recording; raises ProcessDied when one does not start.

    Processes are started inside `starting`, so that plays at the same time need not start theirs all at once.
    """
    traffic = Traffic(scenario, seed, trace)
    async with contextlib.AsyncExitStack() as stack:
        control = await stack.enter_async_context(controlling())
        async with starting or contextlib.nullcontext():
            groups = await _all(stack, [engines(scenario, seed) for _ in names])
            setups = [
                Setup(scenario, group, folder / name.replace(" ", "-"))
                for name, group in zip(names, groups, strict=True)
            ]
            gateways = await _all(stack, [running(name, setup) for name, setup in zip(names, setups, strict=True)])
        began = monotonic() + _SETTLE
        before = proc.sample(proc.tree(os.getpid()))
        gaps: Counter[tuple[int, float]] = Counter()
        late: list[float] = []
        series: list[Sample] = []
        sampling = asyncio.gather(
            *(_sample(control, each, began, series) for each in gateways if each.name == TIDEGATE)
        )
        faults = asyncio.gather(*(_break(control, fault, groups, began) for fault in scenario.faults))
        driven = await asyncio.gather(
            *(
                _drive(traffic, gateway, began + number * _STAGGER, gaps, late)
                for number, gateway in enumerate(gateways)
            )
        )
        await faults
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
        after = proc.sample(proc.tree(os.getpid()))
    behind = sorted(late)[int(len(late) * 0.99)] if late else 0.0
    own, others = _used(before, after)
    note = (
        f"Gateways, engines and load used {own:.0%} of all cores, other programs {others:.0%}; "
        f"the load generator was late by {behind * 1000:.1f} ms at p99."
    )
    about = _about(scenario, seed, names, note)
    return Played(Recording(about, [*chain.from_iterable(driven)], gaps, series), behind, others)


async def _all(stack: contextlib.AsyncExitStack, started: Sequence[AbstractAsyncContextManager[_T]]) -> list[_T]:
    """Enter contexts at the same time; what has been entered is left with the stack, whatever the others do."""

    async def enter(one: AbstractAsyncContextManager[_T]) -> _T:
        return await stack.enter_async_context(one)

    async with asyncio.TaskGroup() as tasks:
        entering = [tasks.create_task(enter(one)) for one in started]
    return [task.result() for task in entering]


async def _drive(
    traffic: Traffic, gateway: Gateway, began: float, gaps: Counter[tuple[int, float]], late: list[float]
) -> list[Request]:
    """Send every request when it is due, whatever became of those before."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    asking = []
    for arrival in traffic.arrivals:
        due = began + arrival.at
        await asyncio.sleep(due - monotonic())
        late.append(monotonic() - due)
        data = traffic.request(arrival, gateway.url.removeprefix("http://"))
        asking.append(
            asyncio.create_task(ask((host, int(port)), arrival, data, due=due, gateway=gateway.name, gaps=gaps))
        )
    return await asyncio.gather(*asking)


async def _sample(control: httpx.AsyncClient, gateway: Gateway, began: float, series: list[Sample]) -> None:
    """Read what the gateway tells of itself, once a second until cancelled."""
    attempts: dict[str, float] = {}
    for second in count():
        await asyncio.sleep(max(0.0, began + second - monotonic()))
        with contextlib.suppress(httpx.HTTPError):
            text = (await control.get(f"{gateway.admin}/metrics")).text
            samples, attempts = read(text, monotonic() - began, attempts)
            series += samples


async def _break(control: httpx.AsyncClient, fault: Fault, groups: Sequence[list[Engine]], began: float) -> None:
    """Put a fault in force at its time and end it at its time, before every gateway alike."""
    for at, faults in ((fault.at, fault.faults), (fault.until, {})):
        await asyncio.sleep(began + at - monotonic())
        chosen = [engine for group in groups for engine in group if engine.name in fault.engines]
        await inflict(control, chosen, faults)


def _about(scenario: Scenario, seed: int, names: Sequence[str], note: str) -> About:
    ends = [Event(fault.until, f"{fault.label} ends") for fault in scenario.faults if fault.until < scenario.seconds]
    streams = [Event(each.start, f"{each.name} begins") for each in scenario.load if each.start > 0]
    events = [*(Event(fault.at, fault.label) for fault in scenario.faults), *ends, *streams]
    return About(
        title=scenario.title,
        command=f"make scenarios ARGS='--only {scenario.name} --seed {seed}'",
        seed=seed,
        seconds=scenario.seconds,
        time_scale=scenario.time_scale,
        objective=scenario.objective.as_recorded(),
        events=tuple(sorted(events, key=lambda event: event.at)),
        notes=(scenario.about, f"Side by side: {', '.join(names)}.", note),
    )


def _used(before: proc.Sample, after: proc.Sample) -> tuple[float, float]:
    """Return which share of all cores this run's processes used, and which others did."""
    whole = (after.at - before.at) * len(after.cores)
    busy = sum(core.busy - before.cores[name].busy for name, core in after.cores.items())
    own = after.cpu - before.cpu
    return own / whole, max(0.0, busy - own) / whole
