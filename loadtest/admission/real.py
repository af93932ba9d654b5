"""Overload for real: simulated engines as processes, the gateway's data plane, and clients on sockets, open loop."""

import asyncio
import contextlib
import json
import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import perf_counter

from gateway.app import App
from gateway.config.load import load_routes
from gateway.listeners import Addresses
from gateway.policy.routing.limit_evidence import UNLIMITED
from gateway.policy.slo.judge import meets
from gateway.policy.slo.objective import DEFAULT, Objective, Sli
from gateway.processes.child import Child, spawn
from gateway.settings import Settings
from loadtest.admission.world import MIX, PATIENT

MODEL = "crowded"
ENGINES, OUTPUT, PROMPT_BYTES = 2, 200, 1600
_ENGINE = ("num_blocks=2048", "max_model_len=8192", "prefix_caching=0")
_URL = re.compile(r"http://[0-9.]+:\d+")


@dataclass
class Asked:
    """One request as its client saw it; times in seconds, 0.0 until they happen.

    `waited` is whether it was refused when its patience ended, not early.
    """

    service_class: str
    began: float
    status: int = 0
    first: float = 0.0
    ended: float = 0.0
    chunks: int = 0
    waited: bool = False

    def is_good(self, objective: Objective) -> bool:
        if self.status != 200 or not self.ended or self.chunks < 2:
            return False
        tpot = (self.ended - self.first) / (self.chunks - 1)
        return meets(objective, self.first - self.began, tpot, PROMPT_BYTES // 4)


@dataclass
class Outcome:
    """What a load came to: output tokens of good requests a second, and how the others were told.

    `refused` is the share of all refused, `refusal_p99` how long those took to hear it who were refused early.
    """

    goodput: float
    met: float
    refused: float
    refusal_p99: float
    asked: list[Asked] = field(repr=False, default_factory=list)


async def overload(rate: float, *, seconds: float, admission: bool, seed: int = 1) -> Outcome:
    """Send `rate` requests a second, with pauses drawn at random, and wait for what was let in."""
    rng = Random(seed)
    async with engines() as urls, gateway(urls, admission=admission) as where:
        port = int(where.data.rsplit(":", 1)[1])
        asked: list[Asked] = []
        tasks: set[asyncio.Task[None]] = set()
        began = perf_counter()
        due, warm = began, began + seconds / 3
        while due < began + seconds:
            await asyncio.sleep(max(0.0, due - perf_counter()))
            name = rng.choices(list(MIX), list(MIX.values()))[0]
            asked.append(Asked(name, perf_counter()))
            tasks.add(task := asyncio.create_task(_ask(port, asked[-1], rng.random())))
            task.add_done_callback(tasks.discard)
            due += rng.expovariate(rate)
        await asyncio.wait(tasks, timeout=20.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return _judged([each for each in asked if each.began >= warm], began + seconds - warm)


def _judged(rows: Sequence[Asked], seconds: float) -> Outcome:
    served = [each for each in rows if each.status == 200 and each.first and each.service_class == "interactive"]
    under = DEFAULT.targets[Sli.TTFT].under
    refused = [each for each in rows if each.status in {429, 503}]
    early = sorted(each.ended - each.began for each in refused if not each.waited)
    return Outcome(
        goodput=sum(each.chunks for each in rows if each.is_good(DEFAULT)) / seconds,
        met=sum(each.first - each.began <= under for each in served) / max(1, len(served)),
        refused=len(refused) / max(1, len(rows)),
        refusal_p99=early[int(len(early) * 0.99)] if early else 0.0,
    )


async def _ask(port: int, asked: Asked, salt: float) -> None:
    prompt = f"{salt:.12f} " + "word " * (PROMPT_BYTES // 5)
    body = {"model": MODEL, "stream": True, "max_tokens": OUTPUT, "messages": [{"role": "user", "content": prompt}]}
    data = json.dumps(body, separators=(",", ":")).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-gateway-class: %b\r\nconnection: close\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
            % (asked.service_class.encode(), len(data))
            + data
        )
        head = await reader.readuntil(b"\r\n\r\n")
        asked.status = int(head[9:12])
        while part := await reader.read(65536):
            if asked.status == 200 and (chunks := part.count(b'"content":')):
                asked.first = asked.first or perf_counter()
                asked.chunks += chunks
            asked.waited = asked.waited or (asked.status != 200 and b"no slot came free" in part)
        asked.ended = perf_counter()
    except (OSError, asyncio.IncompleteReadError):
        asked.status = 0
    finally:
        writer.close()


async def engine_url(child: Child) -> str:
    """Return where a simulated engine listens, once it does."""
    url: str = _URL.findall(await child.line_with("listening on"))[0]
    return url


@contextlib.asynccontextmanager
async def engines() -> AsyncIterator[list[str]]:
    """Simulated engines that preempt, each a process."""
    children: list[Child] = []
    try:
        urls = []
        for number in range(ENGINES):
            knobs = [part for knob in _ENGINE for part in ("--engine", knob)]
            command = ["gateway.sim", "--port", "0", "--model", MODEL, "--seed", str(number), *knobs]
            children.append(await spawn(f"engine {number}", command))
            urls.append(await engine_url(children[-1]))
        yield urls
    finally:
        await asyncio.gather(*(child.stop() for child in children))


@contextlib.asynccontextmanager
async def gateway(urls: Sequence[str], *, admission: bool) -> AsyncIterator[Addresses]:
    """The gateway in this process; without admission its backends have no limits."""
    wait = f"{int(PATIENT.max_queue_wait * 1000)}ms"
    routes = {
        "pools": {"gpu": {"backends": list(urls)}},
        "classes": {"interactive": {"priority": 0, "max_queue_wait": wait}},
        "models": {MODEL: {"versions": {"v1": {"pools": ["gpu"]}}}},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "routes.yaml"
        path.write_text(json.dumps(routes))
        app = App(Settings(routes=path, port=0, admin_port=0, access_log=False), load_routes(path))
        started: asyncio.Future[Addresses] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(app.run(started.set_result))
        try:
            addresses = await started
            if not admission:
                app.control.limits.admit = lambda: None  # type: ignore[method-assign]
                for backend in app.data.registry:
                    backend.health.slots.limit_to(UNLIMITED)
            yield addresses
        finally:
            app.stop()
            app.stop()
            await task
