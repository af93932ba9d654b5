"""Slots, queues, classes and tenants, through the real listener."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import monotonic
from gateway.exchange import Outcome
from gateway.policy.admission.decide import Shed
from gateway.policy.slo.series import Kind
from tests.e2e.fakes import DONE, LAST_CHUNK, STREAM_HEAD, USAGE, Call, backends, chunked, event, good, whole
from tests.e2e.harness import Running, ask, chat, gateway, post
from tests.e2e.raw_client import RawClient, connect
from tests.waiting import HandClock, eventually, patient_client

pytestmark = pytest.mark.anyio


class Gate:
    """A backend's script that begins an answer and ends it when told to, in the order of arrival."""

    def __init__(self) -> None:
        self.open = asyncio.Semaphore(0)
        self.prompts: list[str] = []

    async def __call__(self, call: Call) -> None:
        self.prompts.append(call.json["messages"][0]["content"])
        await call.send(STREAM_HEAD, chunked(event("x")))
        await self.open.acquire()
        await call.send(chunked(event(finish="stop"), USAGE, DONE) + LAST_CHUNK)


def routes(*urls: str, slots: int = 1, classes: Any = None, tenants: Any = None, **pool: Any) -> str:
    entries = [{"url": url, "max_concurrency": slots} for url in urls]
    return json.dumps(
        {
            "pools": {"gpu": {"backends": entries, **pool}},
            "classes": classes or {},
            "tenants": tenants or {},
            "models": {"m": {"versions": {"v1": {"pools": ["gpu"]}}, "timeouts": {"connect": "20s"}}},
        }
    )


def words(text: str) -> dict[str, Any]:
    return chat() | {"messages": [{"role": "user", "content": text}]}


async def begin(running: Running, text: str, headers: str = "") -> RawClient:
    """Send a request and leave it in progress."""
    client = await connect(running.port)
    await client.send(post(words(text), headers=headers))
    return client


@asynccontextmanager
async def one_slot(folder: Path, **more: Any) -> AsyncIterator[tuple[Running, Gate]]:
    """A gateway before one engine with one slot, which is taken by `first`, however long the test takes."""
    gate, patient = Gate(), '"connect": "20s", "first_token": "10m", "stall": "10m", "total": "20m"'
    text = routes("URL", **more).replace('"connect": "20s"', patient)
    async with backends(gate) as (fake,), gateway(folder, text.replace("URL", fake.url)) as running:
        first = await begin(running, "first")
        await eventually(lambda: gate.prompts == ["first"])
        try:
            yield running, gate
        finally:
            for _ in range(100):
                gate.open.release()
            first.close()
        await running.quiet()


