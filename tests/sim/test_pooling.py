"""Embeddings, scores and their kin, speech, tokens."""

import base64
import struct
from typing import Any

import httpx
import pytest

from tests.sim.captured import events, shape
from tests.sim.conftest import Serve

pytestmark = pytest.mark.anyio

USAGE = {
    "prompt_tokens": "number",
    "total_tokens": "number",
    "completion_tokens": "number",
    "prompt_tokens_details": None,
}


def listing(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "text",
        "object": "text",
        "created": "number",
        "model": "text",
        "data": [item],
        "usage": USAGE,
    }


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (
            "/v1/embeddings",
            {"input": "tide"},
            listing({"index": "number", "object": "text", "embedding": ["number"]}),
        ),
        ("/pooling", {"input": "tide"}, listing({"index": "number", "object": "text", "data": [["number"]]})),
        (
            "/classify",
            {"input": "tide"},
            listing({"index": "number", "label": "text", "probs": ["number"], "num_classes": "number"}),
        ),
        (
            "/score",
            {"text_1": "tide", "text_2": ["ebb", "flow"]},
            listing({"index": "number", "object": "text", "score": "number"}),
        ),
        (
            "/v1/score",
            {"queries": ["tide", "moon"], "documents": ["ebb", "flow"]},
            listing({"index": "number", "object": "text", "score": "number"}),
        ),
    ],
)
async def test_shapes(client: httpx.AsyncClient, path: str, body: dict[str, Any], expected: dict[str, Any]) -> None:
    answer = await client.post(path, json={"model": "tiny", **body})
    assert answer.status_code == 200
    assert shape(answer.json()) == expected


async def test_embeddings_depend_on_the_input_alone_and_have_length_one(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/embeddings", json={"input": ["a", "b", "a"], "dimensions": 8})
    first, second, third = (item["embedding"] for item in answer.json()["data"])
    assert first == third != second
    assert sum(number * number for number in first) == pytest.approx(1)
    packed = await client.post("/v1/embeddings", json={"input": "a", "dimensions": 8, "encoding_format": "base64"})
    raw = base64.b64decode(packed.json()["data"][0]["embedding"])
    assert list(struct.unpack("<8f", raw)) == pytest.approx(first)


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
async def test_documents_are_ranked_best_first(client: httpx.AsyncClient, path: str) -> None:
    documents = ["ebb", "flow", "moon"]
    body = (await client.post(path, json={"query": "tide", "documents": documents, "top_n": 2})).json()
    scores = [result["relevance_score"] for result in body["results"]]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 2
    assert all(result["document"]["text"] == documents[result["index"]] for result in body["results"])
    assert set(body) == {"id", "model", "usage", "results"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": []}),
        ("/v1/embeddings", {"input": "word " * 4000}),
        ("/score", {"text_1": "x"}),
        ("/score", {"text_1": ["a", "b"], "text_2": ["c", "d", "e"]}),
        ("/rerank", {"query": "x", "documents": []}),
        ("/tokenize", {"model": "tiny"}),
    ],
)
async def test_impossible_wishes(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    answer = await client.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "BadRequestError")


async def test_tokens_make_the_round_trip(client: httpx.AsyncClient) -> None:
    tokens = (await client.post("/tokenize", json={"prompt": "tide gate"})).json()["tokens"]
    assert (await client.post("/detokenize", json={"tokens": tokens})).json() == {"prompt": "tide gate"}
    conversation = [{"role": "user", "content": "tide gate"}]
    assert (await client.post("/tokenize", json={"messages": conversation})).json()["count"] > len(tokens)


class TestAudio:
    SPEECH = {"file": ("speech.wav", b"\0" * 96_000)}  # noqa: RUF012 - never changed

    @pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/audio/translations"])
    async def test_whole(self, client: httpx.AsyncClient, path: str) -> None:
        answer = await client.post(path, files=self.SPEECH, data={"model": "tiny"})
        body = answer.json()
        assert body["text"]
        assert body["usage"] == {"type": "duration", "seconds": 3}
        plain = await client.post(path, files=self.SPEECH, data={"response_format": "text"})
        assert plain.headers["content-type"].startswith("text/plain")

    async def test_streamed(self, client: httpx.AsyncClient) -> None:
        data = {"model": "tiny", "stream": "true"}
        answer = await client.post("/v1/audio/transcriptions", files=self.SPEECH, data=data)
        *chunks, done = events(answer.content)
        assert {chunk["object"] for chunk in chunks} == {"transcription.chunk"}
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-1] == "stop"
        assert done == "[DONE]"

    async def test_errors(self, client: httpx.AsyncClient) -> None:
        missing = await client.post("/v1/audio/transcriptions", data={"model": "tiny"})
        assert (missing.status_code, missing.json()["error"]["param"]) == (400, "body.file")
        unknown = await client.post("/v1/audio/transcriptions", files=self.SPEECH, data={"model": "nope"})
        assert unknown.status_code == 404


async def test_work_without_words_passes_through_the_engine(serve: Serve) -> None:
    async with serve() as (_, client):
        await client.post("/v1/embeddings", json={"input": ["a", "b"]})
        state = (await client.get("/sim/state")).json()
        assert (state["finished"], state["running"], state["calls"]) == (2, 0, 0)
