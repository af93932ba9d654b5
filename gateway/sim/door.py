"""What happens to a call before it reaches the engine: authentication, headers, body, model and parameter checks."""

import json
import uuid
from typing import TypeVar

import msgspec
from fastapi import Request
from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.sim.errors import ApiError, refused_value, validation_error
from gateway.sim.requests import Body, Sampling
from gateway.sim.settings import Settings
from gateway.sim.simulation import Simulation

BodyT = TypeVar("BodyT", bound=Body)
_WRONG_MEDIA_TYPE = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
_MOST_CHOICES = 64
_UNAUTHORIZED = b'{"error":"Unauthorized"}'


class Gate:
    """ASGI middleware: 401 under /v1 without a known key, and the headers that vLLM puts on every answer."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._tells_ids = settings.request_id_headers
        self._keys = frozenset(f"Bearer {key}".encode() for key in settings.api_keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on, or turn it away."""
        given = dict(scope["headers"])
        headers = []
        if self._tells_ids:
            headers.append((b"x-request-id", given.get(b"x-request-id") or uuid.uuid4().hex.encode()))
        guarded = self._keys and scope["path"].startswith("/v1") and scope["method"] != "OPTIONS"
        if guarded and given.get(b"authorization") not in self._keys:
            headers.append((b"content-type", b"application/json"))
            headers.append((b"content-length", b"%d" % len(_UNAUTHORIZED)))
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": _UNAUTHORIZED})
            return
        headers.append((b"vary", b"Origin"))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Door:
    """Reads and checks bodies as vLLM does, in vLLM's order."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._models = (*simulation.settings.models, *simulation.settings.adapters)

    async def read(self, request: Request, kind: type[BodyT]) -> BodyT:
        """Return the parsed body. Raises ApiError if it is malformed or its model is not served."""
        data = await request.body()
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise ApiError(400, _WRONG_MEDIA_TYPE, kind="Bad Request")
        body = parse(data, kind)
        self.check_model(body.model)
        self._simulation.check_up()
        return body

    def check_model(self, name: str | None) -> None:
        """ApiError 404 unless the model is served; no name at all means the first one."""
        if name is not None and name not in self._models:
            aliases = ", ".join(self._simulation.settings.models)
            raise ApiError(404, f"The model `{name}` does not exist. Valid aliases: {aliases}.", param="model")

    def limit(self, prompt_tokens: int, max_tokens: int | None, parameter: str = "max_tokens") -> int:
        """How many tokens the answer may have; ApiError 400 when prompt and answer do not fit into the context."""
        most = self._simulation.settings.profile.max_model_len
        if max_tokens is not None and max_tokens < 1:
            raise refused_value(f"{parameter} must be at least 1, got {max_tokens}.", parameter, max_tokens)
        if max_tokens is not None and max_tokens > most:
            message = (
                f"{parameter}={max_tokens} cannot be greater than max_model_len={most}. "
                "Please request fewer output tokens."
            )
            raise refused_value(message, parameter, max_tokens)
        if prompt_tokens >= most:
            raise context_length_error(most)
        room = most - prompt_tokens
        if max_tokens is None:
            return room
        if max_tokens > room:
            message = (
                f"This model's maximum context length is {most} tokens. However, you requested {max_tokens} output "
                f"tokens and your prompt contains at least {prompt_tokens} input tokens, for a total of at least "
                f"{prompt_tokens + max_tokens} tokens. Please reduce the length of the input prompt or the number of "
                "requested output tokens."
            )
            raise refused_value(message, "input_tokens", prompt_tokens)
        return max_tokens


def context_length_error(most: int) -> ApiError:
    """Return the error for a prompt that is too long by itself; vLLM stops counting one token past the limit."""
    message = (
        f"This model's maximum context length is {most} tokens. However, your prompt contains at least {most + 1} "
        "input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input "
        "prompt."
    )
    return refused_value(message, "input_tokens", most + 1)


def check_sampling(body: Sampling) -> None:
    """ApiError 400 for sampling parameters out of range."""
    if body.temperature is not None and body.temperature < 0:
        message = f"temperature must be non-negative, got {body.temperature}."
        raise refused_value(message, "temperature", body.temperature)
    if body.top_p is not None and not 0 < body.top_p <= 1:
        raise refused_value(f"top_p must be in (0, 1], got {body.top_p}.", "top_p", body.top_p)
    if body.n is not None and body.n < 1:
        raise refused_value(f"n must be at least 1, got {body.n}.", "n", body.n)
    if body.n is not None and body.n > _MOST_CHOICES:
        raise refused_value(f"n must be at most {_MOST_CHOICES}, got {body.n}.", "n", body.n)
    if body.stream_options is not None and not body.stream:
        raise ApiError(400, "Stream options can only be defined when `stream=True`.", param="stream_options")


def parse(data: bytes, kind: type[BodyT]) -> BodyT:
    """Parse a body. Raises ApiError 400 with vLLM's message if it is not JSON or does not fit the schema."""
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _bad_json(data) from None
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise validation_error([dict(problem) for problem in error.errors()]) from None


def _bad_json(data: bytes) -> ApiError:
    try:
        json.loads(data)
    except json.JSONDecodeError as error:
        position, reason = error.pos, error.msg
    except UnicodeDecodeError as error:
        position, reason = error.start, "Invalid UTF-8"
    else:
        position, reason = 0, "Invalid JSON"
    problem = {
        "type": "json_invalid",
        "loc": (position,),
        "msg": "JSON decode error",
        "input": {},
        "ctx": {"error": reason},
    }
    return validation_error([problem])
