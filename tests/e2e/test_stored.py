"""Responses that engines keep: what is asked of one reaches the engine that made it, for the tenant that made it."""

import asyncio
import json
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fakes import LAST_CHUNK, STREAM_HEAD, Call, FakeBackend, backends, chunked, whole
from tests.e2e.harness import Running, ask, gateway, post, routes
from tests.e2e.raw_client import Answer, connect
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
_IDS = count(1)


def created(response: dict[str, Any]) -> bytes:
    return b"event: response.created\ndata: %b\n\n" % json.dumps({"response": response}).encode()


def delta(text: str) -> bytes:
    data = {"type": "response.output_text.delta", "delta": text}
    return b"event: response.output_text.delta\ndata: %b\n\n" % json.dumps(data, separators=(",", ":")).encode()


COMPLETED = b'event: response.completed\ndata: {"type":"response.completed","response":{}}\n\n'


class Engine:
    """Keeps the responses that it makes, as vLLM does."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}

    async def __call__(self, call: Call) -> None:
        path, _, query = call.path.partition("?")
        if path == "/v1/responses":
            response = {
                "id": call.json.get("request_id", f"resp_{next(_IDS):032x}"),
                "model": call.json["model"],
                "status": "completed",
                "usage": {"input_tokens": 7, "output_tokens": 3},
            }
            self.kept[response["id"]] = response
            if call.json.get("stream"):
                await call.send(STREAM_HEAD, chunked(created(response), delta("a"), COMPLETED) + LAST_CHUNK)
                return
        else:
            found = self.kept.get(path.split("/")[3])
            if found is None:
                error = {"message": "not found", "type": "invalid_request_error", "param": "response_id", "code": 404}
                await call.send(whole(b"404 Not Found", json.dumps({"error": error}).encode()))
                return
            response = found
            if path.endswith("/cancel"):
                response["status"] = "cancelled"
            if query:
                await call.send(STREAM_HEAD, chunked(delta(query), delta("b"), COMPLETED) + LAST_CHUNK)
                return
        await call.send(whole(b"200 OK", json.dumps(response).encode()))


def make(**more: Any) -> dict[str, Any]:
    return {"model": "m", "input": "hi", **more}


async def get(port: int, path: str, *, headers: str = "", method: str = "GET") -> Answer:
    client = await connect(port)
    await client.send(f"{method} {path} HTTP/1.1\r\nhost: gateway\r\n{headers}\r\n".encode())
    answer = await client.answer(method)
    client.close()
    return answer


async def made(running: Running, headers: str = "", **more: Any) -> str:
    answer = await ask(running.port, make(**more), path="/v1/responses", headers=headers)
    assert answer.status == 200
    if more.get("stream"):
        return str(json.loads(answer.body.split(b"data: ")[1].split(b"\n")[0])["response"]["id"])
    return str(answer.json["id"])


def asked(fake: FakeBackend) -> list[str]:
    return [call.path for call in fake.calls if call.path != "/v1/responses"]


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_asked_of_a_response_reaches_the_engine_that_made_it(tmp_path: Path, stream: bool) -> None:
    engines = [Engine(), Engine(), Engine()]
    async with backends(*engines) as fakes, gateway(tmp_path, routes(*[fake.url for fake in fakes])) as running:
        ids = [await made(running, stream=stream) for _ in range(8)]
        for each in ids:
            assert (await get(running.port, f"/v1/responses/{each}")).json["id"] == each
            cancelled = await ask(running.port, b"", path=f"/v1/responses/{each}/cancel")
            assert cancelled.json["status"] == "cancelled"
        for engine, fake in zip(engines, fakes, strict=True):
            assert sorted(asked(fake)) == sorted(
                f"/v1/responses/{each}{what}" for each in engine.kept for what in ("", "/cancel")
            )
        await running.settled(24)


async def test_a_stored_response_bears_the_name_of_the_model_that_was_asked_for(tmp_path: Path) -> None:
    async with backends(Engine()) as (fake,):
        fake.models = ("served/m",)
        text = {"models": {"m": {"aliases": ["alias"], "backends": [fake.url], "served_model": "served/m"}}}
        async with gateway(tmp_path, json.dumps(text)) as running:
            answer = await ask(running.port, make(model="alias"), path="/v1/responses")
            assert answer.json["model"] == "alias"
            assert (await get(running.port, f"/v1/responses/{answer.json['id']}")).json["model"] == "alias"


async def test_a_stored_stream_goes_on_where_its_client_wants(tmp_path: Path) -> None:
    async with backends(Engine()) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        response = await made(running, stream=True)
        answer = await get(running.port, f"/v1/responses/{response}?stream=True&starting_after=03&include=x%20y")
        assert answer.body == delta("stream=true&starting_after=3") + delta("b") + COMPLETED
        assert asked(fake) == [f"/v1/responses/{response}?stream=true&starting_after=3"]
        wrong = await get(running.port, f"/v1/responses/{response}?stream=true&starting_after=x")
        assert (wrong.status, wrong.json["error"]["param"]) == (400, "starting_after")


async def test_what_is_told_again_counts_as_a_request_and_not_as_work(tmp_path: Path) -> None:
    async with backends(Engine()) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        response = await made(running)
        first = await running.settled()
        assert (first.prompt_tokens, first.output_tokens) == (7, 3)
        for number, query in enumerate(("", "?stream=true"), 2):
            assert (await get(running.port, f"/v1/responses/{response}{query}")).status == 200
            told = await running.settled(number)
            assert (told.outcome, told.endpoint, told.model) == ("ok", "/v1/responses/{id}", "m")
            assert (told.prompt_tokens, told.output_tokens, told.content_events) == (None, None, 0)
            assert (told.ttft, told.tpot, told.itl) == (None, None, [])
        assert [end for _, end in running.records.attempts] == ["ok"] * 3


async def test_who_keeps_a_response_is_asked_for_after_a_restart(tmp_path: Path) -> None:
    engines = [Engine() for _ in range(12)]
    engines[7].kept["resp_1"] = {"id": "resp_1", "model": "m", "status": "completed"}
    async with backends(*engines) as fakes, gateway(tmp_path, routes(*[fake.url for fake in fakes])) as running:
        assert (await get(running.port, "/v1/responses/resp_1")).json["id"] == "resp_1"
        assert all(len(fake.calls) <= 1 for fake in fakes if fake is not fakes[7])
        for fake in fakes:
            fake.calls.clear()
        assert (await ask(running.port, b"", path="/v1/responses/resp_1/cancel")).json["status"] == "cancelled"
        assert [asked(fake) for fake in fakes if fake.calls] == [["/v1/responses/resp_1/cancel"]]
        missing = await get(running.port, "/v1/responses/resp_2")
        assert (missing.status, missing.json["error"]["param"]) == (404, "response_id")
        assert missing.json["error"]["code"] == "not_found"
        assert sum(len(fake.calls) for fake in fakes) == 13
        await running.settled(3)


async def test_what_a_backend_keeps_that_is_not_ready_is_not_missing(tmp_path: Path) -> None:
    keeps = Engine()
    keeps.kept["resp_1"] = {"id": "resp_1", "model": "m", "status": "completed"}
    async with backends(Engine(), keeps) as fakes:
        fakes[1].health = b"503 Service Unavailable"
        async with gateway(tmp_path, routes(*[f.url for f in fakes]), wait_ready=False) as running:
            await running.ready(0)
            await eventually(lambda: not running.backend(1).readiness.eligible)
            kept = await get(running.port, "/v1/responses/resp_1")
            assert (kept.status, "retry-after" in kept.headers) == (503, True)
            assert (await get(running.port, "/v1/responses/resp_2")).status == 404
            await running.settled(2)


async def test_that_an_engine_does_not_say_is_not_taken_for_a_no(tmp_path: Path) -> None:
    async def hangs_up(call: Call) -> None:
        call.close()

    async with backends(Engine(), hangs_up) as fakes, gateway(tmp_path, routes(*[f.url for f in fakes])) as running:
        answer = await get(running.port, "/v1/responses/resp_1")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        await running.settled()


async def test_a_client_that_leaves_ends_the_search(tmp_path: Path) -> None:
    async def says_nothing(call: Call) -> None:
        await call.until_gone()

    async with backends(says_nothing) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        await client.send(b"GET /v1/responses/resp_1 HTTP/1.1\r\nhost: x\r\n\r\n")
        await eventually(lambda: bool(fake.calls))
        client.reset()
        await eventually(fake.calls[0].gone.is_set)
        assert (await running.settled()).outcome == "client_gone"


def key(name: str) -> str:
    return f"x-api-key: {name}\r\n"


def with_tenants(models: dict[str, Any], tenants: dict[str, Any]) -> str:
    named = {name: {"key_sha256": sha256(name.encode()).hexdigest(), **spec} for name, spec in tenants.items()}
    return json.dumps({"models": models, "tenants": named})


async def test_a_tenant_reaches_its_own_responses_only(tmp_path: Path) -> None:
    async with backends(Engine()) as (fake,):
        text = with_tenants({"m": {"backends": [fake.url]}}, {"a": {}, "b": {}})
        async with gateway(tmp_path, text) as running:
            response = await made(running, key("a"))
            own = await get(running.port, f"/v1/responses/{response}", headers=key("a"))
            assert own.json["id"] == response
            others = await get(running.port, f"/v1/responses/{response}", headers=key("b"))
            none = await get(running.port, "/v1/responses/resp_0", headers=key("b"))
            assert (others.status, none.status) == (404, 404)
            told = others.json["error"]
            assert told == {**none.json["error"], "message": told["message"]}
            cancel = await ask(running.port, b"", path=f"/v1/responses/{response}/cancel", headers=key("b"))
            assert cancel.status == 404
            assert (await get(running.port, f"/v1/responses/{response}")).status == 401
            assert asked(fake) == [f"/v1/responses/{response}"]


async def test_no_tenant_puts_a_response_in_place_of_anothers(tmp_path: Path) -> None:
    async with backends(Engine()) as (fake,):
        text = with_tenants({"m": {"backends": [fake.url]}}, {"a": {}, "b": {}})
        async with gateway(tmp_path, text) as running:
            assert await made(running, key("a"), request_id="resp_1") == "resp_1"
            assert await made(running, key("a"), request_id="resp_1") == "resp_1"
            taken = await ask(running.port, make(request_id="resp_1"), path="/v1/responses", headers=key("b"))
            assert (taken.status, taken.json["error"]["param"]) == (400, "request_id")
            assert len(fake.calls) == 2
            assert await made(running, key("b"), request_id="resp_2") == "resp_2"
            assert await made(running, key("b"), request_id="resp_1", store=False) == "resp_1", "it takes no place"
            taken = await ask(running.port, b"", path="/v1/responses/resp_1/cancel", headers=key("b"))
            assert taken.status == 404


@pytest.mark.parametrize("store", [True, False], ids=["stored", "not stored"])
async def test_no_two_tenants_make_responses_of_one_name_at_once(tmp_path: Path, store: bool) -> None:
    """Until an answer began, its name was free for all: two tenants' requests reached engines under the same."""
    engines = [Engine(), Engine()]
    go_on = asyncio.Event()

    async def slowly(call: Call) -> None:
        await go_on.wait()
        await engines[0](call)

    async with backends(slowly, engines[1]) as fakes:
        models = {name: {"backends": [fake.url]} for name, fake in zip(("m", "n"), fakes, strict=True)}
        fakes[1].models = ("n",)
        async with gateway(tmp_path, with_tenants(models, {"a": {}, "b": {}})) as running:
            body = make(request_id="resp_1", store=store)
            headers = key("a") + "x-request-id: one\r\n"
            first = asyncio.create_task(ask(running.port, body, path="/v1/responses", headers=headers))
            await eventually(lambda: len(fakes[0].calls) == 1)
            again = asyncio.create_task(ask(running.port, body, path="/v1/responses", headers=key("a")))
            await eventually(lambda: len(fakes[0].calls) == 2)
            for model in ("m", "n"):
                same = b'{"model": "%b", "input": "hi", "request_id": "resp\\u005f1"}' % model.encode()
                for sent in (make(model=model, request_id="resp_1"), same):
                    taken = await ask(running.port, sent, path="/v1/responses", headers=key("b"))
                    assert (taken.status, taken.json["error"]["param"]) == (400, "request_id")
            assert [len(fake.calls) for fake in fakes] == [2, 0]
            go_on.set()
            assert [(await each).status for each in (first, again)] == [200, 200]
            await running.quiet()
            later = await ask(running.port, make(request_id="resp_1"), path="/v1/responses", headers=key("b"))
            assert later.status == (400 if store else 200)


