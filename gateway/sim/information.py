"""The endpoints that tell about the server, and the tokenizer."""

import time

from fastapi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from gateway.sim.answers import encode
from gateway.sim.door import Door
from gateway.sim.errors import ApiError
from gateway.sim.generation import new_id
from gateway.sim.prompts import chat_prompt, join_tokens, split_tokens
from gateway.sim.requests import DetokenizeBody, TokenizeBody
from gateway.sim.simulation import Simulation


class Information:
    """Models, health, load, metrics, tokens."""

    def __init__(self, simulation: Simulation, door: Door) -> None:
        self._simulation = simulation
        self._door = door

    async def models(self, request: Request) -> Response:
        """GET /v1/models: every name it serves, then its adapters."""
        created = int(time.time())
        settings = self._simulation.settings
        base, most = settings.models[0], settings.profile.max_model_len
        cards = [_card(name, created, root=base, parent=None, most=most) for name in settings.models]
        cards += [_card(name, created, root=name, parent=base, most=None) for name in settings.adapters]
        return _json({"object": "list", "data": cards})

    async def health(self, request: Request) -> Response:
        """GET /health: empty, 200 or 503."""
        return Response(status_code=200 if self._simulation.board.ready else 503)

    async def version(self, request: Request) -> Response:
        """GET /version."""
        return _json({"version": self._simulation.settings.version})

    async def load(self, request: Request) -> Response:
        """GET /load: how many calls are being answered."""
        return _json({"server_load": self._simulation.calls})

    async def metrics(self, request: Request) -> Response:
        """GET /metrics."""
        return Response(self._simulation.recorder.exposition(), headers={"content-type": CONTENT_TYPE_LATEST})

    async def tokenize(self, request: Request) -> Response:
        """POST /tokenize."""
        body = await self._door.read(request, TokenizeBody)
        if body.messages is not None:
            data = chat_prompt(body.messages).data
        elif body.prompt is not None:
            data = body.prompt.encode()
        else:
            raise ApiError(400, "Either prompt or messages must be given.", param="prompt")
        tokens = split_tokens(data)
        most = self._simulation.settings.profile.max_model_len
        return _json({"count": len(tokens), "max_model_len": most, "tokens": tokens, "token_strs": None})

    async def detokenize(self, request: Request) -> Response:
        """POST /detokenize."""
        body = await self._door.read(request, DetokenizeBody)
        return _json({"prompt": join_tokens(body.tokens).rstrip(b"\0").decode(errors="replace")})


def _card(name: str, created: int, *, root: str, parent: str | None, most: int | None) -> dict[str, object]:
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "vllm",
        "root": root,
        "parent": parent,
        "max_model_len": most,
        "permission": [_permission(created)],
    }


def _permission(created: int) -> dict[str, object]:
    return {
        "id": f"modelperm-{new_id()}",
        "object": "model_permission",
        "created": created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }


def _json(document: object) -> Response:
    return Response(encode(document), media_type="application/json")
