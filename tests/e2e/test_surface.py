"""The paths, methods and targets that clients of several makes use, and the shape of errors that each of them reads."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from tests.e2e.fakes import Call, Script, backends, good, whole
from tests.e2e.harness import ask, chat, gateway, post, routes
from tests.e2e.raw_client import connect

pytestmark = pytest.mark.anyio
FORM = (
    b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n--b\r\n'
    b'content-disposition: form-data; name="image"; filename="a.png"\r\n\r\n\x89PNG\r\n--b--\r\n'
)


async def answering(call: Call) -> None:
    if call.path == "/v1/audio/speech":
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: 3\r\n\r\nID3")
    else:
        await call.send(whole(b"200 OK", b'{"input_tokens":3}'))


@pytest.mark.parametrize("path", ["/v1/messages/count_tokens", "/v1/images/generations", "/v1/audio/speech"])
async def test_paths_of_other_kinds_reach_an_engine(tmp_path: Path, path: str) -> None:
    async with backends(answering) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        answer = await ask(running.port, {"model": "m", "input": "x", "prompt": "x"}, path=path)
        assert (answer.status, fake.calls[0].path) == (200, path)
        assert answer.body == (b"ID3" if path.endswith("speech") else b'{"input_tokens":3}')
        await running.settled()


@pytest.mark.parametrize("path", ["/v1/images/edits", "/v1/images/variations"])
async def test_forms_with_images_reach_an_engine(tmp_path: Path, path: str) -> None:
    async with backends(answering) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        kind = "content-type: multipart/form-data; boundary=b\r\n"
        await client.send(post(FORM, path=path).replace(b"content-type: application/json\r\n", kind.encode()))
        assert (await client.answer()).status == 200
        assert (fake.calls[0].path, fake.calls[0].body) == (path, FORM)
        client.close()


@pytest.mark.parametrize("case", ["/v1/chat/completions/", "http://any.example:80/v1/chat/completions?x=1"])
async def test_other_spellings_of_a_path_are_the_same_path(tmp_path: Path, case: str) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        assert (await ask(running.port, chat(stream=False), path=case)).status == 200
        assert fake.calls[0].path == "/v1/chat/completions"
        client = await connect(running.port)
        await client.send(b"GET HTTP://x/v1/models/ HTTP/1.1\r\nhost: y\r\n\r\n")
        assert (await client.answer()).json["data"][0]["id"] == "m"
        client.close()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/chat/completions//", 404),
        ("//v1/chat/completions", 404),
        ("http:///v1/chat/completions", 400),
        ("http://user@host/v1/chat/completions", 400),
        ("http://host/metrics", 404),
        ("ftp://host/v1/chat/completions", 404),
        ("http://host/v1/../metrics", 404),
        ("*", 404),
    ],
)
async def test_what_only_looks_like_a_path_reaches_no_engine(tmp_path: Path, path: str, status: int) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        assert (await ask(running.port, chat(), path=path)).status == status
        assert not fake.calls


@pytest.mark.parametrize("path", ["/health", "/ready", "/v1/models", "/v1/models/m", "/v1/models/none", "/nowhere"])
async def test_head_is_get_without_the_body(tmp_path: Path, path: str) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        asked = b" %b HTTP/1.1\r\nhost: x\r\n\r\n" % path.encode()
        await client.send(b"GET" + asked + b"HEAD" + asked + b"GET" + asked)
        got, head, again = [await client.answer(method) for method in ("GET", "HEAD", "GET")]
        assert head.status == got.status == again.status
        assert head.body == b""
        assert head.headers["content-length"] == got.headers["content-length"] == str(len(again.body))
        client.close()


def http10(request: bytes) -> bytes:
    return request.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"\r\n", b"\r\nconnection: keep-alive\r\n", 1)


async def test_an_http10_client_keeps_its_connection_while_answers_have_lengths(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        for request in (post(chat(stream=False)), post({}), post({}, path="/nowhere"), post(chat(stream=False))):
            await client.send(http10(request))
            answer = await client.answer()
            assert answer.status
            assert answer.headers["connection"] == "keep-alive"
        await client.send(http10(post(chat())))
        raw = await client.reader.read()
        assert b"connection: close" in raw
        assert raw.count(b"connection: ") == 1
        assert raw.endswith(b"data: [DONE]\n\n")
        client.close()
        await running.settled(5)


async def test_an_unknown_path_leaves_the_connection_open(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        client = await connect(running.port)
        for path, status in (("/nowhere", 404), ("/metrics", 404), ("/health", 405), ("/v1/chat/completions", 200)):
            await client.send(post(chat(stream=False), path=path))
            answer = await client.answer()
            assert answer.status == status
            assert "connection" not in answer.headers
        # In one piece, and none of it is taken for the next request's head.
        hidden = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
        await client.send(post(hidden, path="/nowhere") + b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert [(await client.answer()).status for _ in range(2)] == [404, 200]
        client.close()
        assert len(fake.calls) == 1
        await running.settled(5)


async def test_a_body_for_nobody_is_read_away_only_while_it_is_short(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        for request in (
            post(b"x" * 70_000, path="/nowhere"),
            b"POST /nowhere HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ):
            client = await connect(running.port)
            await client.send(request)
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (404, "close")
            assert await client.closed()
            client.close()


async def gone(call: Call) -> None:
    call.close()


async def openai_refusal(call: Call) -> None:
    await call.send(whole(b"400 Bad Request", b'{"error":{"message":"too long","type":"BadRequestError","code":400}}'))


async def plain_refusal(call: Call) -> None:
    body = b"no such thing"
    await call.send(b"HTTP/1.1 404 N\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


async def own_refusal(call: Call) -> None:
    await call.send(whole(b"400 Bad Request", b'{"type":"error","error":{"type":"made_up","message":"as it is"}}'))


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (gone, (502, "api_error", "failed in 1 attempt")),
        (openai_refusal, (400, "invalid_request_error", "too long")),
        (plain_refusal, (404, "not_found_error", "no such thing")),
        (own_refusal, (400, "made_up", "as it is")),
    ],
)
async def test_failures_of_engines_have_anthropics_shape(
    tmp_path: Path, path: str, script: Script, expected: tuple[int, str, str]
) -> None:
    status, kind, words = expected
    async with backends(script) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        answer = await ask(running.port, chat(stream=False), path=path)
        assert (answer.status, answer.json["type"], answer.json["error"]["type"]) == (status, "error", kind)
        assert words in answer.json["error"]["message"]
        assert answer.headers["content-type"] == "application/json"


async def test_the_gateways_own_refusals_have_anthropics_shape(tmp_path: Path) -> None:
    async with backends(good) as (fake,):
        tenants = {"acme": {"key_sha256": sha256(b"k").hexdigest(), "limits": {"requests_per_minute": 1}}}
        text = json.dumps({**json.loads(routes(fake.url)), "tenants": tenants})
        async with gateway(tmp_path, text) as running:
            key = "x-api-key: k\r\n"
            seen = {
                (await ask(running.port, body, path="/v1/messages", headers=headers)).json["error"]["type"]
                for body, headers in (
                    (chat(stream=False), ""),
                    ({**chat(), "model": "nope"}, key),
                    (b"{nope", key),
                )
            }
            assert seen == {"authentication_error", "not_found_error", "invalid_request_error"}
            first = await ask(running.port, chat(stream=False), path="/v1/messages", headers=key)
            assert first.status == 200
            second = await ask(running.port, chat(stream=False), path="/v1/messages", headers=key)
            assert (second.status, second.json["error"]["type"]) == (429, "rate_limit_error")
            unknown = await ask(running.port, {}, path="/v1/messages/batches", headers=key)
            assert (unknown.status, unknown.json["error"]["type"]) == (404, "not_found_error")
            wrong = await ask(running.port, chat(), headers="")
            assert wrong.json["error"]["code"] == "invalid_api_key"
            await fake.stop()
            huge = post(b"x" * 100, path="/v1/messages").replace(b"content-length: 100", b"content-length: 99999999")
            client = await connect(running.port)
            await client.send(huge)
            assert (await client.answer()).json["error"]["type"] == "request_too_large"
            client.close()