async def test_tenants_who_share_an_engine_reach_their_responses_after_a_restart(tmp_path: Path) -> None:
    async with backends(Engine()) as (fake,):
        text = with_tenants({"m": {"backends": [fake.url], "aliases": ["alias"]}}, {"a": {}, "b": {}})
        state = f"sqlite:///{tmp_path / 'state.sqlite'}"
        async with gateway(tmp_path, text, state=state) as running:
            first, second = await made(running, key("a")), await made(running, key("b"), model="alias", stream=True)
        assert first.encode() not in (tmp_path / "state.sqlite").read_bytes()
        async with gateway(tmp_path, text, state=state) as running:
            own = await get(running.port, f"/v1/responses/{first}", headers=key("a"))
            assert (own.status, own.json["id"]) == (200, first)
            others = await get(running.port, f"/v1/responses/{first}", headers=key("b"))
            assert others.status == 404
            renamed = await get(running.port, f"/v1/responses/{second}", headers=key("b"))
            assert (renamed.status, renamed.json["model"]) == (200, "alias")
            body = make(previous_response_id=first)
            assert (await ask(running.port, body, path="/v1/responses", headers=key("a"))).status == 200
        assert asked(fake) == [f"/v1/responses/{first}", f"/v1/responses/{second}"]


async def test_whose_an_unknown_response_is_must_be_beyond_doubt(tmp_path: Path) -> None:
    engines = [Engine(), Engine()]
    for engine in engines:
        engine.kept["resp_1"] = {"id": "resp_1", "model": "m"}
    async with backends(*engines) as (own, shared):
        models = {"own": {"backends": [own.url]}, "shared": {"backends": [shared.url]}}
        own.models, shared.models = ("own",), ("shared",)
        tenants = {"a": {"models": ["own", "shared"]}, "b": {"models": ["shared"]}}
        async with gateway(tmp_path, with_tenants(models, tenants)) as running:
            assert (await get(running.port, "/v1/responses/resp_1", headers=key("b"))).status == 404
            assert (await get(running.port, "/v1/responses/resp_1", headers=key("a"))).status == 200
            assert (len(own.calls), len(shared.calls)) == (1, 0)
            assert (await get(running.port, "/v1/responses/resp_1", headers=key("b"))).status == 404


