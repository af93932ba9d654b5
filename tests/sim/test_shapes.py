"""Answers are made of the same keys and kinds of values as those of a real vLLM."""

import json
from typing import Any

import httpx
import pytest

from tests.sim.captured import captured, event_names, events, shape
from tests.sim.conftest import Serve

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Say something short."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
USAGE = {"stream": True, "stream_options": {"include_usage": True}}
NOT_OURS = {"date", "content-length", "vary"}

pytestmark = pytest.mark.anyio


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": HELLO, "max_tokens": 8, **fields}


def streamed(**fields: Any) -> dict[str, Any]:
    return chat(**USAGE, **fields)


def kinds_of_events(body: bytes) -> list[Any]:
    """The shapes that occur in a stream, in order of their first occurrence."""
    kinds: list[Any] = []
    for event in events(body):
        kind = event if event == "[DONE]" else shape(event)
        if kind not in kinds:
            kinds.append(kind)
    return kinds


def same_head(answer: httpx.Response, name: str) -> None:
    expected = captured(name)
    assert answer.status_code == expected.status
    ours = {key: value for key, value in answer.headers.items() if key not in NOT_OURS}
    theirs = {key: value for key, value in expected.headers.items() if key not in NOT_OURS}
    assert ours == theirs


@pytest.mark.parametrize(
    ("name", "path", "body"),
    [
        ("chat_stream_nousage", CHAT, chat(stream=True)),
        ("chat_stream_usage", CHAT, streamed()),
        ("chat_n2_stream", CHAT, streamed(n=2)),
        (
            "chat_stream_continuous_usage",
            CHAT,
            chat(stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True}),
        ),
        ("completions_stream", "/v1/completions", {"model": "tiny", "prompt": "Once", "max_tokens": 5, **USAGE}),
        ("responses_stream", "/v1/responses", {"model": "tiny", "input": "Hi", "max_output_tokens": 8, "stream": True}),
        ("messages_stream", "/v1/messages", {"model": "tiny", "messages": HELLO, "max_tokens": 8, "stream": True}),
    ],
)
async def test_streams(client: httpx.AsyncClient, name: str, path: str, body: dict[str, Any]) -> None:
    answer = await client.post(path, json=body)
    same_head(answer, f"vllm/{name}")
    expected = captured(f"vllm/{name}").body
    assert kinds_of_events(answer.content) == kinds_of_events(expected)
    assert list(dict.fromkeys(event_names(answer.content))) == list(dict.fromkeys(event_names(expected)))


async def test_a_tool_call_in_a_stream(client: httpx.AsyncClient) -> None:
    choice = {"type": "function", "function": {"name": "get_weather"}}
    answer = await client.post(CHAT, json=streamed(tools=[WEATHER], tool_choice=choice, max_tokens=3))
    kinds = kinds_of_events(captured("vllm/chat_tools_named_stream").body)
    assert kinds_of_events(answer.content) == kinds


@pytest.mark.parametrize(
    ("name", "path", "body"),
    [
        ("chat_nonstream", CHAT, chat()),
        ("err_unknown_param_ok", CHAT, chat(no_such_thing=1)),
        ("responses_nonstream", "/v1/responses", {"model": "tiny", "input": "Hi", "max_output_tokens": 16}),
        ("tokenize", "/tokenize", {"model": "tiny", "prompt": "Hello"}),
    ],
)
async def test_whole_answers(client: httpx.AsyncClient, name: str, path: str, body: dict[str, Any]) -> None:
    answer = await client.post(path, json=body)
    same_head(answer, f"vllm/{name}")
    assert shape(answer.json()) == shape(captured(f"vllm/{name}").json)


@pytest.mark.parametrize(("name", "path"), [("models", "/v1/models"), ("version", "/version"), ("load", "/load")])
async def test_information(client: httpx.AsyncClient, name: str, path: str) -> None:
    answer = await client.get(path)
    same_head(answer, f"vllm/{name}")
    assert shape(answer.json()) == shape(captured(f"vllm/{name}").json)


async def test_health_is_empty(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health")
    same_head(answer, "vllm/health")
    assert answer.content == b""


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("err_bad_model", chat(model="nope")),
        ("err_bad_model_stream", chat(model="nope", stream=True)),
        ("err_context_length", chat(messages=[{"role": "user", "content": "word " * 4000}])),
        ("err_context_length_stream", chat(messages=[{"role": "user", "content": "word " * 4000}], stream=True)),
        ("err_max_tokens_too_big", chat(max_tokens=999999)),
        ("err_missing_messages", {"model": "tiny"}),
        ("err_temperature", chat(temperature=-3)),
        ("err_wrong_type", chat(max_tokens="lots")),
    ],
)
async def test_errors_word_for_word(client: httpx.AsyncClient, name: str, body: dict[str, Any]) -> None:
    answer = await client.post(CHAT, json=body)
    same_head(answer, f"vllm/{name}")
    assert answer.json() == captured(f"vllm/{name}").json


