"""How answers flow: batching, hang-ups, slow readers, what a body can ask for."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from gateway.sim.profiles import GPU
from tests.sim.captured import events
from tests.sim.conftest import SMALL, Serve
from tests.sim.test_faults import calls_are, until
from tests.waiting import DEADLINE

CHAT = "/v1/chat/completions"

pytestmark = pytest.mark.anyio


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20, **fields}


def raw(path: str, body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def content(body: bytes) -> str:
    choices = [event["choices"] for event in events(body)[:-1]]
    return "".join(choice[0]["delta"].get("content", "") for choice in choices if choice)


async def state(client: httpx.AsyncClient) -> dict[str, Any]:
    answer: dict[str, Any] = (await client.get("/sim/state")).json()
    return answer


@pytest.mark.parametrize("stream", [True, False])
async def test_a_hang_up_frees_the_engine(serve: Serve, stream: bool) -> None:
    async with serve(time_scale=1.0) as (sim, client):
        _, writer = await asyncio.open_connection("127.0.0.1", sim.port)
        writer.write(raw(CHAT, chat(max_tokens=1000, stream=stream)))

        async def running() -> bool:
            return bool((await state(client))["running"] == 1)

        await until(running)
        assert (await state(client))["kv_blocks_used"] > 0
        writer.close()
        await until(lambda: calls_are(client, 0))
        now = await state(client)
        assert (now["running"], now["kv_blocks_used"], now["aborted"]) == (0, 0, 1)


async def test_a_hang_up_takes_a_waiting_request_out_of_the_queue(serve: Serve) -> None:
    async with serve(time_scale=1.0, profile=replace(SMALL, max_num_seqs=1)) as (sim, client):
        first = asyncio.create_task(client.post(CHAT, json=chat(max_tokens=30)))
        await until(lambda: calls_are(client, 1))
        _, writer = await asyncio.open_connection("127.0.0.1", sim.port)
        writer.write(raw(CHAT, chat()))
        await until(lambda: calls_are(client, 2))
        assert (await state(client))["waiting"] == 1
        writer.close()
        await until(lambda: calls_are(client, 1))
        assert (await state(client))["waiting"] == 0
        assert (await first).status_code == 200


async def test_a_waiting_stream_has_its_head_and_comments_but_no_event(serve: Serve) -> None:
    settings = {"profile": replace(SMALL, max_num_seqs=1), "sse_keep_alive_interval": 0.01, "time_scale": 1.0}
    async with serve(**settings) as (_, client):
        first = asyncio.create_task(client.post(CHAT, json=chat(max_tokens=20)))
        await until(lambda: calls_are(client, 1))
        second = await client.post(CHAT, json=chat(stream=True, max_tokens=2))
        comments, _, rest = second.content.partition(b"data: ")
        assert comments == b": keep-alive\n\n" * (len(comments) // 14)
        assert len(comments) >= 2 * 14
        assert events(b"data: " + rest)[-1] == "[DONE]"
        assert (await first).status_code == 200


async def test_a_slow_reader_gets_everything_in_fewer_chunks(serve: Serve) -> None:
    body = {"model": "tiny", "prompt": "x", "n": 8, "max_tokens": 4000, "ignore_eos": True, "stream": True}
    async with serve(profile=GPU) as (sim, client):
        reader, writer = await asyncio.open_connection("127.0.0.1", sim.port, limit=1024)
        writer.write(raw("/v1/completions", body))

        async def generated() -> bool:
            return bool((await state(client))["generation_tokens"] == 8 * 4000)

        await until(generated)
        answer = b""
        while not answer.endswith(b"0\r\n\r\n"):
            answer += await reader.read(65536)
        writer.close()
        await writer.wait_closed()
    assert answer.count(b'"finish_reason":"length"') == 8
    assert answer.count(b"data: ") < 8 * 4000 * 0.8
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


async def test_one_seed_and_prompt_give_one_answer_whatever_else_happens(client: httpx.AsyncClient) -> None:
    async def said(**fields: Any) -> str:
        body = (await client.post(CHAT, json=chat(**fields))).json()
        return str(body["choices"][0]["message"]["content"])

    assert await said(seed=5) == await said(seed=5)
    assert await said(seed=5) != await said(seed=6)
    assert await said() != await said()


async def test_servers_with_one_seed_answer_alike(serve: Serve) -> None:
    async def first_answer(seed: int) -> str:
        async with serve(seed=seed) as (_, client):
            return content((await client.post(CHAT, json=chat(stream=True))).content)

    assert await first_answer(1) == await first_answer(1)
    assert await first_answer(1) != await first_answer(2)


async def test_a_stream_says_what_the_whole_answer_says(client: httpx.AsyncClient) -> None:
    whole = (await client.post(CHAT, json=chat(seed=1))).json()["choices"][0]["message"]["content"]
    assert content((await client.post(CHAT, json=chat(seed=1, stream=True))).content) == whole


@pytest.mark.parametrize(
    ("fields", "tokens", "finish"),
    [
        ({"sim": {"output_tokens": 7}}, 7, "stop"),
        ({"sim": {"output_tokens": 7}, "max_tokens": 5}, 5, "length"),
        ({"sim": {"output_tokens": 7}, "ignore_eos": True}, 20, "length"),
        ({"sim": {"output_tokens": 7}, "min_tokens": 12}, 12, "stop"),
        ({"max_tokens": None, "max_completion_tokens": 4}, 4, "length"),
        ({"sim": {"output_tokens": 3}, "max_tokens": None}, 3, "stop"),
    ],
)
async def test_how_long_an_answer_is(
    client: httpx.AsyncClient, fields: dict[str, Any], tokens: int, finish: str
) -> None:
    body = (await client.post(CHAT, json=chat(**fields))).json()
    assert body["usage"]["completion_tokens"] == tokens
    assert body["choices"][0]["finish_reason"] == finish


async def test_lengths_are_drawn_when_nothing_sets_them(serve: Serve) -> None:
    async with serve(output_tokens=None) as (_, client):
        body = chat(max_tokens=None)
        lengths = {(await client.post(CHAT, json=body)).json()["usage"]["completion_tokens"] for _ in range(5)}
        assert len(lengths) > 1


async def test_a_stop_string_is_reported_and_not_shown(client: httpx.AsyncClient) -> None:
    whole = (await client.post(CHAT, json=chat(seed=1))).json()["choices"][0]["message"]["content"]
    stop = whole.split()[5]
    choice = (await client.post(CHAT, json=chat(seed=1, stop=[stop]))).json()["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)
    assert whole.startswith(choice["message"]["content"])
    assert stop not in choice["message"]["content"]


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
async def test_thoughts_have_a_field_of_their_own(serve: Serve, field: str) -> None:
    async with serve(reasoning=True, reasoning_field=field) as (_, client):
        answer = await client.post(CHAT, json=chat(stream=True, sim={"reasoning_tokens": 5}))
        deltas = [event["choices"][0]["delta"] for event in events(answer.content)[:-1]]
        thoughts = [index for index, delta in enumerate(deltas) if field in delta]
        assert thoughts
        assert thoughts == list(range(1, len(thoughts) + 1))
        whole = (await client.post(CHAT, json=chat())).json()["choices"][0]["message"]
        assert whole[field]
        assert whole["content"]
        plain = await client.post(CHAT, json=chat(reasoning_effort="none"))
        assert plain.json()["choices"][0]["message"][field] is None


@pytest.mark.parametrize(
    ("fields", "called"),
    [
        ({"tool_choice": "required"}, True),
        ({"tool_choice": {"type": "function", "function": {"name": "look"}}}, True),
        ({"tool_choice": "none"}, False),
        ({"sim": {"tool_call": True}}, True),
        ({"sim": {"tool_call": False}}, False),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "tool", "content": "done"}]}, False),
    ],
)
async def test_when_a_tool_is_called(client: httpx.AsyncClient, fields: dict[str, Any], called: bool) -> None:
    parameters = {"type": "object", "properties": {"where": {"type": "string"}, "deep": {"type": "boolean"}}}
    tools = [{"type": "function", "function": {"name": "look", "parameters": parameters}}]
    choice = (await client.post(CHAT, json=chat(tools=tools, max_tokens=100, **fields))).json()["choices"][0]
    assert (choice["finish_reason"] == "tool_calls") is called
    if called:
        function = choice["message"]["tool_calls"][0]["function"]
        assert function["name"] == "look"
        assert set(json.loads(function["arguments"])) == {"where", "deep"}


async def test_auto_calls_a_tool_now_and_then(client: httpx.AsyncClient) -> None:
    tools = [{"type": "function", "function": {"name": "look"}}]
    body = chat(tools=tools, max_tokens=100)
    finishes = [(await client.post(CHAT, json=body)).json()["choices"][0]["finish_reason"] for _ in range(20)]
    assert set(finishes) == {"tool_calls", "length"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 10_000}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"max_tokens": 2048}, "input_tokens"),
        ({"tools": [{"function": {"name": "a"}}], "tool_choice": {"function": {"name": "b"}}}, "tool_choice"),
    ],
)
async def test_impossible_wishes(client: httpx.AsyncClient, fields: dict[str, Any], param: str) -> None:
    answer = await client.post(CHAT, json=chat(**fields))
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "BadRequestError", param)


async def test_a_repeated_conversation_comes_from_the_prefix_cache(serve: Serve) -> None:
    async with serve(prompt_tokens_details=True) as (_, client):
        body = chat(messages=[{"role": "user", "content": "tide " * 100}])
        cached = [
            (await client.post(CHAT, json=body)).json()["usage"]["prompt_tokens_details"]["cached_tokens"]
            for _ in range(2)
        ]
        assert cached[0] == 0
        assert cached[1] > 100


async def test_many_prompts_give_as_many_choices(client: httpx.AsyncClient) -> None:
    body = {"model": "tiny", "prompt": ["one", "two"], "n": 2, "max_tokens": 3, "echo": True}
    answer = (await client.post("/v1/completions", json=body)).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert [choice["text"][:3] for choice in answer["choices"]] == ["one", "one", "two", "two"]
    assert answer["usage"]["completion_tokens"] == 12


async def test_text_completions_have_16_tokens_unless_told_otherwise(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/completions", json={"model": "tiny", "prompt": "x"})
    assert answer.json()["usage"]["completion_tokens"] == 16


async def test_aliases_are_served_and_reported_back(serve: Serve) -> None:
    async with serve(models=("tiny", "small")) as (_, client):
        assert (await client.post(CHAT, json=chat(model="small"))).json()["model"] == "small"
        assert [card["id"] for card in (await client.get("/v1/models")).json()["data"]] == ["tiny", "small"]
        message = (await client.post(CHAT, json=chat(model="big"))).json()["error"]["message"]
        assert message == "The model `big` does not exist. Valid aliases: tiny, small."


async def test_two_requests_on_one_connection_are_answered_in_order(serve: Serve) -> None:
    async with serve() as (sim, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
        writer.write(raw(CHAT, chat(stream=True)) + raw(CHAT, chat()))
        async with asyncio.timeout(DEADLINE):
            streamed = await reader.readuntil(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            whole = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    assert streamed.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-type: application/json" in whole
