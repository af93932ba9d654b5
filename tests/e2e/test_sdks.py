"""The OpenAI and Anthropic SDKs as people use them: only `base_url` is set."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import anthropic
import openai
import pytest
from anthropic.types import MessageParam
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionStreamOptionsParam, ChatCompletionToolParam

from tests.e2e.processes import engine, serving

pytestmark = pytest.mark.anyio
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Tell me of the tide."}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """A gateway in front of two fast engines."""
    async with engine("--time-scale", "0.05") as one, engine("--time-scale", "0.05", "--seed", "1") as two:
        async with serving(tmp_path, [one.urls[0], two.urls[0]]) as gateway:
            yield gateway.urls[0]


async def test_openai_async(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused") as client:
        whole = await client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=8)
        assert whole.choices[0].message.content
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=8, stream=True)
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert chunks[-1].choices[0].finish_reason
        assert all(chunk.usage is None for chunk in chunks)
        options: ChatCompletionStreamOptionsParam = {"include_usage": True}
        asked = await client.chat.completions.create(
            model="m", messages=MESSAGES, max_tokens=8, stream=True, stream_options=options, n=2
        )
        last = [chunk async for chunk in asked][-1]
        assert last.usage is not None
        assert last.usage.completion_tokens > 0
        completion = await client.completions.create(model="m", prompt="The sea", max_tokens=5)
        assert completion.choices[0].text
        embedding = await client.embeddings.create(model="m", input=["a", "b"])
        assert len(embedding.data) == 2
        assert [model.id async for model in client.models.list()] == ["m"]
        assert (await client.models.retrieve("m")).id == "m"


async def test_openai_tools_and_responses(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused") as client:
        called = await client.chat.completions.create(
            model="m", messages=MESSAGES, tools=[WEATHER], tool_choice="required", max_tokens=64
        )
        assert called.choices[0].message.tool_calls
        stream = await client.chat.completions.create(
            model="m", messages=MESSAGES, tools=[WEATHER], tool_choice="required", max_tokens=64, stream=True
        )
        names = [
            call.function.name
            async for chunk in stream
            for choice in chunk.choices
            for call in choice.delta.tool_calls or []
            if call.function and call.function.name
        ]
        assert names == ["get_weather"]
        response = await client.responses.create(model="m", input="Hello", max_output_tokens=8)
        assert response.output_text
        events = [
            event.type
            async for event in await client.responses.create(model="m", input="Hello", max_output_tokens=8, stream=True)
        ]
        assert "response.output_text.delta" in events
        assert events[0] == "response.created"
        assert events[-1] in {"response.completed", "response.incomplete"}


async def test_openai_sync_and_its_errors(url: str) -> None:
    def use() -> None:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
            for _ in range(3):
                text = client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=4)
                assert text.usage is not None
            parts = client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=4, stream=True)
            assert sum(1 for _ in parts) >= 4
            audio = client.audio.transcriptions.create(model="m", file=("a.wav", b"RIFF0000WAVE"))
            assert audio.text
            raw = client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES, max_tokens=2)
            assert raw.headers["x-gateway-version"] == "default"
            with pytest.raises(openai.NotFoundError) as missing:
                client.chat.completions.create(model="nope", messages=MESSAGES)
            assert missing.value.code == "model_not_found"
            assert missing.value.request_id
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=10**6)
            broken = {"sim": {"cut_after": 3}}
            with pytest.raises(openai.APIError, match="failed while it was answering"):
                for _ in client.chat.completions.create(
                    model="m", messages=MESSAGES, max_tokens=50, stream=True, extra_body=broken
                ):
                    pass

    await asyncio.to_thread(use)


async def test_anthropic(url: str) -> None:
    messages: list[MessageParam] = [{"role": "user", "content": "Tell me of the tide."}]
    async with anthropic.AsyncAnthropic(base_url=url, api_key="unused", max_retries=0) as client:
        message = await client.messages.create(model="m", messages=messages, max_tokens=8)
        assert message.content
        async with client.messages.stream(model="m", messages=messages, max_tokens=8) as stream:
            assert [text async for text in stream.text_stream]
        assert (await stream.get_final_message()).usage.output_tokens > 0
