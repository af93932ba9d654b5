"""The clients that people use understand the simulated server."""

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from anthropic.types import ToolUseBlock

from tests.sim.process import started, url_in

WEATHER: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with started("--time-scale", "0", "--output-tokens", "40", "--model", "tiny") as (_, line):
        yield url_in(line)


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        yield client


class TestOpenAI:
    def test_chat(self, client: openai.OpenAI) -> None:
        answer = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "Hi"}])
        assert answer.choices[0].message.content
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 40

    def test_streamed_chat(self, client: openai.OpenAI) -> None:
        stream = client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "Hi"}],
            stream=True,
            stream_options={"include_usage": True},
            max_completion_tokens=10,
        )
        *chunks, last = list(stream)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert chunks[-1].choices[0].finish_reason == "length"
        assert last.usage is not None
        assert last.usage.completion_tokens == 10

    def test_tool_call(self, client: openai.OpenAI) -> None:
        with client.chat.completions.stream(
            model="tiny",
            messages=[{"role": "user", "content": "Weather?"}],
            tools=[{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}],
            tool_choice="required",
        ) as stream:
            answer = stream.get_final_completion()
        assert answer.choices[0].finish_reason == "tool_calls"
        calls = answer.choices[0].message.tool_calls
        assert calls is not None
        assert (calls[0].function.name, calls[0].function.arguments[:7]) == ("get_weather", '{"city"')

    def test_completion(self, client: openai.OpenAI) -> None:
        assert client.completions.create(model="tiny", prompt="Once").choices[0].text
        pieces = [
            chunk.choices[0].text for chunk in client.completions.create(model="tiny", prompt="Once", stream=True)
        ]
        assert "".join(pieces)

    def test_responses(self, client: openai.OpenAI) -> None:
        assert client.responses.create(model="tiny", input="Hi").output_text
        with client.responses.stream(model="tiny", input="Hi") as stream:
            kinds = [event.type for event in stream]
            assert stream.get_final_response().status == "completed"
        assert kinds[0] == "response.created"
        assert "response.output_text.delta" in kinds

    def test_embeddings(self, client: openai.OpenAI) -> None:
        assert len(client.embeddings.create(model="tiny", input="Hi").data[0].embedding) == 384

    def test_transcription(self, client: openai.OpenAI) -> None:
        assert client.audio.transcriptions.create(model="tiny", file=("a.wav", b"\0" * 64_000)).text

    def test_models(self, client: openai.OpenAI) -> None:
        assert [model.id for model in client.models.list()] == ["tiny"]

    def test_unknown_model(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match="The model `nope` does not exist"):
            client.chat.completions.create(model="nope", messages=[{"role": "user", "content": "Hi"}])

    @pytest.mark.anyio
    async def test_asynchronous(self, url: str) -> None:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
            stream = await client.chat.completions.create(
                model="tiny", messages=[{"role": "user", "content": "Hi"}], stream=True
            )
            assert len([chunk async for chunk in stream]) > 10


class TestAnthropic:
    @pytest.fixture
    def client(self, url: str) -> Iterator[anthropic.Anthropic]:
        with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0) as client:
            yield client

    def test_message(self, client: anthropic.Anthropic) -> None:
        answer = client.messages.create(model="tiny", max_tokens=10, messages=[{"role": "user", "content": "Hi"}])
        assert answer.content[0].type == "text"
        assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 10)

    def test_streamed_message(self, client: anthropic.Anthropic) -> None:
        with client.messages.stream(
            model="tiny", max_tokens=100, messages=[{"role": "user", "content": "Hi"}]
        ) as stream:
            text = "".join(stream.text_stream)
            answer = stream.get_final_message()
        assert text
        assert answer.stop_reason == "end_turn"

    @pytest.mark.parametrize("streamed", [True, False])
    def test_tool_call(self, client: anthropic.Anthropic, streamed: bool) -> None:
        wish: dict[str, Any] = {
            "model": "tiny",
            "max_tokens": 100,
            "messages": [{"role": "user", "content": "Weather?"}],
            "tools": [{"name": "get_weather", "input_schema": WEATHER}],
            "tool_choice": {"type": "any"},
        }
        if streamed:
            with client.messages.stream(**wish) as stream:
                answer = stream.get_final_message()
        else:
            answer = client.messages.create(**wish)
        block = answer.content[0]
        assert isinstance(block, ToolUseBlock)
        assert (block.name, list(block.input)) == ("get_weather", ["city"])
        assert answer.stop_reason == "tool_use"
