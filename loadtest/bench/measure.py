"""One gateway under each kind of load: windows of a few seconds, each with the CPU the gateway used in it."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.bench import peers, proc
from loadtest.bench.collector import collecting
from loadtest.bench.dashboards import open_dashboards
from loadtest.bench.gateways import ENGINES, Gateway, World

SSELOAD = Path(__file__).parent / "sseload"

NOISY_FOREIGN_PERCENT = 6.0
NOISY_STOLEN_PERCENT = 8.0

IDLE_MS = 60_000
FIRST_USE = 6.0
"""Seconds after the first requests in which a gateway may still load what it needs now and then, such as exports."""

RAMP = 8.0
"""Seconds over which idle streams are opened: slowly enough that no limit which has to grow first makes some wait."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of load: options for sseload, `warm` seconds before the window opens, and its share of a window's time."""

    name: str
    options: str
    warm: float = 0.6
    share: float = 1.0


PLAIN = Scenario("plain", "-c 32")
ONE_CHUNK = Scenario("one_chunk", "-c 32 -s -n 1")
BURST = Scenario("burst", "-c 32 -s -n 128")
PACED = Scenario("paced", "-c 200 -s -n 128 -i 20 -t 20 -R 2.5 -D 0", warm=0.4)
LOW = Scenario("low", "-c 20 -s -n 16 -i 20 -t 20 -R 0.3")

CPU_SCENARIOS = (PLAIN, ONE_CHUNK, BURST, PACED)

MESSAGE_BYTES = 100


@dataclass(frozen=True, slots=True)
class Body:
    """A long prompt: so many bytes of text, in one message or in many short ones."""

    kilobytes: int
    many: bool

    def __str__(self) -> str:
        size = f"{self.kilobytes} KB" if self.kilobytes < 1000 else f"{self.kilobytes / 1000:g} MB"
        return f"body of {size}, {f'messages of {MESSAGE_BYTES} bytes' if self.many else 'one message'}"

    @property
    def scenario(self) -> Scenario:
        """The load of it: few connections, as the load has to share a core with the engines."""
        name = f"body_{self.kilobytes}k_{'many' if self.many else 'one'}"
        messages = f" -M {MESSAGE_BYTES}" if self.many else ""
        return Scenario(name, f"-c 4 -n 1 -b {1000 * self.kilobytes}{messages}", warm=0.3, share=0.5)


BODIES = tuple(Body(kilobytes, many) for many in (False, True) for kilobytes in (100, 400, 1000))
LONGEST = (Body(1000, many=False), Body(1000, many=True))
EVERY_SCENARIO = (*CPU_SCENARIOS, LOW, *(body.scenario for body in BODIES))


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure: `repeats` windows of `seconds` of each kind of load, and how many idle streams to hold.

    `again` says whether a noisy window is measured once more.
    """

    repeats: int
    seconds: float
    idle_streams: int
    again: bool = True


@dataclass(frozen=True, slots=True)
class Bench:
    """Where things run: the gateway has one core to itself, all else shares another."""

    gateway_core: int
    load_core: int
    world: World
    folder: Path
    plan: Plan
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Window:
    """What sseload counted in one window (`load`), and what the gateway used meanwhile.

    `cpu` is in seconds; `foreign` is the share of the gateway's core that others took, `stolen` what the host
    withheld of both cores, both in per cent of the window.
    """

    seconds: float
    cpu: float
    foreign: float
    stolen: float
    load: dict[str, Any]

    @property
    def noisy(self) -> bool:
        """Whether something else than the gateway may have decided the figures."""
        return self.foreign > NOISY_FOREIGN_PERCENT or self.stolen > NOISY_STOLEN_PERCENT


@dataclass(slots=True)
class Measurement:
    """Everything measured of one gateway in one round; None for what was not, as in that without a gateway."""

    name: str
    start_seconds: float | None = None
    idle_stream_kb: float | None = None
    connects_per_10k: float | None = None
    windows: dict[str, Window] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """What the load is sent to: a port, and the root of the process tree to watch (None: no gateway)."""

    port: int
    root: int | None
    start_seconds: float = 0.0

    def pids(self) -> list[int]:
        """The gateway's processes now."""
        return proc.tree(self.root) if self.root else []


@contextmanager
def _sseload(bench: Bench, port: int, options: str) -> Iterator[subprocess.Popen[str]]:
    argv = ["taskset", "-c", str(bench.load_core), str(SSELOAD), "-p", str(port), "-m", peers.MODEL, *options.split()]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        peers.end(process)
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()