async def test_a_search_is_a_request_of_its_tenants_quota(tmp_path: Path) -> None:
    async with backends(Engine()) as (fake,):
        limits = {"requests_per_minute": 2, "concurrent": 1}
        text = with_tenants({"m": {"backends": [fake.url]}}, {"a": {"limits": limits}})
        async with gateway(tmp_path, text) as running:
            seen = [(await get(running.port, "/v1/responses/resp_1", headers=key("a"))).status for _ in range(3)]
            assert seen == [404, 404, 429]
            await running.settled(3)


async def test_a_response_is_told_where_there_is_no_slot_and_no_new_work(tmp_path: Path) -> None:
    engine, go_on = Engine(), asyncio.Event()

    async def busy(call: Call) -> None:
        if b"wait" in call.body:
            await call.send(STREAM_HEAD, chunked(created({"id": "resp_slow"}), delta("a")))
            await go_on.wait()
            await call.send(chunked(COMPLETED) + LAST_CHUNK)
        else:
            await engine(call)

    async with backends(busy) as (fake,):
        text = json.dumps({"models": {"m": {"backends": [{"url": fake.url, "max_concurrency": 1}]}}})
        async with gateway(tmp_path, text) as running:
            response = await made(running)
            client = await connect(running.port)
            await client.send(post(make(input="wait", stream=True), path="/v1/responses"))
            await eventually(lambda: running.in_flight == 1 and len(fake.calls) == 2)
            assert (await get(running.port, f"/v1/responses/{response}")).status == 200
            running.app.data.registry.drain(running.backend().id, drained=True)
            assert (await get(running.port, f"/v1/responses/{response}")).status == 200
            go_on.set()
            assert (await client.answer()).complete
            client.close()
            await running.settled(4)