def key(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def bearer(text: str) -> str:
    return f"authorization: Bearer {text}\r\n"


async def test_a_request_waits_for_a_slot_and_says_how_long(tmp_path: Path) -> None:
    async with one_slot(tmp_path) as (running, gate):
        waiting = asyncio.create_task(ask(running.port, words("second")))
        await eventually(lambda: running.waiting == 1)
        seen = monotonic()
        await eventually(lambda: monotonic() >= seen + 0.005)
        assert gate.prompts == ["first"]
        gate.open.release()
        await eventually(lambda: gate.prompts == ["first", "second"])
        gate.open.release()
        answer = await waiting
        assert (answer.status, answer.complete) == (200, True)
    last = running.records.exchanges[-1]
    assert 0.005 <= last.queued < last.e2e
    assert int(answer.headers["x-gateway-queue-ms"]) == int(last.queued * 1000)
    assert last.ttft is not None
    assert last.ttft >= last.queued


async def test_higher_classes_go_first_and_inside_a_class_whoever_came_first(tmp_path: Path) -> None:
    async with one_slot(tmp_path) as (running, gate):
        order = ["batch", "standard", "interactive"]
        clients = []
        for number in range(2):
            for name in order:
                clients.append(await begin(running, f"{name} {number}", f"x-gateway-class: {name}\r\n"))
                await eventually(lambda: running.waiting == len(clients))
        for served in range(2, 8):
            gate.open.release()
            await eventually(lambda served=served: len(gate.prompts) == served)  # type: ignore[misc]
            assert running.in_flight == 1
        assert gate.prompts[1:] == [f"{name} {number}" for name in reversed(order) for number in range(2)]
        for client in clients:
            client.close()


async def test_a_client_that_leaves_the_queue_takes_no_slot(tmp_path: Path) -> None:
    async with one_slot(tmp_path) as (running, gate):
        gone = await begin(running, "gone")
        await eventually(lambda: running.waiting == 1)
        gone.reset()
        await eventually(lambda: running.waiting == 0)
        gate.open.release()
        assert (await ask_and_open(running, gate, "next")).status == 200
        assert gate.prompts == ["first", "next"]
    assert [each.outcome for each in running.records.exchanges].count(Outcome.CLIENT_GONE) == 1


async def ask_and_open(running: Running, gate: Gate, text: str) -> Any:
    asking = asyncio.create_task(ask(running.port, words(text)))
    await eventually(lambda: text in gate.prompts)
    gate.open.release()
    return await asking


@pytest.mark.parametrize(("name", "status"), [("interactive", 503), ("batch", 429)])
async def test_who_waits_too_long_is_told_when_to_come_again(name: str, status: int, tmp_path: Path) -> None:
    classes = {
        "interactive": {"priority": 0, "max_queue_wait": "200ms"},
        "batch": {"priority": 20, "max_queue_wait": "200ms", "sheddable": True},
    }
    async with one_slot(tmp_path, classes=classes) as (running, gate):
        answer = await ask(running.port, words("late"), headers=f"x-gateway-class: {name}\r\n")
        assert (answer.status, answer.json["error"]["code"]) == (status, "overloaded")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert gate.prompts == ["first"]
        last = running.records.exchanges[-1]
        assert (last.outcome, last.reason, len(last.attempts)) == (Outcome.SHED, Shed.WAITED, 0)
        assert last.queued >= 0.2


async def test_a_hopeless_wait_is_refused_at_once(tmp_path: Path) -> None:
    async with one_slot(tmp_path) as (running, _):
        memory = next(iter(running.app.data.current.table)).memory
        for _ in range(20):
            memory.kinds.of("/v1/chat/completions", "standard", None).ended(60.0)
        answer = await ask(running.port, words("hopeless"))
        assert (answer.status, answer.json["error"]["code"]) == (503, "overloaded")
        assert "behind 0 others, the chance of a slot within 30 s" in answer.json["error"]["message"]
        last = running.records.exchanges[-1]
        assert (last.reason, last.e2e < 15) == (Shed.HOPELESS, True), "not after the 30 s that it may wait"


async def test_a_retry_waits_for_a_slot_elsewhere(tmp_path: Path) -> None:
    gate = Gate()
    failures: list[Call] = []

    async def fails_once(call: Call) -> None:
        if "second" in call.body.decode() and not failures:
            failures.append(call)
            await call.send(whole(b"500 Internal Server Error", b"{}"))
        else:
            await gate(call)

    async with (
        backends(fails_once, fails_once) as (one, other),
        gateway(tmp_path, routes(one.url, other.url)) as running,
    ):
        first = await begin(running, "first")
        await eventually(lambda: gate.prompts == ["first"])
        second = asyncio.create_task(ask(running.port, words("second")))
        await eventually(lambda: running.waiting == 1)
        gate.open.release()
        gate.open.release()
        answer = await second
        assert (answer.status, answer.complete, answer.headers["x-gateway-attempts"]) == (200, True, "2")
        first.close()
        await running.quiet()


async def test_limits_and_queues_outlive_a_reload(tmp_path: Path) -> None:
    async with one_slot(tmp_path) as (running, gate):
        waiting = asyncio.create_task(ask(running.port, words("second")))
        await eventually(lambda: running.waiting == 1)
        (url,) = [backend.spec.url for backend in running.app.data.registry]
        (tmp_path / "routes.yaml").write_text(routes(url, slots=2))
        await running.app.control.reloader.again()
        await eventually(lambda: gate.prompts == ["first", "second"])
        gate.open.release()
        gate.open.release()
        assert (await waiting).status == 200


async def test_a_thousand_that_hang_up_lose_no_slot(tmp_path: Path) -> None:
    patient = {"standard": {"priority": 10, "max_queue_wait": "10m"}}
    async with one_slot(tmp_path, classes=patient) as (running, gate):
        clients = [await begin(running, f"{number}") for number in range(1000)]
        await eventually(lambda: running.waiting == 1000)
        for client in clients[:900]:
            client.reset()
        await eventually(lambda: running.waiting == 100)
        for _ in range(101):
            gate.open.release()
        await eventually(lambda: len(gate.prompts) == 101)
        assert gate.prompts[1:] == [f"{number}" for number in range(900, 1000)]
        for client in clients[900:]:
            assert (await client.answer()).complete
            client.close()
    assert len(running.records.exchanges) == 1001


TENANTS = {
    "acme": {"key_sha256": key("sk-acme"), "class": "standard", "limits": {"requests_per_minute": 3}},
    "big": {"key_sha256": key("sk-big"), "limits": {"tokens_per_minute": 1000, "concurrent": 2}},
    "narrow": {"key_sha256": [key("sk-old"), key("sk-narrow")], "models": []},
}


async def test_only_who_has_a_key_may_ask(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url, slots=9, tenants=TENANTS)) as running:
        for headers in ("", bearer("wrong"), bearer(key("sk-acme")), "authorization: Basic c2s=\r\n", bearer("")):
            answer = await ask(running.port, chat(), headers=headers)
            assert (answer.status, answer.json["error"]["code"]) == (401, "invalid_api_key")
        assert not fake.calls
        for headers in (bearer("sk-acme"), "x-api-key: sk-acme\r\n", "authorization: bEARER sk-acme\r\n"):
            assert (await ask(running.port, chat(), headers=headers)).status == 200
        assert all(b"sk-acme" not in call.head for call in fake.calls)
        for headers in (bearer("sk-old"), bearer("sk-narrow")):
            answer = await ask(running.port, chat(), headers=headers)
            assert (answer.status, answer.json["error"]["code"]) == (403, "model_not_allowed")
        client = await connect(running.port)
        await client.send(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await client.answer("GET")).status == 401
        client.close()
        client = await connect(running.port)
        await client.send(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await client.answer("GET")).status == 200
        client.close()
        await running.quiet()


