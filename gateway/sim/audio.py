"""POST /v1/audio/transcriptions and /v1/audio/translations: a multipart file in, text out."""

import math
import time
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from starlette.datastructures import FormData, UploadFile

from gateway.sim.answers import Answer, Choice, encode
from gateway.sim.chat import DONE
from gateway.sim.connection import Connection
from gateway.sim.delivery import Delivery, EventStream, deliver_whole
from gateway.sim.door import Door
from gateway.sim.engine import Sequence
from gateway.sim.errors import ApiError, validation_error
from gateway.sim.generation import new_id
from gateway.sim.requests import Steering
from gateway.sim.simulation import Simulation
from gateway.sim.text import Channel, Piece, Wish, compose

_BYTES_PER_SECOND = 32_000
"""Of speech as 16-bit mono WAV at 16 kHz; other formats are taken for it."""
_PROMPT_TOKENS_PER_SECOND = 50
_SPOKEN_TOKENS_PER_SECOND = 3


@dataclass(frozen=True, slots=True)
class _Task:
    name: str
    prefix: str


_TRANSCRIPTION = _Task("transcription", "trsc")
_TRANSLATION = _Task("translation", "trsl")


class Audio:
    """Endpoints that take speech."""

    def __init__(self, simulation: Simulation, door: Door) -> None:
        self._simulation = simulation
        self._door = door

    async def transcriptions(self, request: Request) -> Response:
        """POST /v1/audio/transcriptions."""
        return await self._listen(request, _TRANSCRIPTION)

    async def translations(self, request: Request) -> Response:
        """POST /v1/audio/translations."""
        return await self._listen(request, _TRANSLATION)

    async def _listen(self, request: Request, task: _Task) -> Response:
        async with request.form() as form:
            seconds = math.ceil(await _size(form) / _BYTES_PER_SECOND)
            model, stream = _text(form, "model"), _text(form, "stream").lower() in ("true", "1")
            plain = _text(form, "response_format") == "text"
        self._door.check_model(model or None)
        self._simulation.check_up()
        self._simulation.check_queue()
        answer = self._draft(model, seconds)
        delivery = Delivery(answer, self._simulation, Steering())
        if stream:
            return EventStream(delivery, AudioDialect(answer, task.name, task.prefix), Connection.of(request))
        await deliver_whole(delivery, request)
        text = answer.choices[0].said(Channel.CONTENT)
        if plain:
            return Response(text, media_type="text/plain")
        document = {"text": text, "usage": {"type": "duration", "seconds": seconds}}
        return Response(encode(document), media_type="application/json")

    def _draft(self, model: str, seconds: int) -> Answer:
        simulation = self._simulation
        most = simulation.settings.profile.max_model_len
        prompt_tokens = min(max(1, seconds * _PROMPT_TOKENS_PER_SECOND), most - 1)
        natural = max(2, seconds * _SPOKEN_TOKENS_PER_SECOND)
        script = compose(Wish(limit=most - prompt_tokens, natural=natural), simulation.rng)
        finish = "length" if script.finish == "length" else "stop"
        sequence = Sequence(prompt_tokens, len(script.pieces), simulation.runner.clock(), finish_reason=finish)
        name = model or simulation.settings.models[0]
        choice = Choice(0, script, sequence)
        return Answer(new_id(), int(time.time()), name, simulation.fingerprint, prompt_tokens, [choice])


class AudioDialect:
    """A streamed transcription or translation."""

    def __init__(self, answer: Answer, name: str, prefix: str) -> None:
        self._head = b'data: {"id":%b,"object":%b,"created":%d,"model":%b,"choices":[' % (
            encode(f"{prefix}-{answer.id}"),
            encode(f"{name}.chunk"),
            answer.created,
            encode(answer.model),
        )
        self._answer = answer

    def preamble(self) -> bytes:
        """Return nothing."""
        return b""

    def opening(self) -> bytes:
        """Return nothing."""
        return b""

    def delta(self, choice: Choice, channel: Channel, text: str) -> bytes:
        """Return one chunk."""
        return b'%b{"delta":{"content":%b},"finish_reason":null,"stop_reason":null}]}\n\n' % (self._head, encode(text))

    def ending(self, choice: Choice, last: Piece | None) -> bytes:
        """Return the chunk with the finish reason."""
        content = encode(last[1] if last else "")
        finish = encode(choice.script.finish)
        return b'%b{"delta":{"content":%b},"finish_reason":%b,"stop_reason":null}]}\n\n' % (self._head, content, finish)

    def closing(self) -> bytes:
        """Return the terminator."""
        return DONE

    def whole(self) -> dict[str, Any]:
        """Return the text alone."""
        return {"text": self._answer.choices[0].said(Channel.CONTENT)}


async def _size(form: FormData) -> int:
    file = form.get("file")
    if not isinstance(file, UploadFile):
        problem = {"type": "missing", "loc": ("file",), "msg": "Field required", "input": None}
        raise validation_error([problem])
    size = len(await file.read())
    if not size:
        raise ApiError(400, "Invalid or unsupported audio file.", param="file")
    return size


def _text(form: FormData, name: str) -> str:
    value = form.get(name)
    return value if isinstance(value, str) else ""
