"""Names that clients read in answers: the model they asked for, the id they gave."""

import asyncio
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.fakes import DONE, LAST_CHUNK, STREAM_HEAD, Call, Script, backends, chunked, whole
from tests.e2e.harness import Running, ask, chat, gateway, routes
from tests.e2e.raw_client import connect

pytestmark = pytest.mark.anyio


def named(backend: str, served: str, **model: object) -> str:
    return json.dumps({"models": {"m": {"backends": [backend], "served_model": served, "aliases": ["gpt"], **model}}})


def chunk_of(text: str, model: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: %b\n\n" % json.dumps({"id": "c", "model": model, "choices": [choice]}).encode()


def engine(model: str, padding: int = 0) -> Script:
    async def answer(call: Call) -> None:
        if call.json.get("stream"):
            events = [chunk_of(f'{i} "model": "{model}"', model) for i in range(3)] + [
                chunk_of("", model, "stop"),
                DONE,
            ]
            for event in events:
                await call.send(STREAM_HEAD if event is events[0] else b"", chunked(event))
            await call.send(LAST_CHUNK)
        else:
            document = {"id": "c", "metadata": {"model": "theirs"}, "model": model, "pad": "x" * padding}
            await call.send(whole(b"200 OK", json.dumps(document).encode()))

    return answer


@pytest.mark.parametrize("told", ["served/name", "served/name@main"], ids=["the served name", "with a suffix"])
@pytest.mark.parametrize("asked", ["m", "gpt"])
async def test_answers_bear_the_name_that_was_asked_for(tmp_path: Path, told: str, asked: str) -> None:
    async with backends(engine(told), engine(told, 200_000)) as (fake, long):
        fake.models = long.models = ("served/name",)
        async with gateway(tmp_path, named(fake.url, "served/name")) as running:
            stream = await ask(running.port, chat(model=asked))
            events = [json.loads(line[6:]) for line in stream.body.decode().split("\n\n")[:-2]]
            assert [event["model"] for event in events] == [asked] * 4
            assert events[0]["choices"][0]["delta"]["content"] == f'0 "model": "{told}"'
            document = (await ask(running.port, chat(stream=False, model=asked))).json
            assert (document["model"], document["metadata"]) == (asked, {"model": "theirs"})
            assert fake.calls[-1].json["model"] == "served/name"
            await running.settled(2)
        async with gateway(tmp_path, named(long.url, "served/name")) as running:
            answer = await ask(running.port, chat(stream=False, model=asked))
            assert answer.complete
            assert answer.json["model"] == asked


async def test_a_model_may_echo_the_name_that_its_engines_give_it(tmp_path: Path) -> None:
    async with backends(engine("served")) as (fake,):
        fake.models = ("served",)
        async with gateway(tmp_path, named(fake.url, "served", echo_served_model=True)) as running:
            assert (await ask(running.port, chat(stream=False))).json["model"] == "served"
            assert b'"model": "served"' in (await ask(running.port, chat())).body


async def test_streams_tell_proxies_in_front_to_hold_nothing_back(tmp_path: Path) -> None:
    async with backends(engine("m")) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        stream = await ask(running.port, chat())
        assert stream.headers["x-accel-buffering"] == "no"
        assert stream.headers["cache-control"] == "no-transform"
        assert "x-accel-buffering" not in (await ask(running.port, chat(stream=False))).headers


@pytest.mark.parametrize(
    ("headers", "body", "engine_gets"),
    [
        ("x-request-id: head\r\n", {"request_id": "body"}, b"x-request-id: head\r\n"),
        ("", {"request_id": "body"}, b"x-request-id: body\r\n"),
    ],
    ids=["the head's wins", "the body's, without one in the head"],
)
async def test_the_id_that_a_client_gives_is_the_one_that_the_engine_gets(
    tmp_path: Path, headers: str, body: dict[str, str], engine_gets: bytes
) -> None:
    async with backends(engine("m")) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        answer = await ask(running.port, chat(stream=False, **body), headers=headers)
        assert fake.calls[0].head.count(b"x-request-id") == 1
        assert engine_gets in fake.calls[0].head
        assert engine_gets.decode().strip() == f"x-request-id: {answer.headers['x-request-id']}"
        no_ids: tuple[Any, ...] = ("a b", "", 7, None, [], True)
        for no_id in no_ids:
            odd = await ask(running.port, chat(stream=False, request_id=no_id))
            assert odd.status == 200
            assert odd.headers["x-request-id"] not in {str(no_id), "body"}


async def test_an_id_that_is_in_flight_gets_a_number_upstream(tmp_path: Path) -> None:
    together = asyncio.Barrier(3)

    async def meet(call: Call) -> None:
        await together.wait()
        await call.send(whole(b"200 OK", b'{"id": "c"}'))

    async with backends(meet) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        same = [ask(running.port, chat(stream=False), headers="x-request-id: same\r\n") for _ in range(3)]
        answers = await asyncio.gather(*same)
        assert {answer.headers["x-request-id"] for answer in answers} == {"same"}
        ids = {call.head.split(b"x-request-id: ")[1].split(b"\r\n")[0] for call in fake.calls}
        assert ids == {b"same", b"same-2", b"same-3"}
        await running.settled(3)
        assert not len(running.app.data.gateway.ids)


async def test_the_list_of_models_tells_how_long_a_prompt_may_be(tmp_path: Path) -> None:
    async with backends(engine("m"), engine("m")) as (known, unknown):
        known.max_model_len = 4096
        text = json.dumps({"models": {"m": {"backends": [known.url]}, "other": {"backends": [unknown.url]}}})
        async with gateway(tmp_path, text) as running:
            client = await connect(running.port)
            await client.send(b"GET /v1/models HTTP/1.1\r\nhost: g\r\n\r\n")
            cards = {card["id"]: card for card in (await client.answer("GET")).json["data"]}
            assert cards["m"]["max_model_len"] == 4096
            assert "max_model_len" not in cards["other"]
            client.close()


async def model(running: Running, key: str, name: str) -> tuple[int, Any]:
    """Ask for one model."""
    client = await connect(running.port)
    await client.send(f"GET /v1/models/{name} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n".encode())
    answer = await client.answer("GET")
    client.close()
    return answer.status, answer.json


async def test_a_key_is_told_only_of_the_models_that_it_may_use(tmp_path: Path) -> None:
    async with backends(engine("m")) as (fake,):
        models = {name: {"backends": [fake.url], "aliases": [f"{name}-alias"]} for name in ("m", "other")}
        tenants = {
            "all": {"key_sha256": sha256(b"sk-all").hexdigest()},
            "one": {"key_sha256": sha256(b"sk-one").hexdigest(), "models": ["other"]},
        }
        async with gateway(tmp_path, json.dumps({"models": models, "tenants": tenants})) as running:
            client = await connect(running.port)
            told = {}
            for name in ("sk-all", "sk-one"):
                await client.send(
                    f"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {name}\r\n\r\n".encode()
                )
                told[name] = [card["id"] for card in (await client.answer("GET")).json["data"]]
            client.close()
            seen = {name: [await model(running, key, name) for key in told] for name in ("m", "m-alias", "mm", "other")}
            sent = await ask(running.port, chat(model="oher"), headers="authorization: Bearer sk-all\r\n")
            assert sent.json == (await model(running, "sk-all", "oher"))[1]
            assert [status for status, _ in seen["other"]] == [200, 200]
            for hidden in ("m", "m-alias", "mm"):
                status, error = seen[hidden][1]
                said = f"the model `{hidden}` does not exist" + "; did you mean `other-alias`?" * (hidden == "m-alias")
                words = {"message": said, "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
                assert (status, error) == (404, {"error": words}), "as a model that does not exist"
            assert seen["m"][0][0] == seen["m-alias"][0][0] == 200
            assert seen["mm"][0][1]["error"]["message"].startswith("the model `mm` does not exist; did you mean `m`")
            posted = await ask(running.port, chat(model="mm"), headers="authorization: Bearer sk-one\r\n")
            assert (posted.status, posted.json) == seen["mm"][1], "no hint names a model that the key may not use"
            posted = await ask(running.port, chat(model="m-alias"), headers="authorization: Bearer sk-one\r\n")
            assert posted.json["error"]["message"] == "this key may not use the model `m-alias`", (
                "nor whose alias it is"
            )
            assert sorted(told["sk-all"]) == ["m", "m-alias", "other", "other-alias"]
            assert sorted(told["sk-one"]) == ["other", "other-alias"]