async def test_a_key_is_asked_for_before_the_body_is_taken(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url, tenants=TENANTS)) as running:
        client = await connect(running.port)
        await client.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 1000000\r\n\r\n"
        )
        assert (await client.answer()).status == 401
        client.close()
        await running.quiet()


async def test_requests_a_minute_are_held_and_told(tmp_path: Path) -> None:
    text = routes("URL", slots=9, tenants=TENANTS)
    async with (
        backends(good) as (fake,),
        gateway(tmp_path, text.replace("URL", fake.url), now=HandClock()) as running,
    ):
        answers = [await ask(running.port, chat(), headers=bearer("sk-acme")) for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429]
        assert [answer.headers.get("x-ratelimit-remaining-requests") for answer in answers[:3]] == ["2", "1", "0"]
        assert answers[0].headers["x-ratelimit-limit-requests"] == "3"
        refused = answers[3]
        assert refused.json["error"]["code"] == "rate_limit_exceeded"
        assert refused.headers["retry-after"] == "20"
        assert running.records.exchanges[-1].outcome is Outcome.QUOTA
        await running.quiet()


async def test_tokens_are_reserved_and_settled_with_what_was_used(tmp_path: Path) -> None:
    text = routes("URL", slots=9, tenants=TENANTS)
    async with (
        backends(good) as (fake,),
        gateway(tmp_path, text.replace("URL", fake.url), now=HandClock()) as running,
    ):
        answer = await ask(running.port, chat(max_tokens=600), headers=bearer("sk-big"))
        assert answer.status == 200
        assert int(answer.headers["x-ratelimit-remaining-tokens"]) < 400
        await running.quiet()
        (big,) = [tenant for tenant in running.app.data.current.tenants if tenant.name == "big"]
        assert big.quota.tokens is not None
        assert big.quota.tokens.level == 1000 - 10, "seven tokens of the prompt and three of the answer"
        too_much = await ask(running.port, chat(max_tokens=2000), headers=bearer("sk-big"))
        assert too_much.status == 429
        assert "retry-after" not in too_much.headers
        assert too_much.json["error"]["message"].endswith("lower `max_tokens`, or shorten the prompt")
        assert (await ask(running.port, chat(max_tokens=300, n=4), headers=bearer("sk-big"))).status == 429
        await running.quiet()


