"""HTTP at the front: what is refused, what is answered here, and what crosses to an engine and back."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from gateway.exchange import Outcome
from gateway.wire.guard import Limits
from tests.e2e.fakes import DONE, JSON_ANSWER, Call, backends, good, whole
from tests.e2e.harness import ask, chat, gateway, post, routes
from tests.e2e.raw_client import Answer, connect
from tests.waiting import DEADLINE, HandClock, eventually

pytestmark = pytest.mark.anyio
TRACEPARENT = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
OTHERS = [
    "/metrics",
    "/sleep",
    "/v1/load_lora_adapter",
    "/invocations",
    "/collective_rpc",
    "/v1/%2e%2e/metrics",
    "/pause",
]
FORWARDED = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/embeddings",
    "/v1/rerank",
    "/rerank",
    "/v1/score",
    "/score",
    "/pooling",
    "/classify",
    "/tokenize",
    "/detokenize",
]


@pytest.mark.parametrize("path", OTHERS)
async def test_another_path_opens_no_socket_to_an_engine(tmp_path: Path, path: str) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        opened = running.backend().pool.opened
        answer = await ask(running.port, chat(), path=path)
        assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")
        assert (fake.calls, running.backend().pool.opened) == ([], opened)
        assert (await running.settled()).outcome is Outcome.CLIENT_ERROR


BROKEN = {
    "no Host": (b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 0\r\n\r\n", 400),
    "two Hosts": (b"GET /health HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
    "length and chunked": (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        400,
    ),
    "a bad chunk": (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        400,
    ),
    "garbage": (b"\x00\x01\x02\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "CONNECT": (b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", 501),
    "an upgrade": (b"GET /health HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", 501),
    "a huge head": (b"GET /health HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 40_000 + b"\r\n\r\n", 431),
    "an endless field": (b"GET /health HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 400_000, 431),
    "a long target": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 414),
    "too many fields": (b"GET /health HTTP/1.1\r\nhost: a\r\n" + b"x: 1\r\n" * 100 + b"\r\n", 431),
    "a compressed body": (post({}, headers="content-encoding: gzip\r\n"), 415),
    "an unknown expectation": (post({}, headers="expect: magic\r\n"), 417),
    "bad JSON": (post(b"{nope"), 400),
    "no model": (post({}), 400),
}


async def raw(port: int, data: bytes) -> Answer:
    """Send bytes on a connection of their own, and return the answer."""
    client = await connect(port)
    try:
        await client.send(data)
        return await client.answer()
    finally:
        client.close()


@pytest.mark.parametrize("case", BROKEN)
async def test_broken_input_gets_a_clear_answer_and_harms_nobody(tmp_path: Path, case: str) -> None:
    data, status = BROKEN[case]
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        await client.send(data)
        answer = await client.answer()
        assert answer.status == status
        assert set(answer.json["error"]) >= {"message", "type", "param", "code"}
        assert answer.headers["x-request-id"]
        client.close()
        assert (await running.settled()).outcome in {Outcome.CLIENT_ERROR, Outcome.INTERNAL}
        assert (await ask(running.port, chat(stream=False))).status == 200


@pytest.mark.parametrize(
    ("path", "sent", "wanted"),
    [
        ("/v1/chat/completions", "application/x-www-form-urlencoded", "application/json"),
        ("/v1/audio/transcriptions", "application/json", "multipart/form-data"),
    ],
)
async def test_a_body_of_another_type_is_told_which_to_send(tmp_path: Path, path: str, sent: str, wanted: str) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        fields = f"host: a\r\ncontent-type: {sent}\r\ncontent-length: 2\r\n\r\n{{}}"
        answer = await raw(running.port, f"POST {path} HTTP/1.1\r\n{fields}".encode())
        message = answer.json["error"]["message"]
        assert answer.status == 415
        assert message.startswith(f'send "content-type: {wanted}"')
        assert message.endswith(f"; this request said {sent}")


@pytest.mark.parametrize(
    ("request_line", "body", "status", "asked"),
    [
        ("POST /v1/completions", b'{"model": "nope", "prompt": "x"}', 404, "nope"),
        ("POST /v1/nope?key=secret", b"", 404, "/v1/nope"),
        ("POST /v1/completions", b'{"model": "m", "prompt', 400, ""),
    ],
)
async def test_what_is_not_served_is_noted_for_the_log_and_not_for_metrics(
    tmp_path: Path, request_line: str, body: bytes, status: int, asked: str
) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        fields = f"host: a\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        answer = await raw(running.port, f"{request_line} HTTP/1.1\r\n{fields}".encode() + body)
        settled = await running.settled()
        assert (answer.status, settled.asked, settled.model) == (status, asked, "other")


async def test_a_refusal_reaches_a_client_that_is_still_sending(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url), limits=Limits(body=1000)) as running:
        client = await connect(running.port)
        await client.send(post(b"x" * 4_000_000))
        answer = await client.answer()
        assert (answer.status, answer.json["error"]["code"]) == (413, "request_too_large")
        client.close()
        chunks = await connect(running.port)
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        await chunks.send(head + b"3e9\r\n" + b"x" * 1001 + b"\r\n")
        assert (await chunks.answer()).status == 413
        chunks.close()
        await running.settled(2)


@pytest.mark.parametrize("ends", [True, False], ids=["comes to an end", "goes on for ever"])
async def test_a_refused_client_that_sends_on_is_read_for_half_a_minute(tmp_path: Path, ends: bool) -> None:
    """Some clients read an answer only once they have sent everything, and closing before that destroys it."""
    clock, limits = HandClock(), Limits(body=1000)
    async with (
        backends(good) as (fake,),
        gateway(tmp_path, routes(fake.url), limits=limits, now=clock) as running,
    ):
        client = await connect(running.port)
        await client.send(post(b"x" * 4_000_000)[:2000])
        await running.settled()
        (seen,) = running.connections
        for _ in range(6):
            clock.advance(4.0)
            before = seen._timer.next_deadline
            await client.send(b"x" * 1000)
            await eventually(lambda before=before: seen._timer.next_deadline > before)  # type: ignore[misc]
        if ends:
            assert (await client.answer()).status == 413
            assert running.connections
        else:
            clock.advance(4.0)
            await client.send(b"x" * 1000)
        await clock.passes(3.0, lambda: not running.connections)
        assert clock() <= 1_000.0 + 24.0 + 12.0
        client.close()


@pytest.mark.parametrize(("sent", "status"), [(b"", 0), (b"POST /v1/chat/comp", 408), (post({"model": "m"})[:-3], 408)])
async def test_who_does_not_send_is_let_go(tmp_path: Path, sent: bytes, status: int) -> None:
    clock = HandClock()
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url), now=clock) as running:
        client = await connect(running.port)
        await client.send(sent)
        waiting = asyncio.create_task(client.answer())
        await clock.passes(31.0, waiting.done)
        assert (await waiting).status == status
        client.close()
        await running.quiet()
        await eventually(lambda: not running.connections)


async def test_a_head_that_trickles_has_ten_seconds_in_all(tmp_path: Path) -> None:
    limits = Limits(head_seconds=0.4)
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url), limits=limits) as running:
        client = await connect(running.port)
        await client.send(b"GET /health HTTP/1.1\r\nhost: a")

        async def trickle() -> None:
            while True:
                await client.send(b"a")
                await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        assert (await client.answer()).status == 408
        trickling.cancel()
        await asyncio.gather(trickling, return_exceptions=True)
        client.close()


async def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        models = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n"
        await client.send(post(chat()) + models + post(chat(stream=False)) + post({"model": "nope"}) + models)
        answers = [await client.answer() for _ in range(5)]
        assert [answer.status for answer in answers] == [200, 200, 200, 404, 200]
        assert answers[0].body.endswith(DONE)
        assert answers[2].body == JSON_ANSWER
        client.close()
        await running.settled(3)


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_a_client_that_half_closes_behind_its_requests_gets_every_answer(tmp_path: Path, count: int) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        await client.send(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n" * count)
        client.writer.write_eof()
        assert (await client.answer_rest()).count(b"HTTP/1.1 200 OK") == count
        client.close()


async def test_a_pipeline_has_a_bound(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        await client.send(post(chat(stream=False)) * 100)
        answers = [await client.answer() for _ in range(66)]
        assert [answer.status for answer in answers] == [200] * 65 + [400]
        assert await client.closed()
        client.close()
        await running.quiet()


async def test_a_chunked_request_goes_on_with_a_length(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        body = json.dumps(chat(stream=False)).encode()
        await client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        for piece in (body[:10], body[10:]):
            await client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await client.send(b"0\r\nx-trailer: dropped\r\n\r\n")
        assert (await client.answer()).status == 200
        client.close()
        assert fake.calls[0].body == body
        assert b"trailer" not in fake.calls[0].head


async def test_an_http10_client_gets_its_stream_until_close(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        await client.send(post(chat()).replace(b"HTTP/1.1", b"HTTP/1.0"))
        raw = await client.reader.read()
        assert b"transfer-encoding" not in raw
        assert b"connection: close" in raw
        assert raw.endswith(DONE)
        client.close()
        await running.settled()


async def test_headers_cross_as_they_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def tell(call: Call) -> None:
        await call.send(whole(b"200 OK", JSON_ANSWER, b"server: uvicorn\r\nx-engine: 1\r\nx-request-id: theirs\r\n"))

    monkeypatch.setenv("ENGINE_KEY", "sk-engine")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with backends(tell) as (fake,):
        text = json.dumps({"models": {"m": {"backends": [{"url": fake.url + "/base", "api_key": "${ENGINE_KEY}"}]}}})
        async with gateway(tmp_path, text, wait_ready=False) as running:
            secret = (
                "authorization: Bearer sk-mine\r\nx-api-key: sk-mine\r\ncookie: sk-mine\r\nx-gateway-class: batch\r\n"
            )
            kept = f"x-request-id: r.1-x_Y\r\n{TRACEPARENT}x-hop: 1\r\nconnection: x-hop\r\n"
            answer = await ask(running.port, chat(stream=False), headers=secret + kept)
            sent = fake.calls[-1].head
            assert sent.startswith(b"POST /base/v1/chat/completions HTTP/1.1\r\n")
            assert b"sk-mine" not in sent
            assert b"authorization: Bearer sk-engine" in sent
            assert sent.count(b"x-gateway") == sent.count(b"x-gateway-hops: ") == 1
            assert b"x-hop" not in sent
            assert b"accept-encoding: identity" in sent
            assert TRACEPARENT.encode() in sent
            assert sent.count(b"x-request-id: r.1-x_Y") == 1
            assert answer.headers["x-request-id"] == "r.1-x_Y"
            assert answer.headers["x-engine"] == "1"
            assert answer.headers["x-gateway-pool"] == "m"
            assert answer.headers["x-gateway-version"] == "default"
            odd = await ask(running.port, chat(stream=False), headers="x-request-id: a b\r\n")
            assert odd.headers["x-request-id"] != "a b"
            assert "sk-engine" not in repr(running.app.data.registry)


@pytest.mark.parametrize("path", FORWARDED)
async def test_every_endpoint_reaches_its_path(tmp_path: Path, path: str) -> None:
    async def answer_json(call: Call) -> None:
        await call.send(whole(b"200 OK", b'{"usage":{"prompt_tokens":3}}'))

    async with backends(answer_json) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        assert (await ask(running.port, {"model": "m", "input": "x"}, path=path + "?q=1")).status == 200
        assert fake.calls[0].path == path
        assert (await running.settled()).prompt_tokens == 3


async def test_models_aliases_versions_and_splits(tmp_path: Path) -> None:
    async with backends(good, good) as (old, new):
        old.models = new.models = ("served/one", "served/two")
        spec = {
            "pools": {"a": {"backends": [old.url]}, "b": {"backends": [new.url]}},
            "models": {
                "org/chat": {
                    "aliases": ["gpt-4o"],
                    "versions": {
                        "v1": {"pools": ["a"], "served_model": "served/one"},
                        "v2": {"pools": ["b"], "served_model": "served/two"},
                    },
                    "split": {"v1": 75, "v2": 25},
                }
            },
        }
        async with gateway(tmp_path, json.dumps(spec)) as running:
            client = await connect(running.port)
            for target, status in [("", 200), ("/org/chat", 200), ("/org%2Fchat", 200), ("/gpt-4o", 200), ("/x", 404)]:
                await client.send(f"GET /v1/models{target} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
                answer = await client.answer("GET")
                assert answer.status == status
                if not target:
                    assert [card["id"] for card in answer.json["data"]] == ["org/chat", "gpt-4o"]
            served: Counter[str] = Counter()
            for _ in range(120):
                await client.send(post({**chat(stream=False), "model": "gpt-4o"}))
                served[(await client.answer()).headers["x-gateway-version"]] += 1
            client.close()
            assert 50 <= served["v1"] <= 115
            assert {call.json["model"] for call in old.calls} == {"served/one"}
            assert {call.json["model"] for call in new.calls} == {"served/two"}
            await running.settled(120)


async def test_a_backend_that_serves_something_else_gets_nothing(tmp_path: Path) -> None:
    async with backends(good) as (fake,):
        fake.models = ("another",)
        async with gateway(tmp_path, routes(fake.url)) as running:
            answer = await ask(running.port, chat())
            assert (answer.status, answer.json["error"]["code"]) == (503, "no_ready_backend")
            assert not fake.calls


async def test_audio_forms_are_spliced(tmp_path: Path) -> None:
    async with backends(good) as (fake,):
        fake.models = ("openai/whisper",)
        model = {"m": {"backends": [fake.url], "served_model": "openai/whisper"}}
        async with gateway(tmp_path, json.dumps({"models": model})) as running:
            form = b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'
            request = post(form, path="/v1/audio/transcriptions")
            request = request.replace(b"application/json", b"multipart/form-data; boundary=b")
            client = await connect(running.port)
            await client.send(request)
            assert (await client.answer()).status == 200
            client.close()
            assert fake.calls[0].body == form.replace(b"\r\nm\r\n", b"\r\nopenai/whisper\r\n")


async def test_connections_have_a_bound_and_idle_ones_harm_nobody(tmp_path: Path) -> None:
    limits = Limits(connections=200, head_seconds=DEADLINE)
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url), limits=limits) as running:
        idle = [await connect(running.port) for _ in range(199)]
        await eventually(lambda: len(running.connections) == 199)
        assert (await ask(running.port, chat(stream=False))).status == 200
        await eventually(lambda: len(running.connections) == 199)
        idle.append(await connect(running.port))
        await eventually(lambda: len(running.connections) == 200)
        refused = await connect(running.port)
        assert (await refused.answer()).status == 503
        for client in (*idle, refused):
            client.close()
        await eventually(lambda: not running.connections)
        assert (await ask(running.port, chat(stream=False))).status == 200


async def test_a_nonsense_timeout_is_refused(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        for value in ("soon", "-1", "0", "inf", "nan"):
            assert (await ask(running.port, chat(), headers=f"x-request-timeout: {value}\r\n")).status == 400
