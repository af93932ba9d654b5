"""Long and hostile bodies through a real gateway: relayed as they came, and never in anybody's way."""

import asyncio
import json
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.exchange import AttemptEnd, Outcome
from gateway.proxy import reading
from gateway.wire.slices import Slices
from loadtest.bench.listening import listening
from tests.e2e.fakes import (
    DONE,
    JSON_ANSWER,
    LAST_CHUNK,
    ROLE,
    STREAM_HEAD,
    Call,
    backends,
    chunked,
    event,
    good,
    whole,
)
from tests.e2e.harness import ask, chat, gateway, post, routes
from tests.e2e.raw_client import connect
from tests.waiting import DEADLINE, eventually

pytestmark = pytest.mark.anyio
MIB = 1024 * 1024


def long_chat(size: int, stream: str = "false") -> bytes:
    text = json.dumps("it is said\n" * (size // 12))
    return b'{"model": "m", "messages": [{"role": "user", "content": %b}], "stream": %b}' % (
        text.encode(),
        stream.encode(),
    )


@pytest.mark.parametrize("size", [70_000, 3 * MIB])
async def test_a_long_body_reaches_the_engine_as_it_came(tmp_path: Path, size: int) -> None:
    body = long_chat(size)
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        answer = await ask(running.port, body)
        assert (answer.status, answer.body) == (200, JSON_ANSWER)
        assert fake.calls[0].body == body
        assert (await running.settled()).prompt_estimate > size / 10
        again = await ask(running.port, body)
        assert (again.status, fake.connections) == (200, 1)


async def test_only_what_is_rewritten_differs(tmp_path: Path) -> None:
    body = long_chat(MIB, "true")
    spec = {
        "pools": {"p": {"backends": ["URL"]}},
        "models": {"m": {"versions": {"v1": {"pools": ["p"], "served_model": "org/model"}}}},
    }
    async with backends(good) as (fake,):
        fake.models = ("org/model",)
        text = json.dumps(spec).replace("URL", fake.url)
        async with gateway(tmp_path, text) as running:
            assert (await ask(running.port, body)).status == 200
            expected = body.replace(b'"m"', b'"org/model"').replace(
                b'"stream": true', b'"stream": true,"stream_options":{"include_usage":true}'
            )
            assert fake.calls[0].body == expected
            assert (await running.settled()).output_tokens == 3


async def test_a_long_body_is_sent_again_where_an_engine_fails(tmp_path: Path) -> None:
    async def failing(call: Call) -> None:
        await call.send(whole(b"500 Internal Server Error", b"{}"))

    body = long_chat(MIB)
    async with backends(failing, good) as fakes, gateway(tmp_path, routes(*[fake.url for fake in fakes])) as running:
        async with asyncio.timeout(DEADLINE):
            while not fakes[0].calls:  # which of two idle engines is asked first is drawn
                assert (await ask(running.port, body)).status == 200
        assert all(call.body == body for fake in fakes for call in fake.calls)


async def test_an_engine_that_answers_before_the_end_of_a_long_body_costs_its_connection(tmp_path: Path) -> None:
    refused = b'{"error":{"message":"too long","type":"BadRequestError","param":null,"code":400}}'

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):
            models = b'{"object":"list","data":[{"id":"m","object":"model"}]}'
            writer.write(whole(b"200 OK", models))
            return
        writer.write(whole(b"400 Bad Request", refused))
        await writer.drain()
        gone.set_result(await reader.read(-1))

    gone: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    async with listening(serve) as url, gateway(tmp_path, routes(url)) as running:
        answer = await ask(running.port, long_chat(16 * MIB))
        assert (answer.status, answer.body) == (400, refused)
        assert len(await gone) < 16 * MIB
        assert running.backend().pool.idle == 0
        await running.settled()


GROUPS: dict[str, bytes] = {
    "60 deep groups": b",".join([b"[" * 60 + b"]" * 60] * 70_000),
    "numbers": b",".join([b"1"] * 4_000_000),
    "short strings": b",".join([b'"\\\\"'] * 1_500_000),
}


@pytest.mark.parametrize("what", GROUPS)
async def test_others_are_answered_while_a_long_body_is_read(tmp_path: Path, what: str) -> None:
    """Everything here shares one event loop: a body read in one go would leave no turn for anyone in between."""
    request = post(b'{"model":"m","messages":[],"x":[%b]}' % GROUPS[what])
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client, other = await connect(running.port), await connect(running.port)
        await client.send(request[:-1])
        await eventually(
            lambda: (
                sum(len(each.reader._request.body) for each in running.connections if each.reader._request)
                >= len(GROUPS[what])
            )
        )
        await client.send(request[-1:])
        answered = 0
        while not running.in_flight:
            await other.send(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await other.answer("GET")).status == 200
            answered += 1
        assert answered >= 5
        assert (await client.answer()).status == 200
        client.close()
        other.close()
        await running.quiet()


async def test_a_client_may_leave_while_its_body_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slices, "_turn", lambda _: None)  # reading takes for ever
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        await client.send(post(long_chat(MIB)))
        await eventually(lambda: bool(running.app.data.busy()))
        client.close()
        assert (await running.settled()).outcome is Outcome.CLIENT_GONE
        assert not fake.calls