async def test_what_multiplies_an_engines_work_is_bounded(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        for more in ({"n": 10000}, {"best_of": 9}, {"top_logprobs": 21}):
            answer = await ask(running.port, chat() | more)
            assert (answer.status, answer.json["error"]["param"]) == (400, next(iter(more)))
        assert not fake.calls


async def test_a_class_is_no_better_than_the_tenants(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url, slots=9, tenants=TENANTS)) as running:
        for asked, got in (("interactive", "standard"), ("standard", "standard"), ("batch", "batch")):
            headers = bearer("sk-acme") + f"x-gateway-class: {asked}\r\n"
            assert (await ask(running.port, chat(), headers=headers)).status == 200
            last = running.records.exchanges[-1]
            assert (last.service_class, last.tenant) == (got, "acme")
        unknown = await ask(running.port, chat(), headers=bearer("sk-big") + "x-gateway-class: gold\r\n")
        assert (unknown.status, unknown.json["error"]["param"]) == (400, "x-gateway-class")
        await running.quiet()


async def test_engines_that_schedule_by_priority_are_told_it(tmp_path: Path) -> None:
    async with (
        backends(good) as (fake,),
        gateway(tmp_path, routes(fake.url, slots=9, priority_scheduling=True)) as running,
    ):
        for more in ({}, {"priority": -1000}):
            assert (await ask(running.port, chat() | more, headers="x-gateway-class: batch\r\n")).complete
        assert [call.json["priority"] for call in fake.calls] == [20, 20]
        await running.quiet()


async def test_queues_and_quotas_are_told(tmp_path: Path) -> None:
    async with one_slot(tmp_path) as (running, gate), patient_client() as web:
        waiting = asyncio.create_task(ask(running.port, words("second")))
        await eventually(lambda: running.waiting == 1)
        status = (await web.get(f"{running.admin}/admin/status")).json()
        assert status["models"][0]["versions"][0]["waiting"] == {"interactive": 0, "standard": 1, "batch": 0}
        (backend,) = status["backends"]
        assert (backend["in_flight"], backend["limit"], backend["limit_reason"]) == (1, 1, "fixed by the routes")
        assert backend["kv_tokens"] > 0
        metrics = (await web.get(f"{running.admin}/metrics")).text
        assert 'tidegate_queue_depth{class="standard",model="m",version="v1"} 1.0' in metrics
        query = {"model": "m", "prompt_tokens": "10", "class": "batch"}
        explained = (await web.get(f"{running.admin}/admin/explain", params=query)).json()["versions"][0]
        assert explained["winner"] is None
        assert "behind 1 other; that bounds the chance of a slot to 100%" in explained["why"]
        assert explained["candidates"][0]["refused"] == "full: 1 in flight of 1"
        unknown = await web.get(f"{running.admin}/admin/explain", params=query | {"class": "gold"})
        assert (unknown.status_code, "interactive, standard, batch" in unknown.text) == (400, True)
        gate.open.release()
        gate.open.release()
        await waiting
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url, slots=9, tenants=TENANTS)) as running:
        await ask(running.port, chat(), headers=bearer("sk-acme"))
        async with patient_client() as web:
            told = (await web.get(f"{running.admin}/admin/status")).text
        assert "sk-acme" not in told
        assert key("sk-acme") not in told
        acme = json.loads(told)["tenants"][0]
        assert (acme["name"], acme["requests_left"], acme["tokens_left"]) == ("acme", 2, None)


async def test_a_class_is_held_back_but_never_refused_while_a_higher_one_misses_its_objective(tmp_path: Path) -> None:
    """A burned budget refuses no one: it holds sheddable classes back only where that helps."""
    async with one_slot(tmp_path) as (running, gate):
        ttft = next(each for each in running.app.data.ledger.get(Kind.MODEL, "m") if each.sli == "ttft")
        running.app.data.ledger.count(ttft, bad=100)
        running.app.control.outlier_detector.detect()
        running.app.control.limits.admit()
        (line,) = next(iter(running.app.data.current.table)).memory.lines.values()
        assert line.held_below is None, "nobody waits: holding would help nobody"
        clients = [await begin(running, "batch", "x-gateway-class: batch\r\n"), await begin(running, "standard")]
        await eventually(lambda: running.waiting == 2)
        running.app.control.limits.admit()
        assert line.held_below == 10
        async with patient_client() as web:
            status = (await web.get(f"{running.admin}/admin/status")).json()
            assert status["models"][0]["versions"][0]["held_back"] == ["batch"]
            metrics = (await web.get(f"{running.admin}/metrics")).text
        assert 'tidegate_queue_held{class="batch",model="m",version="v1"} 1.0' in metrics
        for _ in clients:
            gate.open.release()
        for client in clients:
            gate.open.release()
            assert (await client.answer()).status == 200
            client.close()
        assert gate.prompts == ["first", "standard", "batch"]
