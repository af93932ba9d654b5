"""Ten thousand requests in the queue, nine in ten of whose clients hang up: processes, sockets, one slot."""

import asyncio
import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gateway.app import App
from gateway.config.load import load_routes
from gateway.exchange import Exchange, Outcome
from gateway.listeners import Addresses
from gateway.observers import Observer
from gateway.processes.child import spawn
from gateway.settings import Settings
from loadtest.admission.real import MODEL, engine_url

QUEUED = 10_000


@dataclass
class Log(Observer):
    """When a request whose client hung up was let go, on the clock that all processes share."""

    gone: list[float] = field(default_factory=list)
    settled_in_all: int = 0

    def on_settled(self, exchange: Exchange) -> None:
        self.settled_in_all += 1
        if exchange.outcome is Outcome.CLIENT_GONE:
            self.gone.append(exchange.ended)


@dataclass(frozen=True)
class Hangups:
    """Seconds from a hang-up to being gone, at most and in the median; who is left.

    `blocks` are the memory blocks that Python holds before, while all wait, and after: RSS would also show how
    fragmented they lie.
    """

    queued: int
    hung_up: int
    worst: float
    median: float
    waiting: int
    in_flight: int
    blocks: tuple[int, int, int]


async def hangups(folder: Path) -> Hangups:
    """Fill the queue, let nine in ten hang up, and see who is left.

    The gateway takes no more connections than half of the descriptors that the system allows, so there may be fewer.
    """
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    queued = min(QUEUED, allowed // 2 - 200)
    hanging_up = queued * 9 // 10 // 50 * 50
    engine = await spawn("engine", ["gateway.sim", "--port", "0", "--model", MODEL, "--output-tokens", "30000"])
    url = await engine_url(engine)
    routes = {
        "pools": {"gpu": {"backends": [{"url": url, "max_concurrency": 1}]}},
        "models": {MODEL: {"versions": {"v1": {"pools": ["gpu"]}}, "timeouts": {"stall": "10m", "first_token": "10m"}}},
    }
    path = folder / "routes.yaml"
    path.write_text(json.dumps(routes))
    log = Log()
    app = App(Settings(routes=path, port=0, admin_port=0, access_log=False), load_routes(path), log)
    started: asyncio.Future[Addresses] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(app.run(started.set_result))
    port = (await started).data.rsplit(":", 1)[1]
    (line,) = [line for model in app.data.current.table for line in model.memory.lines.values()]
    before = sys.getallocatedblocks()
    clients = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "loadtest.admission.hangups",
        port,
        str(queued),
        str(hanging_up),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 22,
    )
    assert clients.stdin is not None
    assert clients.stdout is not None
    try:
        await _until(lambda: line.queue.size >= queued)
        full = sys.getallocatedblocks()
        clients.stdin.write(b"hang up\n")
        hung = sorted(json.loads(await clients.stdout.readline()))
        await _until(lambda: len(log.gone) >= hanging_up)
        delays = sorted(gone - left for gone, left in zip(sorted(log.gone), hung, strict=True))
        waiting, in_flight = line.queue.size, sum(backend.in_flight for backend in app.data.registry)
        clients.stdin.write(b"all\n")
        await clients.wait()
        await _until(lambda: log.settled_in_all == queued + 1 and not app.data.clients())
        gc.collect()
        after = sys.getallocatedblocks()
    finally:
        app.stop()
        app.stop()
        await serving
        await engine.stop()
    return Hangups(queued, hanging_up, delays[-1], delays[len(delays) // 2], waiting, in_flight, (before, full, after))


async def _until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what makes it true is another process
            await asyncio.sleep(0.02)


async def _clients(port: int, queued: int, hanging_up: int) -> None:
    """The other process: hold that many requests open, and hang up when told."""
    body = {"model": MODEL, "stream": True, "max_tokens": 30_000, "messages": [{"role": "user", "content": "wait"}]}
    data = json.dumps(body).encode()
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-gateway-class: batch\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(data) + data
    )
    writers = []
    for _ in range(queued + 1):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        writers.append(writer)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.readline)
    hung = []
    for number, writer in enumerate(writers[1 : hanging_up + 1]):
        hung.append(time.monotonic())
        writer.transport.abort()
        if number % 50 == 49:
            await asyncio.sleep(0.01)
    print(json.dumps(hung), flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(1.0)


if __name__ == "__main__":
    asyncio.run(_clients(*map(int, sys.argv[1:])))
