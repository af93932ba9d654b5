"""The endpoints of models that do not write: embeddings, pooling, classification, scores, reranking."""

import base64
import random
import struct
import time
from collections.abc import Sequence as Items
from typing import Any

from fastapi import Request, Response

from gateway.sim.answers import Answer, Choice, encode
from gateway.sim.delivery import Delivery, deliver_whole
from gateway.sim.door import Door, context_length_error
from gateway.sim.engine import Sequence
from gateway.sim.errors import ApiError
from gateway.sim.generation import new_id
from gateway.sim.prompts import Prompt, text_prompts
from gateway.sim.requests import Body, EmbeddingBody, PoolingBody, RerankBody, ScoreBody
from gateway.sim.simulation import Simulation
from gateway.sim.text import Channel, Script, prefix_hashes

_DIMENSIONS = 384
_CLASSES = ("negative", "positive")


class Pooling:
    """Endpoints whose answer is ready once the prompts have been prefilled. Equal inputs get equal numbers."""

    def __init__(self, simulation: Simulation, door: Door) -> None:
        self._simulation = simulation
        self._door = door

    async def embeddings(self, request: Request) -> Response:
        """POST /v1/embeddings."""
        body = await self._door.read(request, EmbeddingBody)
        prompts = text_prompts(body.input)
        await self._prefill(request, body, prompts)
        size = body.dimensions or _DIMENSIONS
        vectors = [_unit_vector(self._chance(prompt), size) for prompt in prompts]
        items = [
            {"index": index, "object": "embedding", "embedding": _packed(vector) if body.packed else vector}
            for index, vector in enumerate(vectors)
        ]
        return _json(self._listing("embd", body, items, prompts))

    async def pooling(self, request: Request) -> Response:
        """POST /pooling: one vector for each token."""
        body = await self._door.read(request, PoolingBody)
        prompts = text_prompts(body.input)
        await self._prefill(request, body, prompts)
        items = []
        for index, prompt in enumerate(prompts):
            chance = self._chance(prompt)
            rows = [_unit_vector(chance, _DIMENSIONS) for _ in range(prompt.tokens)]
            items.append({"index": index, "object": "pooling", "data": rows})
        return _json(self._listing("pool", body, items, prompts))

    async def classify(self, request: Request) -> Response:
        """POST /classify."""
        body = await self._door.read(request, PoolingBody)
        prompts = text_prompts(body.input)
        await self._prefill(request, body, prompts)
        items = []
        for index, prompt in enumerate(prompts):
            positive = self._chance(prompt).random()
            probabilities = [1 - positive, positive]
            label = _CLASSES[positive > 0.5]
            items.append({"index": index, "label": label, "probs": probabilities, "num_classes": len(_CLASSES)})
        return _json(self._listing("classify", body, items, prompts))

    async def score(self, request: Request) -> Response:
        """POST /score and /v1/score: one text against many, or pairs."""
        body = await self._door.read(request, ScoreBody)
        pairs = _pairs(_texts(body.text_1, body.queries), _texts(body.text_2, body.documents))
        prompts = [_joined(left, right) for left, right in pairs]
        await self._prefill(request, body, prompts)
        items = [
            {"index": index, "object": "score", "score": self._chance(prompt).random()}
            for index, prompt in enumerate(prompts)
        ]
        return _json(self._listing("score", body, items, prompts))

    async def rerank(self, request: Request) -> Response:
        """POST /rerank, /v1/rerank and /v2/rerank: documents by relevance, best first."""
        body = await self._door.read(request, RerankBody)
        prompts = [_joined(body.query, document) for document in body.documents]
        await self._prefill(request, body, prompts)
        results = [
            {
                "index": index,
                "document": {"text": body.documents[index], "multi_modal": None},
                "relevance_score": self._chance(prompt).random(),
            }
            for index, prompt in enumerate(prompts)
        ]
        results.sort(key=lambda result: -float(str(result["relevance_score"])))
        total = sum(prompt.tokens for prompt in prompts)
        return _json(
            {
                "id": f"rerank-{new_id()}",
                "model": self._name(body),
                "usage": {"prompt_tokens": total, "total_tokens": total},
                "results": results[: body.top_n or len(results)],
            }
        )

    async def _prefill(self, request: Request, body: Body, prompts: list[Prompt]) -> None:
        """Have the engine read the prompts; ApiError 400 when there are none, or one is too long."""
        settings = self._simulation.settings
        if not prompts:
            raise ApiError(400, "At least one input is needed.", param="input")
        if max(prompt.tokens for prompt in prompts) > settings.profile.max_model_len:
            raise context_length_error(settings.profile.max_model_len)
        self._simulation.check_queue()
        script = Script([(Channel.CONTENT, "")], "stop")
        arrived = self._simulation.runner.clock()
        choices = [
            Choice(
                index,
                script,
                Sequence(
                    prompt.tokens,
                    output_tokens=1,
                    arrived=arrived,
                    prefix=prefix_hashes(prompt.data, settings.profile.block_size),
                    finish_reason="stop",
                ),
            )
            for index, prompt in enumerate(prompts)
        ]
        answer = Answer(new_id(), int(time.time()), self._name(body), self._simulation.fingerprint, 0, choices)
        await deliver_whole(Delivery(answer, self._simulation, body.sim), request)

    def _chance(self, prompt: Prompt) -> random.Random:
        return random.Random(f"{self._simulation.settings.seed} {prompt.data!r}")

    def _name(self, body: Body) -> str:
        return body.model or self._simulation.settings.models[0]

    def _listing(self, kind: str, body: Body, items: Items[object], prompts: list[Prompt]) -> dict[str, Any]:
        total = sum(prompt.tokens for prompt in prompts)
        return {
            "id": f"{kind}-{new_id()}",
            "object": "list",
            "created": int(time.time()),
            "model": self._name(body),
            "data": items,
            "usage": {
                "prompt_tokens": total,
                "total_tokens": total,
                "completion_tokens": 0,
                "prompt_tokens_details": None,
            },
        }


def _unit_vector(chance: random.Random, size: int) -> list[float]:
    raw = [chance.gauss(0, 1) for _ in range(size)]
    length = sum(value * value for value in raw) ** 0.5
    return [value / length for value in raw]


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _texts(*given: str | list[str] | None) -> list[str]:
    for texts in given:
        if texts is not None:
            return [texts] if isinstance(texts, str) else texts
    raise ApiError(400, "Both sides of the score are needed: text_1 and text_2, or queries and documents.")


def _pairs(left: list[str], right: list[str]) -> list[tuple[str, str]]:
    if len(left) == 1:
        left = left * len(right)
    if len(left) != len(right):
        raise ApiError(400, "Input lengths must be either 1:1, 1:N or N:N")
    return list(zip(left, right, strict=True))


def _joined(query: str, document: str) -> Prompt:
    return Prompt(f"{query}\0{document}".encode())


def _json(document: object) -> Response:
    return Response(encode(document), media_type="application/json")