def _wait_for_mark(process: subprocess.Popen[str], mark: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if line.strip() == f"MARK {mark}":
            return
    raise RuntimeError(f"sseload ended before its window's {mark}")


def _result(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    counted: dict[str, Any] = json.loads(process.stdout.read())
    process.wait()
    return counted


def _window(bench: Bench, target: Target, options: str) -> Window:
    pids = target.pids()
    with _sseload(bench, target.port, options) as process:
        _wait_for_mark(process, "begin")
        begin = proc.sample(pids)
        _wait_for_mark(process, "end")
        end = proc.sample(pids)
        load = _result(process)
    seconds, cpu = end.at - begin.at, end.cpu - begin.cpu
    own, other = bench.gateway_core, bench.load_core
    busy = end.cores[own].busy - begin.cores[own].busy
    stolen = sum(end.cores[core].stolen - begin.cores[core].stolen for core in (own, other))
    foreign = 100 * (busy - cpu) / seconds if target.root else 0.0
    return Window(seconds, cpu, foreign, 100 * stolen / seconds, load)


def window_of(bench: Bench, target: Target, scenario: Scenario, number: int = 1) -> Window:
    """One window of one kind of load, the better of two where the first was noisy and the plan says so."""
    seconds = bench.plan.seconds * scenario.share
    options = f"-w {scenario.warm} -d {seconds} -x {number} {scenario.options}"
    window = _window(bench, target, options)
    if window.noisy and bench.plan.again:
        again = _window(bench, target, options)
        if again.foreign + again.stolen < window.foreign + window.stolen:
            return again
    return window


def repeated(bench: Bench, target: Target, scenario: Scenario) -> list[Window]:
    """As many windows of one kind of load as are planned."""
    return [window_of(bench, target, scenario, number) for number in range(1, bench.plan.repeats + 1)]


def warm_up(bench: Bench, target: Target) -> None:
    """A second of load that is not measured."""
    _window(bench, target, "-c 16 -w 0.1 -d 1")


def _idle_stream_kb(bench: Bench, target: Target) -> float:
    """What each of many streams costs that have begun and now wait for their second chunk."""
    _window(bench, target, "-c 8 -w 0.1 -d 1 -s -n 4")
    time.sleep(FIRST_USE)  # what is loaded once, after the first requests, belongs to no stream
    before = proc.memory_kb(target.pids())
    streams = bench.plan.idle_streams
    options = f"-c {streams} -R {RAMP} -w 0.5 -d 0.2 -D 0 -s -n 2 -i {IDLE_MS}"
    with _sseload(bench, target.port, options) as process:
        _wait_for_mark(process, "begin")
        after = proc.memory_kb(target.pids())
        opened = int(_result(process)["events"])
    if opened < streams:
        bench.say(f"    only {opened} of {streams} idle streams opened")
    return (after - before) / max(1, opened)


def _plain(bench: Bench, target: Target, number: int) -> tuple[Window, float]:
    """The window of plain requests, and the connections that engines accepted for 10,000 requests meanwhile."""
    before = _stats(bench)
    window = window_of(bench, target, PLAIN, number)
    after = _stats(bench)
    connects = after[0] - before[0] - len(bench.world.engines)  # those that asked just now
    return window, 10_000 * connects / max(1, after[1] - before[1])


def _stats(bench: Bench) -> tuple[int, int]:
    """How many connections and requests all engines have had; asking takes a connection to each."""
    asked = [peers.get_json(engine, "/mock/stats") for engine in bench.world.engines]
    return sum(int(each["conns"]) for each in asked), sum(int(each["reqs"]) for each in asked)


@contextmanager
def mock(port: int, core: int, logs: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run an engine that costs next to nothing."""
    logs.mkdir(parents=True, exist_ok=True)
    with peers.running([str(peers.HERE / "mockvllm"), "-p", str(port)], core, logs) as process:
        yield process


@contextmanager
def bench_of(
    gateway_core: int, load_core: int, folder: Path, plan: Plan, say: Callable[[str], None]
) -> Iterator[Bench]:
    """Run the engines and the collector of traces, and keep this process to their core."""
    os.sched_setaffinity(0, {load_core})
    ports = tuple(peers.free_port() for _ in range(ENGINES))
    with ExitStack() as stack:
        for number, port in enumerate(ports):
            logs = folder / f"engine-{number}"
            peers.wait_until_it_answers(stack.enter_context(mock(port, load_core, logs)), port, logs)
        collector = stack.enter_context(collecting())
        yield Bench(gateway_core, load_core, World(ports, collector), folder, plan, say)


@contextmanager
def gateway(bench: Bench, folder: Path, argv: list[str], port: int) -> Iterator[Target]:
    """Run a gateway on its core, from when it answers."""
    with peers.running(argv, bench.gateway_core, folder) as process:
        seconds = peers.wait_until_it_answers(process, port, folder)
        yield Target(port, process.pid, seconds)


def measure_direct(bench: Bench, number: int) -> Measurement:
    """An engine with no gateway before it: what latencies are added to."""
    bench.say("  direct: low")
    return Measurement(
        "direct", windows={LOW.name: window_of(bench, Target(bench.world.engines[0], None), LOW, number)}
    )


def measure_gateway(
    bench: Bench,
    what: Gateway,
    number: int,
    scenarios: tuple[Scenario, ...] = EVERY_SCENARIO,
    *,
    idle: bool = True,
    dashboards: int = 0,
) -> Measurement:
    """One round of a gateway in a fresh process: memory first, then one window of each kind of load.

    So many `dashboards` are open at its admin listener meanwhile.
    """
    result = Measurement(what.name)
    folder, port = bench.folder / f"{what.name}-{number}", peers.free_port()
    folder.mkdir(parents=True, exist_ok=True)
    argv = what.start(bench.world, port, folder)
    with gateway(bench, folder, argv, port) as target, open_dashboards(peers.admin_port(argv), dashboards) as opened:
        result.start_seconds = target.start_seconds
        if idle:
            bench.say(f"  {what.name}: idle streams")
            result.idle_stream_kb = _idle_stream_kb(bench, target)
        warm_up(bench, target)
        for scenario in scenarios:
            bench.say(f"  {what.name}: {scenario.name}")
            if scenario is PLAIN:
                result.windows[PLAIN.name], result.connects_per_10k = _plain(bench, target, number)
            else:
                result.windows[scenario.name] = window_of(bench, target, scenario, number)
        if not all(each.events for each in opened):
            raise RuntimeError(f"{what.name}: a dashboard was told nothing")
    return result
