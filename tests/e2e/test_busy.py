"""Busy is not sick: engines that refuse work because they have enough of it, and those that only refuse."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.exchange import AttemptEnd, Outcome
from gateway.policy.routing.ejection import State
from gateway.policy.slo.series import Kind
from tests.e2e.fakes import (
    DONE,
    LAST_CHUNK,
    ROLE,
    STREAM_HEAD,
    USAGE,
    Call,
    Script,
    backends,
    chunked,
    event,
    good,
    whole,
)
from tests.e2e.harness import Running, ask, chat, gateway, post
from tests.e2e.processes import engine
from tests.e2e.raw_client import connect
from tests.waiting import HandClock, eventually, patient_client

pytestmark = pytest.mark.anyio
BUSY = (
    b'{"error":{"message":"The engine is currently busy and cannot accept new requests. Please try again later or on a '
    b'different instance.","type":"Service Unavailable","param":null,"code":503}}'
)
SMALL = ("--engine", "max_num_seqs=2", "--max-num-queued-reqs", "1")
"""An engine that runs two requests at a time and lets one wait."""


def routes(*urls: str, slots: int | None = None, patience: str = "20s", **timeouts: str) -> str:
    entries: list[Any] = [{"url": url, "max_concurrency": slots} if slots else url for url in urls]
    return json.dumps(
        {
            "pools": {"gpu": {"backends": entries}},
            "classes": {"standard": {"priority": 10, "max_queue_wait": patience}},
            "models": {"m": {"versions": {"v1": {"pools": ["gpu"]}}, "timeouts": {"connect": "20s"} | timeouts}},
        }
    )


def counted(running: Running, index: int = 0) -> tuple[int, int]:
    """What availability says of a backend: good and bad events."""
    running.app.control.outlier_detector.detect()
    backend = running.backend(index).id
    found = [each for each in running.app.data.ledger.get(Kind.BACKEND, backend) if each.sli == "availability"]
    return sum(each.windows.recent[0] for each in found), sum(each.windows.recent[1] for each in found)


def ended(running: Running, end: AttemptEnd) -> int:
    return [each for _, each in running.records.attempts].count(end)


async def test_vllm_with_a_full_queue_is_neither_ejected_nor_unavailable_and_everybody_is_served(
    tmp_path: Path,
) -> None:
    """`--max-num-queued-reqs`, and a burst of ten times what the engine takes."""
    async with engine(*SMALL) as child, gateway(tmp_path, routes(child.urls[0])) as running:
        assert (await ask(running.port, chat(max_tokens=2))).status == 200
        asked = [ask(running.port, chat(max_tokens=20, ignore_eos=True)) for _ in range(30)]
        answers = await asyncio.gather(*asked)
        assert [answer.status for answer in answers] == [200] * 30
        await running.settled(31)
        assert ended(running, AttemptEnd.SATURATED) > 0
        assert counted(running) == (31, 0)
        backend = running.backend()
        standing = backend.health.outlier.ejection
        assert (standing.state, standing.ejections) == (
            State.IN_SERVICE,
            0,
        )
        limit = backend.limit
        assert limit.reason != "not tried yet"
        assert limit.value < 30


async def test_what_one_engine_has_no_room_for_another_serves(tmp_path: Path) -> None:
    async with (
        engine(*SMALL) as small,
        engine() as large,
        gateway(tmp_path, routes(small.urls[0], large.urls[0])) as running,
    ):
        for _ in range(6):
            assert (await ask(running.port, chat(max_tokens=2))).status == 200
        asked = [ask(running.port, chat(max_tokens=50, ignore_eos=True)) for _ in range(20)]
        answers = await asyncio.gather(*asked)
        assert [answer.status for answer in answers] == [200] * 20
        await running.settled(26)
        assert counted(running)[1] == 0
        assert not any(backend.health.outlier.ejection.ejections for backend in running.app.data.registry)


class Moods:
    """An engine that does as it is told."""

    def __init__(self, *refusal: bytes) -> None:
        self.refuses = False
        self.refusal = refusal

    async def __call__(self, call: Call) -> None:
        if self.refuses:
            await call.send(*self.refusal)
        else:
            await good(call)


STATUS = (whole(b"503 Service Unavailable", BUSY),)
FIRST_EVENT = (STREAM_HEAD, chunked(ROLE), chunked(b"data: " + BUSY + b"\n\n", DONE) + LAST_CHUNK)
DOCUMENT = (whole(b"200 OK", BUSY),)
TOO_MANY = (whole(b"429 Too Many Requests", BUSY),)


@pytest.mark.parametrize("refusal", [STATUS, FIRST_EVENT, DOCUMENT, TOO_MANY], ids=["503", "event", "200", "429"])
async def test_a_busy_backend_is_waited_for(tmp_path: Path, refusal: tuple[bytes, ...]) -> None:
    mood = Moods(*refusal)
    async with backends(mood) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        assert (await ask(running.port, chat())).status == 200
        mood.refuses = True
        asking = asyncio.create_task(ask(running.port, chat()))
        await eventually(lambda: ended(running, AttemptEnd.SATURATED) >= 2)
        assert running.backend().health.backoff.closed_until == 0, "it is idle: others may ask"
        mood.refuses = False
        answer = await asking
        assert (answer.status, answer.body.endswith(DONE)) == (200, True)
        last = await running.settled(2)
        assert last.outcome is Outcome.OK
        assert last.queued >= 0.25
        assert len(last.attempts) == ended(running, AttemptEnd.SATURATED) + 1
        assert counted(running) == (2, 0)


def words(text: str) -> dict[str, Any]:
    return chat() | {"messages": [{"role": "user", "content": text}]}


def holding(mood: Moods, done: asyncio.Event) -> Script:
    """An engine of this mood that answers the request "held" only when it may."""

    async def answer(call: Call) -> None:
        if call.json["messages"][0]["content"] == "held":
            await done.wait()
        await mood(call)

    return answer


async def test_one_that_a_busy_backend_sends_back_keeps_its_place_and_teaches_nothing(tmp_path: Path) -> None:
    mood, done = Moods(*STATUS), asyncio.Event()
    held = holding(mood, done)

    async with backends(held) as (fake,), gateway(tmp_path, routes(fake.url, slots=2)) as running:
        assert (await ask(running.port, words("zero"))).status == 200
        other = asyncio.create_task(ask(running.port, words("held")))
        await eventually(lambda: running.in_flight == 1)
        mood.refuses, activity = True, running.backend().health.activity
        first = asyncio.create_task(ask(running.port, words("first")))
        await eventually(lambda: ended(running, AttemptEnd.SATURATED) == 1)
        assert activity.backoff.closed_until > 0
        activity.backoff.closed_until = float("inf")
        second = asyncio.create_task(ask(running.port, words("second")))
        await eventually(lambda: running.waiting == 2)
        mood.refuses = False
        done.set()
        assert [(await each).status for each in (other, first, second)] == [200, 200, 200]
        sent = [call.json["messages"][0]["content"] for call in fake.calls]
        assert sent == ["zero", "held", "first", "first", "second"]
        kinds = next(iter(running.app.data.current.table)).memory.kinds
        assert not kinds.of("/v1/chat/completions", "standard", None).is_known, "four answers are fewer than five"
        await running.settled(4)


async def test_one_that_is_always_refused_does_not_lower_the_limit_of_its_engine(tmp_path: Path) -> None:
    """As a proxy in front of the engine refuses what it dislikes by 429, whatever else there is to do."""
    done = asyncio.Event()

    async def picky(call: Call) -> None:
        match call.json["messages"][0]["content"]:
            case "poison":
                await call.send(*TOO_MANY)
            case "held":
                await done.wait()
                await good(call)
            case _:
                await good(call)

    clock = HandClock()
    async with backends(picky) as (fake,), gateway(tmp_path, routes(fake.url, patience="3s"), now=clock) as running:
        assert (await ask(running.port, words("first"))).status == 200
        others = [asyncio.create_task(ask(running.port, words("held"))) for _ in range(3)]
        await eventually(lambda: running.in_flight == 3)
        asking = asyncio.create_task(ask(running.port, words("poison")))
        for times in range(1, 4):
            await eventually(lambda times=times: ended(running, AttemptEnd.SATURATED) >= times)  # type: ignore[misc]
            clock.advance(0.6)  # longer than the pause after each of them
        await clock.passes(0.6, asking.done)
        answer = await asking
        assert (answer.status, answer.headers["retry-after"] >= "1") == (503, True)
        assert ended(running, AttemptEnd.SATURATED) >= 3
        assert running.backend().health.slots.limit == 32
        assert (await ask(running.port, words("another"))).status == 200
        done.set()
        assert [(await each).status for each in others] == [200] * 3


async def test_a_fixed_limit_gives_way_while_its_engine_bears_less(tmp_path: Path) -> None:
    async with engine(*SMALL) as child, gateway(tmp_path, routes(child.urls[0], slots=20)) as running:
        assert (await ask(running.port, chat(max_tokens=2))).status == 200
        asked = [asyncio.create_task(ask(running.port, chat(max_tokens=20, ignore_eos=True))) for _ in range(20)]
        health = running.backend().health
        await eventually(lambda: health.slots.limit < 20)
        assert running.backend().limit.reason.startswith("the engine was busy beside")
        assert [(await each).status for each in asked] == [200] * 20
        await running.quiet()


@pytest.mark.parametrize("refusal", [STATUS, FIRST_EVENT], ids=["503", "event"])
async def test_what_a_busy_backend_refuses_another_serves_and_neither_is_ejected(
    tmp_path: Path, refusal: tuple[bytes, ...]
) -> None:
    mood = Moods(*refusal)
    async with backends(mood, good) as fakes, gateway(tmp_path, routes(*(f.url for f in fakes))) as running:
        while not all(fake.calls for fake in fakes):
            assert await served(running, 1)
        mood.refuses = True
        assert await served(running, 20)
        await running.quiet()
        assert not any(backend.health.outlier.ejection.ejections for backend in running.app.data.registry)
        assert counted(running)[1] == counted(running, 1)[1] == 0


async def served(running: Running, count: int) -> bool:
    """Ask so often, in turn; return whether everything was served."""
    return all([(await ask(running.port, chat())).status == 200 for _ in range(count)])


async def test_patience_with_the_busy_ends_and_the_engine_has_the_last_word(tmp_path: Path) -> None:
    """An absurd Retry-After is capped, for the client and for the gateway's own patience."""
    mood = Moods(whole(b"503 Service Unavailable", BUSY, b"retry-after: 3600\r\n"))
    async with backends(mood) as (fake,), gateway(tmp_path, routes(fake.url, patience="500ms")) as running:
        assert (await ask(running.port, chat())).status == 200
        mood.refuses = True
        answer = await ask(running.port, chat())
        assert (answer.status, answer.body, answer.headers["retry-after"]) == (503, BUSY, "60")
        last = await running.settled(2)
        assert (last.outcome, len(last.attempts)) == (Outcome.BACKEND_ERROR, 1)
        activity = running.backend().health.activity
        assert activity.backoff.hold_until - last.ended <= 30
        assert activity.backoff.closed_until - last.ended <= 5


