"""One engine of four is slowed five times under steady load, for real: processes, sockets, the gateway's data plane.

Three ways to choose a backend are measured in the same scenario: the gateway's, round robin, and least in flight.
"""

import asyncio
import contextlib
import json
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

import httpx

from gateway.app import App
from gateway.backends.backend import Backend
from gateway.claim import SMALLEST, Claim
from gateway.config.load import load_routes
from gateway.exchange import Exchange
from gateway.listeners import Addresses
from gateway.observers import Observer
from gateway.policy.routing.choose import Choice, choose
from gateway.policy.routing.ejection import Transition
from gateway.policy.routing.pick import Chance
from gateway.processes.child import Child, spawn
from gateway.proxy.routed_request import Chooser
from gateway.settings import Settings

MODEL = "brown"
ENGINES = 4
RATE = 20.0
PROMPT_BYTES = 6400
TOKENS = 12
SLOW = 5.0
THRESHOLD = 0.5
"""Seconds of TTFT above which a request missed its target."""
PREFILL_RATE = 20_000.0
"""Prompt tokens per second of one engine: what its share of time in prefill, its utilisation, is reckoned from."""
_ENGINE = (f"prefill_rate={PREFILL_RATE}", "prefix_caching=0")
_UNBOUNDED = httpx.Limits(max_connections=None, max_keepalive_connections=None)
_URL = re.compile(r"http://[0-9.]+:\d+")


@dataclass(frozen=True)
class Plan:
    """Seconds of each part; `healed` only where the gateway's own choice is measured."""

    warm_up: float = 25.0
    sick: float = 70.0
    healed: float = 125.0


@dataclass
class Seen:
    """One settled request: when it came, who served it, its TTFT in seconds (None when it failed)."""

    received: float
    backend: str
    ttft: float | None


@dataclass
class Log(Observer):
    """Keeps what the report needs."""

    seen: list[Seen] = field(default_factory=list)

    def on_settled(self, exchange: Exchange) -> None:
        ttft = exchange.ttft if exchange.outcome == "ok" else None
        self.seen.append(Seen(exchange.received, exchange.backend, ttft))

    def share(self, backends: Sequence[str], start: float, end: float) -> float:
        """The share of requests of a span that these backends served."""
        rows = [row.backend in backends for row in self.seen if start <= row.received < end]
        return sum(rows) / len(rows) if rows else 0.0

    def missed(self, start: float, end: float) -> float:
        """The share of requests of a span that missed the TTFT threshold or failed."""
        rows = [row.ttft is None or row.ttft > THRESHOLD for row in self.seen if start <= row.received < end]
        return sum(rows) / len(rows) if rows else 0.0


@dataclass
class Result:
    """What one way of choosing made of it; shares are of all requests, times are seconds after the fault or its end."""

    strategy: str
    sick: int
    share_before: float
    share_after_10_s: float
    missed_before: float
    missed_in_the_minute: float
    requests: int
    utilisation: float
    full_share_after: float | None
    panic: bool
    transitions: list[str]


def round_robin() -> Chooser:
    turn = count()

    def choice(
        ready: Sequence[Backend], _tokens: int, now: float, _rng: Chance, claim: Claim = SMALLEST
    ) -> Choice[Backend] | None:
        able = [backend for backend in ready if backend.health.takes(claim, now)]
        return Choice(able[next(turn) % len(able)], "its turn") if able else None

    return choice


def least_in_flight(
    ready: Sequence[Backend], _tokens: int, now: float, rng: Chance, claim: Claim = SMALLEST
) -> Choice[Backend] | None:
    able = [backend for backend in ready if backend.health.takes(claim, now)]
    lowest = min((backend.in_flight for backend in able), default=0)
    tied = [backend for backend in able if backend.in_flight == lowest]
    if not tied:
        return None
    return Choice(tied[int(rng.random() * len(tied))], "fewest in flight")


STRATEGIES: dict[str, Callable[[], Chooser]] = {
    "tidegate": lambda: choose,
    "round robin": round_robin,
    "least in flight": lambda: least_in_flight,
}


@contextlib.asynccontextmanager
async def engines() -> AsyncIterator[list[str]]:
    """Simulated engines, each a process."""
    children: list[Child] = []
    try:
        urls = []
        for number in range(ENGINES):
            knobs = [part for knob in _ENGINE for part in ("--engine", knob)]
            command = ["gateway.sim", "--port", "0", "--model", MODEL, "--seed", str(number), *knobs]
            children.append(await spawn(f"engine {number}", command))
            urls.append(_URL.findall(await children[-1].line_with("listening on"))[0])
        yield urls
    finally:
        await asyncio.gather(*(child.stop() for child in children))


