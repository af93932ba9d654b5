"""One gateway under each kind of load: windows of a few seconds, each with the CPU the gateway used in it."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from loadtest.bench import peers, proc

SSELOAD = Path(__file__).parent / "sseload"

NOISY_FOREIGN_PERCENT = 6.0
NOISY_STOLEN_PERCENT = 8.0

IDLE_MS = 60_000

Start: TypeAlias = Callable[[int, Path], list[str]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of load: options for sseload, and `warm` seconds before the window opens."""

    name: str
    options: str
    warm: float = 0.6


PLAIN = Scenario("plain", "-c 32")
ONE_CHUNK = Scenario("one_chunk", "-c 32 -s -n 1")
BURST = Scenario("burst", "-c 32 -s -n 128")
PACED = Scenario("paced", "-c 200 -s -n 128 -i 20 -t 20 -R 2.5 -D 0", warm=0.4)
LOW = Scenario("low", "-c 20 -s -n 16 -i 20 -t 20 -R 0.3")

EVERY_SCENARIO = (PLAIN, ONE_CHUNK, BURST, PACED, LOW)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure: `repeats` windows of `seconds` for each scenario, and how many idle streams to hold."""

    repeats: int
    seconds: float
    idle_streams: int


@dataclass(frozen=True, slots=True)
class Bench:
    """Where things run: the gateway has one core to itself, the engine and the load share another."""

    gateway_core: int
    load_core: int
    backend: int
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
    """Everything measured of one gateway; None for what was not measured, as in the run without a gateway."""

    name: str
    start_seconds: float | None = None
    idle_stream_kb: float | None = None
    connects_per_10k: float | None = None
    windows: dict[str, list[Window]] = field(default_factory=dict)


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


def repeated(bench: Bench, target: Target, scenario: Scenario) -> list[Window]:
    """Windows of one kind of load, noisy ones tried twice."""
    windows = []
    for number in range(1, bench.plan.repeats + 1):
        options = f"-w {scenario.warm} -d {bench.plan.seconds} -x {number} {scenario.options}"
        window = _window(bench, target, options)
        if window.noisy:
            again = _window(bench, target, options)
            if again.foreign + again.stolen < window.foreign + window.stolen:
                window = again
        windows.append(window)
    return windows


def warm_up(bench: Bench, target: Target) -> None:
    """A second of load that is not measured."""
    _window(bench, target, "-c 16 -w 0.1 -d 1")


def _idle_stream_kb(bench: Bench, target: Target) -> float:
    """What each of many streams costs that have begun and now wait for their second chunk."""
    _window(bench, target, "-c 8 -w 0.1 -d 1 -s -n 4")
    before = proc.memory_kb(target.pids())
    streams = bench.plan.idle_streams
    options = f"-c {streams} -R 3 -w 1.5 -d 1 -D 0 -s -n 2 -i {IDLE_MS}"
    with _sseload(bench, target.port, options) as process:
        _wait_for_mark(process, "begin")
        after = proc.memory_kb(target.pids())
        opened = int(_result(process)["events"])
    if opened < streams:
        bench.say(f"    only {opened} of {streams} idle streams opened")
    return (after - before) / max(1, opened)


def _connects_per_10k(bench: Bench, target: Target) -> float:
    """Connections the engine accepted for 10,000 requests; the two questions asked here are not counted."""
    before = peers.get_json(bench.backend, "/mock/stats")
    _window(bench, target, f"-w 0.2 -d {bench.plan.seconds} {PLAIN.options}")
    after = peers.get_json(bench.backend, "/mock/stats")
    connects, requests = (int(after[count]) - int(before[count]) - 1 for count in ("conns", "reqs"))
    return 10_000 * connects / max(1, requests)


@contextmanager
def mock(port: int, core: int, logs: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run an engine that costs next to nothing."""
    logs.mkdir(parents=True, exist_ok=True)
    with peers.running([str(peers.HERE / "mockvllm"), "-p", str(port)], core, logs) as process:
        yield process


@contextmanager
def engine(gateway_core: int, load_core: int, folder: Path, plan: Plan, say: Callable[[str], None]) -> Iterator[Bench]:
    """Run the engine, and keep this process to its core."""
    os.sched_setaffinity(0, {load_core})
    backend = peers.free_port()
    logs = folder / "engine"
    with mock(backend, load_core, logs) as process:
        peers.wait_until_it_answers(process, backend, logs)
        yield Bench(gateway_core, load_core, backend, folder, plan, say)


@contextmanager
def _gateway(bench: Bench, name: str, start: Start | None) -> Iterator[Target]:
    folder = bench.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    port = peers.free_port()
    argv = start(port, folder) if start is not None else peers.command(name, port, bench.backend, folder)
    with gateway(bench, folder, argv, port) as target:
        yield target


@contextmanager
def gateway(bench: Bench, folder: Path, argv: list[str], port: int) -> Iterator[Target]:
    """Run a gateway on its core, from when it answers."""
    with peers.running(argv, bench.gateway_core, folder) as process:
        seconds = peers.wait_until_it_answers(process, port, folder)
        yield Target(port, process.pid, seconds)


def measure_direct(bench: Bench) -> Measurement:
    """The engine with no gateway before it: what latencies are added to."""
    bench.say("direct: low")
    return Measurement("direct", windows={LOW.name: repeated(bench, Target(bench.backend, None), LOW)})


def measure_gateway(bench: Bench, name: str, start: Start | None = None) -> Measurement:
    """Everything about one gateway: memory in a fresh process, the rest in another.

    `start` gives the command for a port and a folder; without it, that of the known gateway `name`.
    """
    result = Measurement(name)
    bench.say(f"{name}: idle streams")
    with _gateway(bench, name, start) as target:
        result.start_seconds = target.start_seconds
        result.idle_stream_kb = _idle_stream_kb(bench, target)
    with _gateway(bench, name, start) as target:
        warm_up(bench, target)
        bench.say(f"{name}: upstream connects")
        result.connects_per_10k = _connects_per_10k(bench, target)
        for scenario in EVERY_SCENARIO:
            bench.say(f"{name}: {scenario.name}")
            result.windows[scenario.name] = repeated(bench, target, scenario)
    return result
