"""`python -m loadtest.scale fleet`: what workers and replicas add to one process, and what replicas cost their store.

CPU time per request is that of all the gateways' processes, on one core, over the requests that were answered. Each
round measures every setup afresh, so that what else goes on hits all alike; a figure is the median of the rounds.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import redis
import typer

from gateway import native
from loadtest.bench import gateways, measure, peers
from loadtest.bench.measure import Bench, Plan, Scenario, Target
from loadtest.bench.redis_server import RedisServer
from loadtest.scale import store_cost

MOST = 1.10
"""Of the CPU time per request of as many processes that share nothing."""
CONNECTIONS = 32
LOADS = {"plain": "", "burst": "-s -n 128"}
_SETTLES = 5.0
_SIZES = (10, 100, 1000)
_SERIES = (100, 1000)
"""What the table is for: 10 and 100 models with a version each, and five SLIs of each."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Gateways that are measured together: so many, each with some workers (0: one process, no supervisor)."""

    name: str
    replicas: int = 1
    workers: int = 0
    shares: bool = False

    @property
    def beside(self) -> "Setup":
        """What it is compared with: two processes take more than one on the same core, whatever they are."""
        return ALONE if max(self.replicas, self.workers) < 2 else APART

    def options(self, store: int) -> tuple[str, ...]:
        workers = ("--workers", str(self.workers)) if self.workers else ()
        return (*workers, "--state", f"redis://127.0.0.1:{store}/0") if self.shares else workers


ALONE = Setup("1 process")
APART = Setup("2 processes that share nothing", replicas=2)
SETUPS = (
    ALONE,
    Setup("1 worker", workers=1),
    Setup("1 replica on Redis", shares=True),
    APART,
    Setup("2 workers", workers=2),
    Setup("2 replicas on Redis", replicas=2, shares=True),
)