@contextlib.asynccontextmanager
async def gateway(urls: Sequence[str], log: Log, chooser: Chooser) -> AsyncIterator[tuple[App, Addresses]]:
    """The gateway in this process, before these engines."""
    with tempfile.TemporaryDirectory() as folder:
        routes = Path(folder) / "routes.yaml"
        routes.write_text(json.dumps(_routes(urls)))
        app = App(
            Settings(routes=routes, port=0, admin_port=0, access_log=False), load_routes(routes), log, choose=chooser
        )
        started: asyncio.Future[Addresses] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(app.run(started.set_result))
        try:
            yield app, await started
        finally:
            app.stop()
            app.stop()
            await task


def _routes(urls: Sequence[str]) -> dict[str, object]:
    return {
        "pools": {"gpu": {"backends": list(urls)}},
        "objectives": {
            "brown": {
                "availability": {"target": 99.9},
                "ttft": {"target": 99, "under": f"{int(THRESHOLD * 1000)}ms"},
                "tpot": {"target": 99, "under": "100ms"},
            }
        },
        "models": {MODEL: {"objective": "brown", "versions": {"v1": {"pools": ["gpu"]}}}},
    }


async def load(client: httpx.AsyncClient, url: str, rate: float, rng: Random) -> None:
    """Ask as independent clients do, until cancelled."""
    loop = asyncio.get_running_loop()
    asking: set[asyncio.Task[None]] = set()
    due = loop.time()
    try:
        while True:
            due += rng.expovariate(rate)
            await asyncio.sleep(due - loop.time())
            task = asyncio.create_task(_ask(client, url, rng))
            asking.add(task)
            task.add_done_callback(asking.discard)
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def _ask(client: httpx.AsyncClient, url: str, rng: Random) -> None:
    words = "".join(rng.choices("abcdefgh ", k=int(PROMPT_BYTES * rng.uniform(0.5, 1.5))))
    body = {
        "model": MODEL,
        "stream": True,
        "max_tokens": int(TOKENS * rng.uniform(0.5, 1.5)),
        "ignore_eos": True,
        "messages": [{"role": "user", "content": words}],
    }
    with contextlib.suppress(httpx.HTTPError):
        async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
            async for _ in answer.aiter_bytes():
                pass


async def scenario(strategy: str, plan: Plan, *, sick: int = 1, rate: float = RATE, seed: int = 1) -> Result:
    """Run the fault against one way of choosing."""
    log = Log()
    panics: list[bool] = []
    async with contextlib.AsyncExitStack() as stack:
        urls = await stack.enter_async_context(engines())
        app, addresses = await stack.enter_async_context(gateway(urls, log, STRATEGIES[strategy]()))
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=60.0, trust_env=False, limits=_UNBOUNDED))
        asking = asyncio.create_task(load(client, addresses.data, rate, Random(seed)))
        loop = asyncio.get_running_loop()
        victims = [backend.id for backend in app.data.registry][:sick]
        await asyncio.sleep(plan.warm_up)
        prefilled = await _prefilled(client, urls)
        utilisation = max(prefilled) / plan.warm_up / PREFILL_RATE
        for url in urls[:sick]:
            await client.post(f"{url}/sim/faults", json={"slow": SLOW})
        fault = loop.time()
        watching = asyncio.create_task(_watch(app, panics))
        await asyncio.sleep(plan.sick)
        for url in urls[:sick]:
            await client.post(f"{url}/sim/faults", json={})
        healed = loop.time()
        if strategy == "tidegate":
            await asyncio.sleep(plan.healed)
        asking.cancel()
        watching.cancel()
        await asyncio.gather(asking, watching, return_exceptions=True)
        transitions = [_told(each, fault) for each in app.control.outlier_detector.history]
    return Result(
        strategy,
        sick,
        log.share(victims, fault - plan.warm_up / 2, fault),
        log.share(victims, fault + 10, healed),
        log.missed(fault - plan.warm_up / 2, fault),
        log.missed(fault, fault + 60),
        sum(fault <= row.received < fault + 60 for row in log.seen),
        utilisation,
        _full_share_after(log, victims, healed, plan.healed) if strategy == "tidegate" else None,
        any(panics),
        transitions,
    )


def _told(transition: Transition, fault: float) -> str:
    after = transition.after
    return f"{after.since - fault:+.0f} s {transition.backend} {after.state}: {after.reason}"


async def _watch(app: App, panics: list[bool]) -> None:
    while True:
        panics.append(any(peers.panic for peers in app.data.registry.pools.values()))
        await asyncio.sleep(0.25)


async def _prefilled(client: httpx.AsyncClient, urls: Sequence[str]) -> list[int]:
    """Prompt tokens that each engine has prefilled so far."""
    return [(await client.get(f"{url}/sim/state")).json()["prompt_tokens"] for url in urls]


def _full_share_after(log: Log, victims: Sequence[str], healed: float, seconds: float) -> float | None:
    """Seconds after the end of the fault until the victims carry nine tenths of their due over 10 s; None if never."""
    due = 0.9 * len(victims) / ENGINES
    moments = (healed + second for second in range(int(seconds) - 10))
    return next((moment - healed for moment in moments if log.share(victims, moment, moment + 10) >= due), None)