async def test_reading_has_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turn, standing = Slices._turn, list[Slices]()
    monkeypatch.setattr(Slices, "_turn", lambda each: None if each in standing else turn(each))
    monkeypatch.setattr(reading, "PATIENCE", 0.2)
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        standing.append(running.app.data._slices)
        answer = await ask(running.port, long_chat(MIB))
        assert (answer.status, answer.json["error"]["code"]) == (503, "overloaded")
        assert answer.headers["retry-after"] == "1"
        await running.settled()
        assert AttemptEnd.OK not in {end for _, end in running.records.attempts}


LONG_TAIL = b',"prompt_logprobs":[%b null]}' % (b'{"1":{"logprob":-1.0,"decoded_token":"usage"}},' * 5000)


@pytest.mark.parametrize("told", [True, False])
async def test_a_long_answer_is_charged_by_its_usage_or_by_what_was_seen(tmp_path: Path, told: bool) -> None:
    answer = (JSON_ANSWER if told else JSON_ANSWER[: JSON_ANSWER.index(b',"usage"')] + b"}")[:-1] + LONG_TAIL

    async def engine(call: Call) -> None:
        await call.send(whole(b"200 OK", answer))

    limits = {"tokens_per_minute": 100_000}
    async with backends(engine) as (fake,):
        spec = json.loads(routes(fake.url))
        spec["tenants"] = {"t": {"key_sha256": sha256(b"sk-t").hexdigest(), "limits": limits}}
        async with gateway(tmp_path, json.dumps(spec)) as running:
            request = {"model": "m", "messages": [], "max_tokens": 500}
            got = await ask(running.port, request, headers="authorization: Bearer sk-t\r\n")
            assert got.body == answer
            exchange = await running.settled()
            assert (exchange.prompt_tokens, exchange.output_tokens) == ((7, 3) if told else (None, None))
            (tenant,) = running.app.data.current.tenants
            charged = 100_000 - int(tenant.shown().split(b"remaining-tokens: ")[1].split(b"\r\n")[0])
            assert charged == 10 if told else charged >= 500


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("count", "counted"),
    [
        ("-50000", False),
        ("1e300", False),
        ("1.5", False),
        ('"7"', False),
        ("true", False),
        ("999999999999", False),
        ("60000", False),
        ("4000", True),
    ],
)
async def test_a_usage_that_cannot_be_is_charged_to_nobody(
    tmp_path: Path, count: str, counted: bool, stream: bool
) -> None:
    usage = b',"usage":{"prompt_tokens":%b,"completion_tokens":%b}}' % (count.encode(), count.encode())
    answer = JSON_ANSWER[: JSON_ANSWER.index(b',"usage"')] + usage
    told = b'data: {"id":"chatcmpl-1","choices":[]%b\n\n' % usage

    async def engine(call: Call) -> None:
        if stream:
            await call.send(STREAM_HEAD, chunked(ROLE, event("a"), event("b", "stop"), told, DONE) + LAST_CHUNK)
        else:
            await call.send(whole(b"200 OK", answer))

    async with backends(engine) as (fake,):
        fake.max_model_len = 8192
        spec = json.loads(routes(fake.url))
        limits = {"tokens_per_minute": 100_000}
        spec["tenants"] = {"t": {"key_sha256": sha256(b"sk-t").hexdigest(), "limits": limits}}
        async with gateway(tmp_path, json.dumps(spec)) as running:
            headers = "authorization: Bearer sk-t\r\n"
            got = await ask(running.port, chat(stream, max_tokens=50), headers=headers)
            assert got.body == (ROLE + event("a") + event("b", "stop") + DONE if stream else answer)
            exchange = await running.settled()
            known = int(count) if counted else None
            assert (exchange.prompt_tokens, exchange.output_tokens) == (known, known)
            (tenant,) = running.app.data.current.tenants
            charged = 100_000 - int(tenant.shown().split(b"remaining-tokens: ")[1].split(b"\r\n")[0])
            assert charged == 8000 if counted else 2 <= charged < 200