async def test_one_whose_patience_ends_in_the_queue_is_turned_away_by_the_gateway(tmp_path: Path) -> None:
    """vLLM's own 503 says nothing of when to ask again; that the engine was busy is what the queue is for."""
    mood, done = Moods(*STATUS), asyncio.Event()
    held = holding(mood, done)

    async with backends(held) as (fake,), gateway(tmp_path, routes(fake.url, patience="1s")) as running:
        assert (await ask(running.port, words("first"))).status == 200
        other = asyncio.create_task(ask(running.port, words("held")))
        await eventually(lambda: running.in_flight == 1)
        mood.refuses = True
        answer = await ask(running.port, chat())
        assert (answer.status, answer.json["error"]["code"]) == (503, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        await eventually(lambda: len(running.records.exchanges) == 2)
        last = running.records.exchanges[-1]
        assert (last.outcome, last.reason) == (Outcome.SHED, "waited_too_long")
        assert counted(running) == (1, 0)
        mood.refuses = False
        done.set()
        assert (await other).status == 200


@pytest.mark.parametrize("refusal", [STATUS, TOO_MANY, FIRST_EVENT], ids=["503", "429", "event"])
async def test_a_refusal_that_is_passed_on_says_when_to_ask_again(tmp_path: Path, refusal: tuple[bytes, ...]) -> None:
    mood = Moods(*refusal)
    async with backends(mood) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        assert (await ask(running.port, chat())).status == 200
        mood.refuses = True
        answer = await ask(running.port, {"model": "m", "input": "hi", "background": True}, path="/v1/responses")
        assert (answer.status, answer.body) == (429 if refusal is TOO_MANY else 503, BUSY)
        assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("refusal", [STATUS, FIRST_EVENT, DOCUMENT], ids=["503", "event", "200"])
async def test_one_that_refuses_everything_is_sick_and_is_ejected(tmp_path: Path, refusal: tuple[bytes, ...]) -> None:
    """Its /health says that it is well, as when a model crashed behind a server that lives."""
    mood = Moods(*refusal)
    mood.refuses = True
    async with backends(mood, good) as (sick, well), gateway(tmp_path, routes(sick.url, well.url)) as running:
        health, other = running.backend().health, running.backend(1).health
        other.activity.backoff.hold_until = float("inf")  # it is second choice
        for _ in range(5):
            assert (await ask(running.port, chat())).status == 200
            health.backoff.hold_until = 0.0  # as if it had been left alone for long enough
        assert health.outlier.ejection.ejections == 1
        assert counted(running)[1] == 5
        assert ended(running, AttemptEnd.SATURATED) == 0
        await running.quiet()


async def test_a_503_beside_a_bad_health_is_no_sign_of_work(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        assert (await ask(running.port, chat())).status == 200
        backend, now = running.backend(), running.records.exchanges[-1].ended
        assert backend.is_busy(now)
        fake.health = b"503 Service Unavailable"
        await eventually(lambda: backend.readiness.state == "not_ready")
        assert not backend.is_busy(now)


async def test_running_requests_of_others_show_that_an_engine_is_at_work(tmp_path: Path) -> None:
    """Another gateway keeps the engine full; this one has never had an answer from it."""
    options = ("--engine", "max_num_seqs=1", "--max-num-queued-reqs", "1")
    async with engine(*options) as child, gateway(tmp_path, routes(child.urls[0])) as running:
        async with patient_client(trust_env=False) as other, contextlib.AsyncExitStack() as theirs:
            for _ in range(2):
                body = chat(max_tokens=2000, ignore_eos=True)
                stream = other.stream("POST", f"{child.urls[0]}/v1/chat/completions", json=body)
                assert (await theirs.enter_async_context(stream)).status_code == 200
            backend = running.backend()
            await eventually(lambda: backend.engine.metrics is not None and bool(backend.engine.metrics.running))
            asking = asyncio.create_task(ask(running.port, chat(max_tokens=2)))
            await eventually(lambda: ended(running, AttemptEnd.SATURATED) > 0)
        assert (await asking).status == 200
        await running.settled()
        assert counted(running) == (1, 0)


KEEPS_STATE = {
    "background": {"background": True},
    "conversation": {"conversation": "conv_1"},
    "tools of the server": {"tools": [{"type": "function", "name": "f"}, {"type": "web_search"}]},
}


@pytest.mark.parametrize("more", KEEPS_STATE.values(), ids=KEEPS_STATE)
async def test_what_an_engine_goes_on_with_is_never_sent_twice(tmp_path: Path, more: dict[str, Any]) -> None:
    body = {"model": "m", "input": "hi", **more}
    mood = Moods(*STATUS)
    async with backends(mood, mood) as fakes, gateway(tmp_path, routes(*(f.url for f in fakes))) as running:
        mood.refuses = True
        answer = await ask(running.port, body, path="/v1/responses")
        assert answer.status == 503
        assert len((await running.settled()).attempts) == 1
        plain = {"model": "m", "input": "hi", "tools": [{"type": "function", "name": "f"}], "background": False}
        await ask(running.port, plain, path="/v1/responses")
        assert len((await running.settled(2)).attempts) > 1


async def test_a_connect_that_fails_may_be_tried_elsewhere_whatever_is_asked(tmp_path: Path) -> None:
    async with backends(good) as (gone,):
        nobody = gone.url
    async with backends(good) as (fake,), gateway(tmp_path, routes(nobody, fake.url), wait_ready=False) as running:
        client = await connect(running.port)
        await client.send(post({"model": "m", "input": "hi", "background": True}, path="/v1/responses"))
        assert (await client.answer()).status == 200
        client.close()
        await running.quiet()


async def test_an_error_that_rejects_the_gateways_key_stays_hidden_in_a_200(tmp_path: Path) -> None:
    async def reject(call: Call) -> None:
        error = b'data: {"error": {"message": "bad key sk-ours", "code": 401}}\n\n'
        await call.send(STREAM_HEAD, chunked(error) + LAST_CHUNK)

    async with backends(reject) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        answer = await ask(running.port, chat())
        assert answer.status == 502
        assert b"sk-ours" not in answer.raw
        await running.settled()
        assert running.records.attempts[0][1] is AttemptEnd.UNAUTHORIZED


async def test_a_stream_that_breaks_because_the_engine_is_busy_blames_nobody(tmp_path: Path) -> None:
    async def breaks(call: Call) -> None:
        await call.send(STREAM_HEAD, chunked(event("x")), chunked(b"data: " + BUSY + b"\n\n"), chunked(USAGE, DONE))
        await call.until_gone()

    async with backends(breaks) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        answer = await ask(running.port, chat())
        assert answer.body == event("x") + b"data: " + BUSY + b"\n\n"
        assert (await running.settled()).outcome is Outcome.TRUNCATED
        assert counted(running) == (0, 0)