async def test_bad_json(client: httpx.AsyncClient) -> None:
    answer = await client.post(CHAT, content=b'{"model": "ti",', headers={"content-type": "application/json"})
    same_head(answer, "vllm/err_bad_json")
    assert answer.json() == captured("vllm/err_bad_json").json


async def test_a_body_without_its_media_type(client: httpx.AsyncClient) -> None:
    answer = await client.post(CHAT, content=json.dumps(chat()))
    same_head(answer, "vllm/err_no_content_type")
    assert answer.json() == captured("vllm/err_no_content_type").json


async def test_an_unknown_path(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/models/tiny")
    same_head(answer, "vllm/model_one")
    assert answer.json() == captured("vllm/model_one").json


async def test_a_wrong_method(client: httpx.AsyncClient) -> None:
    answer = await client.get(CHAT)
    same_head(answer, "vllm/err_405")
    assert answer.json() == captured("vllm/err_405").json


async def test_a_missing_key(serve: Serve) -> None:
    async with serve(api_keys=("secret",), request_id_headers=True) as (_, client):
        answer = await client.post(CHAT, json=chat())
        assert (answer.status_code, answer.json()) == (401, captured("vllm-opts/err_401").json)
        assert len(answer.headers["x-request-id"]) == 32
        assert (await client.get("/v1/models")).json() == captured("vllm-opts/models_401").json
        assert (await client.get("/health")).status_code == 200
        known = await client.post(CHAT, json=chat(), headers={"authorization": "Bearer secret"})
        assert known.status_code == 200


async def test_the_request_id_becomes_the_answers_id(serve: Serve) -> None:
    async with serve(request_id_headers=True, prompt_tokens_details=True) as (_, client):
        headers = {"x-request-id": "gw-778"}
        stream = await client.post(CHAT, json=streamed(sim={"output_tokens": 3}), headers=headers)
        expected = captured("vllm-opts/chat_stream_reqid")
        assert stream.headers["x-request-id"] == expected.headers["x-request-id"]
        assert {event["id"] for event in events(stream.content)[:-1]} == {"chatcmpl-gw-778"}
        usage = shape(expected.events[-2]["usage"])
        assert shape(events(stream.content)[-2]["usage"]) == usage
        finish = expected.events[-3]
        assert shape(events(stream.content)[-3]["choices"][0]["delta"]) == finish["choices"][0]["delta"] == {}


async def test_the_load_report_in_a_header(serve: Serve) -> None:
    async with serve(request_id_headers=True, prompt_tokens_details=True) as (_, client):
        headers = {"endpoint-load-metrics-format": "JSON", "x-request-id": "gw-777"}
        answer = await client.post(CHAT, json=chat(), headers=headers)
        expected = captured("vllm-opts/chat_nonstream_reqid_orca")
        assert answer.headers["endpoint-load-metrics"] == expected.headers["endpoint-load-metrics"]
        assert shape(answer.json()["usage"]) == shape(expected.json["usage"])
        text = await client.post(CHAT, json=chat(), headers={"endpoint-load-metrics-format": "TEXT"})
        report = "TEXT named_metrics.num_requests_waiting=0.0, named_metrics.kv_cache_usage_perc=0.0"
        assert text.headers["endpoint-load-metrics"] == report
        assert "endpoint-load-metrics" not in (await client.post(CHAT, json=chat())).headers


async def test_a_full_queue(serve: Serve) -> None:
    async with serve(max_num_queued_reqs=0) as (_, client):
        for body, name in ((chat(), "err_503_overload"), (chat(stream=True), "err_503_overload_stream")):
            answer = await client.post(CHAT, json=body)
            assert (answer.status_code, answer.json()) == (503, captured(f"vllm-opts/{name}").json)
            assert "retry-after" not in answer.headers
        assert (await client.get("/health")).status_code == 200


async def test_structured_output(client: httpx.AsyncClient) -> None:
    schema = {"type": "object", "properties": {"city": {"enum": ["Oslo"]}}}
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}
    answer = await client.post(CHAT, json=chat(response_format=form, max_tokens=50))
    expected = captured("vllm-opts/json_schema").json["choices"][0]
    choice = answer.json()["choices"][0]
    assert json.loads(choice["message"]["content"]) == json.loads(expected["message"]["content"])
    assert choice["finish_reason"] == expected["finish_reason"] == "stop"