def fleet(
    *,
    rounds: Annotated[int, typer.Option(help="How often each setup is measured; 0: only the store.")] = 7,
    seconds: Annotated[float, typer.Option(help="How long a window lasts.")] = 3.0,
    store_seconds: Annotated[float, typer.Option(help="How long the store is watched, at rest and under load.")] = 30.0,
    models: Annotated[int, typer.Option(help="Models that get a request each second while it is.")] = 50,
    out: Annotated[Path, typer.Option(help="Where results and logs go.")] = Path("out/scale/fleet"),
) -> None:
    """Measure workers and replicas beside one process, and what replicas cost their store; fail above the limit."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("measuring needs two cores: one for the gateways, one for all else")
    out = out.absolute()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    plan = Plan(repeats=1, seconds=seconds, idle_streams=0, again=False)
    with measure.bench_of(cores[0], cores[1], out, plan, print) as bench:
        worst = _compare(bench, rounds) if rounds else 0.0
        _store(bench, store_seconds, models)
    print(f"\ntidegate ran {native.running()}")
    raise typer.Exit(int(worst > MOST))


def _compare(bench: Bench, rounds: int) -> float:
    """Print what each setup costs, and return the worst ratio to as many processes that share nothing."""
    found: dict[tuple[str, str], list[float]] = {}
    for number in range(1, rounds + 1):
        for setup in SETUPS:
            bench.say(f"round {number} of {rounds}: {setup.name}")
            with _running(bench, setup, f"{setup.name.replace(' ', '-')}-{number}", _routes(bench, 1)) as (targets, _):
                for target in targets:
                    measure.warm_up(bench, target)
                for load, options in LOADS.items():
                    found.setdefault((setup.name, load), []).append(_cost(bench, targets, load, options, number))
    print(f"\n| CPU time per request | {' | '.join(LOADS)} | of 1 process | of as many that share nothing |")
    print(f"| --- |{' ---: |' * (len(LOADS) + 2)}")
    worst = 0.0
    for setup in SETUPS:
        of_one, of_many = _ratios(found, setup, ALONE), _ratios(found, setup, setup.beside)
        worst = max(worst, *of_many)
        figures = [f"{median(found[setup.name, load]):,.0f} us" for load in LOADS]
        ratios = [", ".join(f"{ratio:.2f}" for ratio in each) for each in (of_one, of_many)]
        print(f"| {' | '.join([setup.name, *figures, *ratios])} |")
    print(f"\nworst {worst:.3f}, at most {MOST:g}: {'ok' if worst <= MOST else 'FAIL'}")
    return worst


def _ratios(found: Mapping[tuple[str, str], Sequence[float]], setup: Setup, beside: Setup) -> list[float]:
    """Return what a setup costs under each load, of what another does: the median of the rounds."""
    return [
        median(a / b for a, b in zip(found[setup.name, load], found[beside.name, load], strict=True)) for load in LOADS
    ]


def _cost(bench: Bench, targets: Sequence[Target], load: str, options: str, number: int) -> float:
    """Return the microseconds of CPU time of a request, all targets together."""
    scenario = Scenario(load, f"-c {CONNECTIONS // len(targets)} {options}")
    with ThreadPoolExecutor(len(targets)) as pool:
        windows = list(pool.map(lambda target: measure.window_of(bench, target, scenario, number), targets))
    errors = sum(int(window.load["errors"]) for window in windows)
    if errors:
        bench.say(f"  {errors} errors under {load}")
    return 1e6 * sum(window.cpu for window in windows) / max(1, sum(int(window.load["win_done"]) for window in windows))


def _store(bench: Bench, seconds: float, models: int) -> None:
    """Print what a replica costs the store, and what fleets do."""
    bench.say(f"two replicas on one Redis: {models} models, {seconds:g} s at rest and under load")
    setup = SETUPS[-1]
    with _running(bench, setup, "store", _routes(bench, models)) as (targets, store):
        client = redis.Redis(port=store, decode_responses=True)
        time.sleep(_SETTLES)
        rest = _watched(client, seconds, setup.replicas)
        with _asking(targets, models):
            time.sleep(_SETTLES)
            load = _watched(client, seconds, setup.replicas)
        kept = store_cost.stored(client)
        memory = client.info("memory")["used_memory"]
        client.close()
    (bench.folder / "store.json").write_text(store_cost.as_json({"rest": rest, "load": load}, kept))
    print(f"\na replica at rest: {rest}")
    print(f"a replica with {models} models, {kept.series} series: {load}")
    print(f"{kept.rows:,} rows of {kept.bytes_per_row:.0f} bytes, {memory / 1e6:.1f} MB in all\n")
    fleets = [each for series in _SERIES for each in store_cost.project(rest, load, kept, series, _SIZES)]
    print("\n".join(store_cost.table(fleets)))
    for each in fleets[:: len(_SIZES)]:
        most = each.replicas / each.cores
        print(f"\nWith {each.series:,} series the server's one core is full at {most:,.0f} replicas.")


def _watched(client: Any, seconds: float, replicas: int) -> store_cost.Rate:
    before = store_cost.read(client)
    time.sleep(seconds)
    return store_cost.rate(before, store_cost.read(client), replicas)


def _routes(bench: Bench, models: int) -> dict[str, Any]:
    """Return the routes of `loadtest.bench` with everything on, and more models on the same engines."""
    routes = gateways.on(bench.world.engines)
    version = {"pools": ["gpu"], "served_model": peers.MODEL}
    more = {_model(each): {"objective": "all", "versions": {"v1": version}} for each in range(1, models)}
    return {**routes, "models": {**routes["models"], **more}}


def _model(number: int) -> str:
    return f"model-{number}" if number else peers.MODEL


@contextmanager
def _running(bench: Bench, setup: Setup, name: str, routes: dict[str, Any]) -> Iterator[tuple[list[Target], int]]:
    """Run the gateways of a setup, and a store of their own, until the block ends."""
    folder = bench.folder / name
    with ExitStack() as stack:
        store = stack.enter_context(_redis(folder / "redis")) if setup.shares else 0
        targets = []
        for number in range(setup.replicas):
            own, port = folder / f"gateway-{number}", peers.free_port()
            own.mkdir(parents=True)
            argv = peers.tidegate(port, own, routes, *setup.options(store))
            targets.append(stack.enter_context(measure.gateway(bench, own, argv, port)))
        yield targets, store


@contextmanager
def _redis(folder: Path) -> Iterator[int]:
    """Run a Redis server that saves nothing to disk until the block ends; gives its port."""
    folder.mkdir(parents=True)
    server = RedisServer(folder)
    try:
        server.start()
        yield server.port
    finally:
        server.stop()


@contextmanager
def _asking(targets: Sequence[Target], models: int) -> Iterator[None]:
    """Send each replica a stream of each model every second until the block ends."""
    done = threading.Event()

    def ask(port: int) -> None:
        headers = {"content-type": "application/json", "authorization": f"Bearer {peers.KEY}"}
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        while not done.is_set():
            began = time.monotonic()
            for number in range(models):
                message = {"role": "user", "content": "mock:ttft=0,itl=0,n=3;"}
                body = json.dumps({"model": _model(number), "messages": [message], "stream": True, "max_tokens": 3})
                connection.request("POST", "/v1/chat/completions", body, headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    raise SystemExit(f"{_model(number)} was answered with {answer.status}")
            done.wait(max(0.0, began + 1.0 - time.monotonic()))
        connection.close()

    with ThreadPoolExecutor(len(targets)) as pool:
        asking = [pool.submit(ask, target.port) for target in targets]
        try:
            yield
        finally:
            done.set()
        for each in asking:
            each.result()
