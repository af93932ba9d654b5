"""Whatever an engine sends, and whenever it closes: each execution is counted, and no request gets another's answer."""

import asyncio
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.exchange import AttemptEnd
from tests.e2e.fakes import Call, backends, whole
from tests.e2e.harness import chat, gateway, post, routes
from tests.e2e.raw_client import connect

BEFORE = {
    "nothing": b"",
    "100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nx-a: ",
    "a few bytes": b"xyz",
}
AFTER = {
    "nothing": b"",
    "another answer": whole(b"200 OK", b'{"id":"stray","choices":[]}'),
    "an empty line": b"\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nx-a: ",
}


@dataclass(frozen=True)
class Step:
    """What the engine does with one request, and how long its connection was idle before."""

    idle: float
    before: str
    pause: float
    answers: bool
    after: str
    end: str


steps = st.builds(
    Step,
    idle=st.sampled_from([0.0, 2.0]),
    before=st.sampled_from(sorted(BEFORE)),
    pause=st.sampled_from([0.0, 0.0, 0.05]),
    answers=st.booleans(),
    after=st.sampled_from(sorted(AFTER)),
    end=st.sampled_from(["keep", "close", "reset"]),
)


async def play(script: list[Step], folder: Path) -> None:
    """Send one request for each step on one client connection; every call of the engine takes the next step."""
    left = list(script)

    async def engine(call: Call) -> None:
        step = left.pop(0) if left else Step(0.0, "nothing", 0.0, answers=True, after="nothing", end="keep")
        await call.send(BEFORE[step.before])
        await asyncio.sleep(step.pause)
        if step.answers:
            await call.send(whole(b"200 OK", b'{"id":"%b","choices":[]}' % call.json["user"].encode()))
            await call.send(AFTER[step.after])
        if step.end == "close" or not step.answers:
            call.close()
        elif step.end == "reset":
            call.reset()

    async with backends(engine, engine) as fakes, gateway(folder, routes(*(fake.url for fake in fakes))) as running:
        for number, step in enumerate(script):
            for backend in running.app.data.registry:
                for upstream in backend.pool.idle_connections._connections:
                    upstream.reuse.idle_since -= step.idle
            client = await connect(running.port)
            await client.send(post(chat(stream=False, user=f"user-{number}")))
            answer = await client.answer()
            client.close()
            if answer.status == 200:
                assert answer.json["id"] == f"user-{number}"
        last = await running.settled(len(script))
        executed = Counter(call.json["user"] for fake in fakes for call in fake.calls)
        # The model: what an engine has read whole it may have executed, so each needs an attempt of its own.
        counted = [len(exchange.attempts) for exchange in running.records.exchanges]
        assert all(executed[f"user-{number}"] <= attempts <= 3 for number, attempts in enumerate(counted))
        assert sum(counted) == len(running.records.attempts)
        ends = [end for _, end in running.records.attempts]
        assert len(running.records.retries) == sum(counted) - len(script), last
        assert set(ends) <= {AttemptEnd.OK, AttemptEnd.STALE, AttemptEnd.CLOSED_EARLY, AttemptEnd.MALFORMED}, ends


@settings(max_examples=40, deadline=None)
@given(st.lists(steps, min_size=1, max_size=5))
def test_no_order_of_bytes_and_closings_makes_an_uncounted_execution(script: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play(script, Path(folder)))
