"""What a refused request costs: real processes, kept-alive connections, engines that are full for the whole time."""

import asyncio
import json
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench import peers, proc

SLOTS = 4
CONNECTIONS = 16
MODEL = "mock-model"
_HOLD = {
    "model": MODEL,
    "stream": True,
    "max_tokens": 2,
    "messages": [{"role": "user", "content": "mock:ttft=0,itl=2000,n=2; x"}],
}
_ASK = {"model": MODEL, "messages": [{"role": "user", "content": "You are refused. " * 6}]}


@dataclass(frozen=True)
class Flood:
    """Answers by status, requests a second, and microseconds of the gateway's CPU for each."""

    statuses: dict[int, int]
    rate: float
    microseconds: float


def flood(seconds: float = 4.0) -> Flood:
    """Hold every slot by streams that take seconds, and ask for more all the while.

    Raises SystemExit while the mock engine is not built.
    """
    mock = peers.HERE / "mockvllm"
    if not mock.is_file():
        raise SystemExit(f"{mock.relative_to(peers.ROOT)} is not built: make {mock.relative_to(peers.ROOT)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine, port = peers.free_port(), peers.free_port()
        routes = {
            "pools": {"gpu": {"backends": [{"url": f"http://127.0.0.1:{engine}", "max_concurrency": SLOTS}]}},
            "classes": {"standard": {"priority": 10, "max_queue_wait": "100ms"}},
            "models": {MODEL: {"versions": {"v1": {"pools": ["gpu"]}}}},
        }
        (folder / "routes.yaml").write_text(json.dumps(routes))
        serve = [sys.executable, "-m", "gateway.cli", "serve", "routes.yaml", "--port", str(port), "--admin-port", "0"]
        with (
            peers.running([str(mock), "-p", str(engine)], 1, folder),
            peers.running([*serve, "--state", "memory://"], 0, folder) as gateway,
        ):
            peers.wait_until_it_answers(gateway, port, folder)
            return asyncio.run(_flood(port, gateway.pid, seconds))


async def _flood(port: int, pid: int, seconds: float) -> Flood:
    statuses: Counter[int] = Counter()
    holding = [asyncio.create_task(_repeat(port, _HOLD, Counter())) for _ in range(SLOTS)]
    await asyncio.sleep(5.0)  # one round of answers, so that it is known how long a slot is held
    asking = [asyncio.create_task(_repeat(port, _ASK, statuses)) for _ in range(CONNECTIONS)]
    await asyncio.sleep(0.5)
    pids = proc.tree(pid)
    before, begin = statuses.copy(), proc.sample(pids)
    await asyncio.sleep(seconds)
    after, end = statuses - before, proc.sample(pids)
    for task in (*holding, *asking):
        task.cancel()
    await asyncio.gather(*holding, *asking, return_exceptions=True)
    refused = sum(count for status, count in after.items() if status != 200)
    took = end.at - begin.at
    return Flood(dict(after), refused / took, 1e6 * (end.cpu - begin.cpu) / max(1, refused))


async def _repeat(port: int, body: object, statuses: Counter[int]) -> None:
    """Ask again as soon as an answer is there, on one connection."""
    data = json.dumps(body, separators=(",", ":")).encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    request = head % len(data) + data
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while True:
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            if length:
                await reader.readexactly(int(length))
            else:
                await reader.readuntil(b"\r\n0\r\n\r\n")
            statuses[int(answer[9:12])] += 1
    finally:
        writer.close()
