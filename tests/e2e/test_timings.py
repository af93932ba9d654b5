"""What the gateway measures at its edge lies between what its engine and its client measure at theirs.

An engine's time lies within the gateway's, and the gateway's within the client's, however busy the machine is; on a
quiet one the two bounds are less than a millisecond apart.
"""

import asyncio
import json
from math import ceil
from pathlib import Path
from statistics import mean

import pytest

from gateway.clock import monotonic
from tests.e2e.fakes import DONE, LAST_CHUNK, STREAM_HEAD, Call, backends, chunked, event
from tests.e2e.harness import chat, gateway, post, routes
from tests.e2e.processes import serving
from tests.e2e.raw_client import connect
from tests.waiting import DEADLINE, patient_client

pytestmark = pytest.mark.anyio
TTFT, ITL, TOKENS = 60.0, 15.0, 21
"""What the mock engine is asked for: milliseconds to the first token and between two, and how many tokens."""
LOAD = f"-m m -c 10 -w 0 -d 3 -D 60 -s -n {TOKENS} -t {TTFT:g} -i {ITL:g}".split()
SPARE = 1.0
"""Milliseconds by which a timer may fire early and a histogram of the load generator round down."""
BENCH = Path(__file__).parents[2] / "loadtest" / "bench"


async def build(source: str, folder: Path) -> str:
    target = folder / source.removesuffix(".c")
    compiler = await asyncio.create_subprocess_exec("cc", "-O1", "-o", str(target), str(BENCH / source), "-lm")
    assert await compiler.wait() == 0
    return str(target)


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def percentile(values: list[float], q: int) -> float:
    """Return the percentile in milliseconds, by nearest rank: where each value is smaller, so is this."""
    return sorted(values)[ceil(q / 100 * len(values)) - 1] * 1000


async def test_what_is_measured_lies_between_what_engine_and_client_measure(tmp_path: Path) -> None:
    mock, load = await asyncio.gather(build("mockvllm.c", tmp_path), build("sseload.c", tmp_path))
    number = free_port()
    engine = await asyncio.create_subprocess_exec(mock, "-p", str(number), "-m", "m")
    try:
        async with serving(tmp_path, [f"http://127.0.0.1:{number}"]) as served:
            arguments = [*LOAD, "-p", served.urls[0].rsplit(":", 1)[1]]
            async with patient_client() as web, asyncio.timeout(DEADLINE):
                while (await web.get(f"{served.urls[0]}/ready")).status_code != 200:
                    await asyncio.sleep(0.02)
            client = await asyncio.create_subprocess_exec(
                load, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
            )
            out, _ = await client.communicate()
            theirs = json.loads(out)
            served.process.terminate()
            assert await served.ended() == 0
    finally:
        engine.kill()
        await engine.wait()
    assert (theirs["errors"], theirs["missing_done"], theirs["unfinished"]) == (0, 0, 0)
    lines = [line for line in served.logged() if line["outcome"] == "ok"]
    assert len(lines) == theirs["ok"] >= 10
    for name, least in (("ttft", TTFT), ("e2e", TTFT + (TOKENS - 1) * ITL)):
        ours = [line[name] for line in lines]
        assert min(ours) * 1000 >= least - SPARE
        for q in (50, 99):
            assert percentile(ours, q) <= theirs[f"{name}_us"][f"p{q}"] / 1000 * 1.02 + SPARE
    streaming = mean(line["tpot"] for line in lines) * 1000 * (TOKENS - 1)
    least = TTFT + (TOKENS - 1) * ITL - theirs["ttft_us"]["mean"] / 1000
    assert least - SPARE <= streaming <= theirs["e2e_us"]["mean"] / 1000 - TTFT + SPARE


async def test_every_gap_lies_between_the_engines_and_the_clients(tmp_path: Path) -> None:
    sent: list[float] = []
    taken: list[float] = []
    arrived = 0.0
    taking = asyncio.Semaphore(0)

    async def paced(call: Call) -> None:
        nonlocal arrived
        arrived = monotonic()
        await call.send(STREAM_HEAD)
        for number in range(TOKENS):
            await asyncio.sleep((number + 1) % 4 / 100)
            sent.append(monotonic())
            await call.send(chunked(event(f"{number}")))
            await taking.acquire()
        await call.send(chunked(event(finish="stop"), DONE) + LAST_CHUNK)

    async with backends(paced) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        asked = monotonic()
        await client.send(post(chat()))
        for number in range(TOKENS):
            await client.reader.readuntil(event(f"{number}"))
            taken.append(monotonic())
            taking.release()
        await client.reader.readuntil(LAST_CHUNK)
        client.close()
        last = await running.settled()
    assert last.ttft is not None
    assert sent[0] - arrived <= last.ttft <= taken[0] - asked
    gaps = range(1, TOKENS)
    shortest = [sent[number] - taken[number - 1] for number in gaps]
    longest = [taken[number] - sent[number - 1] for number in gaps]
    others = sum(last.itl) - len(gaps)
    assert others in {0, 1}, "that of the event with the finish reason may be one more"
    for place, bound in enumerate(last.itl_bounds, start=1):
        within = sum(last.itl[:place])
        assert sum(gap <= bound for gap in longest) <= within <= sum(gap <= bound for gap in shortest) + others