async def test_a_response_goes_with_its_engine(tmp_path: Path) -> None:
    async with backends(Engine(), Engine()) as fakes:
        async with gateway(tmp_path, routes(*[fake.url for fake in fakes])) as running:
            response = await made(running)
            maker = next(fake for fake in fakes if fake.calls)
            await maker.stop()
            answer = await get(running.port, f"/v1/responses/{response}")
            assert (answer.status, answer.json["error"]["code"]) == (503, "no_ready_backend")
            text = routes(*[fake.url for fake in fakes if fake is not maker])
            (tmp_path / "routes.yaml").write_text(text)
            await eventually(lambda: len(list(running.app.data.registry)) == 1)
            assert (await get(running.port, f"/v1/responses/{response}")).status == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "/v1/responses/resp_1", 405),
        ("HEAD", "/v1/responses/resp_1", 405),
        ("GET", "/v1/responses/resp_1/cancel", 405),
        ("GET", "/v1/responses/resp_1/input_items", 404),
        ("GET", "/v1/responses/..", 404),
        ("GET", "/v1/responses/.", 404),
        ("GET", "/v1/responses/%2e%2e", 404),
        ("GET", "/v1/responses/a/b", 404),
        ("GET", "/v1/responses/a%2fb", 404),
        ("GET", "/v1/responses//", 404),
        ("GET", f"/v1/responses/{'x' * 129}", 404),
    ],
)
async def test_nothing_else_under_responses_reaches_an_engine(
    tmp_path: Path, method: str, path: str, status: int
) -> None:
    async with backends(Engine()) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        answer = await get(running.port, path, method=method)
        assert answer.status == status
        if status == 405:
            assert answer.headers["allow"] == ("POST" if path.endswith("cancel") else "GET")
        assert not fake.calls
