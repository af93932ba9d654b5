"""The endpoints that generate text: chat, completions, responses, messages."""

import json
import random
import time
import uuid
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response

from gateway.sim.answers import Answer, Choice, Dialect, encode
from gateway.sim.chat import ChatDialect
from gateway.sim.completions import CompletionDialect
from gateway.sim.connection import Connection
from gateway.sim.delivery import Delivery, EventStream, deliver_whole
from gateway.sim.door import Door, check_sampling
from gateway.sim.engine import Sequence
from gateway.sim.errors import ApiError
from gateway.sim.messages import MessagesDialect, anthropic_tools
from gateway.sim.prompts import Prompt, chat_prompt, text_prompts
from gateway.sim.requests import (
    ChatBody,
    CompletionBody,
    MessagesBody,
    NamedTool,
    ResponsesBody,
    Steering,
    StreamOptions,
)
from gateway.sim.responses import ResponsesDialect
from gateway.sim.simulation import Simulation
from gateway.sim.text import Script, Tool, Wish, compose, natural_length, prefix_hashes

_AUTO_TOOL_CALLS = 0.5
_ANY_OBJECT: dict[str, Any] = {"type": "object", "properties": {"answer": {"type": "string"}}}


@dataclass(frozen=True, slots=True)
class Job:
    """What an answer must be like; `limit` is the most tokens that each choice may have."""

    model: str | None
    prompts: list[Prompt]
    limit: int
    rng: random.Random
    steering: Steering
    n: int = 1
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    reasons: bool = False
    tool: Tool | None = None
    schema: dict[str, Any] | None = None


class Generation:
    """Endpoints whose answers come token by token."""

    def __init__(self, simulation: Simulation, door: Door) -> None:
        self._simulation = simulation
        self._door = door

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        body = await self._door.read(request, ChatBody)
        check_sampling(body)
        tools = [tool.model_dump(exclude_none=True) for tool in body.tools or ()]
        prompt = chat_prompt(body.messages, tools)
        rng = self._rng(body.seed, prompt)
        limit = self._door.limit(prompt.tokens, body.max_completion_tokens or body.max_tokens)
        job = Job(
            body.model,
            [prompt],
            limit,
            rng,
            body.sim,
            n=body.n or 1,
            min_tokens=body.min_tokens,
            ignore_eos=body.ignore_eos,
            stop=body.stops,
            reasons=self._reasons(body),
            tool=_chosen_tool(body, rng),
            schema=_schema(body),
        )
        answer = self._draft(request, job)
        options = body.stream_options or StreamOptions()
        dialect = ChatDialect(
            answer,
            include_usage=bool(options.include_usage),
            continuous_usage=bool(options.continuous_usage_stats),
            reasoning_field=self._simulation.settings.reasoning_field,
            tool_ids=[f"chatcmpl-tool-{new_id()}" for _ in answer.choices],
        )
        return await self._answer(request, answer, dialect, body.sim, stream=bool(body.stream))

    async def completions(self, request: Request) -> Response:
        """POST /v1/completions."""
        body = await self._door.read(request, CompletionBody)
        check_sampling(body)
        prompts = text_prompts(body.prompt)
        if not prompts:
            raise ApiError(400, "Either prompt or prompt_embeds must be provided and non-empty.", param="prompt")
        job = Job(
            body.model,
            prompts,
            min(self._door.limit(prompt.tokens, body.max_tokens) for prompt in prompts),
            self._rng(body.seed, prompts[0]),
            body.sim,
            n=body.n or 1,
            min_tokens=body.min_tokens,
            ignore_eos=body.ignore_eos,
            stop=body.stops,
        )
        answer = self._draft(request, job)
        options = body.stream_options or StreamOptions()
        dialect = CompletionDialect(
            answer,
            include_usage=bool(options.include_usage),
            continuous_usage=bool(options.continuous_usage_stats),
            echo=[_shown(prompt) if body.echo else "" for prompt in prompts for _ in range(job.n)],
        )
        return await self._answer(request, answer, dialect, body.sim, stream=bool(body.stream))

    async def responses(self, request: Request) -> Response:
        """POST /v1/responses."""
        body = await self._door.read(request, ResponsesBody)
        turns = [{"role": "user", "content": body.input}] if isinstance(body.input, str) else body.input
        system = [{"role": "system", "content": body.instructions}] if body.instructions else []
        prompt = chat_prompt([*system, *turns])
        limit = self._door.limit(prompt.tokens, body.max_output_tokens, "max_output_tokens")
        rng = self._rng(body.seed, prompt)
        answer = self._draft(request, Job(body.model, [prompt], limit, rng, body.sim, ignore_eos=body.ignore_eos))
        dialect = ResponsesDialect(answer, body, item_id=f"msg_{new_id()}", limit=limit)
        return await self._answer(request, answer, dialect, body.sim, stream=bool(body.stream))

    async def messages(self, request: Request) -> Response:
        """POST /v1/messages."""
        body = await self._door.read(request, MessagesBody)
        system = [{"role": "system", "content": body.system}] if body.system else []
        prompt = chat_prompt([*system, *body.messages], body.tools or ())
        rng = self._rng(None, prompt)
        job = Job(
            body.model,
            [prompt],
            self._door.limit(prompt.tokens, body.max_tokens),
            rng,
            body.sim,
            ignore_eos=body.ignore_eos,
            stop=tuple(body.stop_sequences or ()),
            tool=_pick(*anthropic_tools(body), body.sim, rng),
        )
        answer = self._draft(request, job)
        dialect = MessagesDialect(answer, tool_id=f"chatcmpl-tool-{new_id()}")
        return await self._answer(request, answer, dialect, body.sim, stream=bool(body.stream))

    def _draft(self, request: Request, job: Job) -> Answer:
        """Compose every choice; ApiError 503 when the queue is full."""
        self._simulation.check_queue()
        self._simulation.recorder.requested(job.n)
        places = [prompt for prompt in job.prompts for _ in range(job.n)]
        return Answer(
            id=request.headers.get("x-request-id") or new_id(),
            created=int(time.time()),
            model=job.model or self._simulation.settings.models[0],
            fingerprint=self._simulation.fingerprint,
            prompt_tokens=sum(prompt.tokens for prompt in job.prompts),
            choices=[self._choice(index, prompt, job) for index, prompt in enumerate(places)],
            tells_cached_tokens=self._simulation.settings.prompt_tokens_details,
        )

    def _choice(self, index: int, prompt: Prompt, job: Job) -> Choice:
        settings = self._simulation.settings
        drawn = settings.output_tokens or natural_length(settings.profile, job.rng)
        natural = max(job.steering.output_tokens or drawn, job.min_tokens)
        thought = job.steering.reasoning_tokens
        if thought is None:
            thought = natural // 3 if job.reasons else 0
        script = compose(
            Wish(
                limit=job.limit,
                natural=natural,
                ignore_eos=job.ignore_eos,
                stop=job.stop,
                reasoning=thought,
                tool=job.tool,
                schema=job.schema,
            ),
            job.rng,
        )
        return Choice(index, script, self._sequence(prompt, script, job.model or ""))

    def _sequence(self, prompt: Prompt, script: Script, model: str) -> Sequence:
        return Sequence(
            prompt_tokens=prompt.tokens,
            output_tokens=len(script.pieces),
            arrived=self._simulation.runner.clock(),
            prefix=prefix_hashes(prompt.data, self._simulation.settings.profile.block_size),
            finish_reason="length" if script.finish == "length" else "stop",
            adapter=model if model in self._simulation.settings.adapters else "",
        )

    async def _answer(
        self, request: Request, answer: Answer, dialect: Dialect, own_faults: Steering, *, stream: bool
    ) -> Response:
        delivery = Delivery(answer, self._simulation, own_faults)
        if stream:
            return EventStream(delivery, dialect, Connection.of(request))
        await deliver_whole(delivery, request)
        headers = load_headers(request.headers.get("endpoint-load-metrics-format"), self._simulation)
        return Response(encode(dialect.whole()), media_type="application/json", headers=headers)

    def _rng(self, seed: int | None, prompt: Prompt) -> random.Random:
        """Return the generator for an answer: the same for the same seed and prompt, else the next of this server's."""
        if seed is None:
            return random.Random(self._simulation.rng.getrandbits(64))
        return random.Random(f"{self._simulation.settings.seed} {seed} {prompt.data!r}")

    def _reasons(self, body: ChatBody) -> bool:
        if body.include_reasoning is not None:
            return body.include_reasoning
        if body.reasoning_effort is not None:
            return body.reasoning_effort != "none"
        return self._simulation.settings.reasoning


def new_id() -> str:
    """Sixteen random hexadecimal digits."""
    return uuid.uuid4().hex[:16]


def load_headers(form: str | None, simulation: Simulation) -> dict[str, str]:
    """Return the header with the ORCA load report in the form that the client asked for, `JSON` or `TEXT`."""
    loads = {
        "num_requests_waiting": float(simulation.engine.queued),
        "kv_cache_usage_perc": simulation.engine.kv_usage,
    }
    match (form or "").upper():
        case "JSON":
            return {"endpoint-load-metrics": "JSON " + json.dumps({"named_metrics": loads})}
        case "TEXT":
            return {"endpoint-load-metrics": "TEXT " + ", ".join(f"named_metrics.{k}={v}" for k, v in loads.items())}
        case _:
            return {}


def _chosen_tool(body: ChatBody, rng: random.Random) -> Tool | None:
    if body.tool_choice not in (None, "none", "auto") and not body.tools:
        raise ApiError(400, "When using `tool_choice`, `tools` must be set.", param="tool_choice")
    tools = [Tool(tool.function.name, tool.function.parameters or _ANY_OBJECT) for tool in body.tools or ()]
    answered = bool(body.messages) and body.messages[-1].get("role") == "tool"
    if isinstance(body.tool_choice, NamedTool):
        return _pick(tools, body.tool_choice.function.name, body.sim, rng)
    choice = body.tool_choice or "auto"
    return _pick(tools, "none" if answered and choice == "auto" else choice, body.sim, rng)


def _pick(tools: list[Tool], choice: str, steering: Steering, rng: random.Random) -> Tool | None:
    """Return the tool to call, for a choice of `none`, `auto`, `required` or a tool's name."""
    if not tools or choice == "none" or steering.tool_call is False:
        return None
    if choice == "auto":
        calls = steering.tool_call or rng.random() < _AUTO_TOOL_CALLS
        return rng.choice(tools) if calls else None
    if choice == "required":
        return rng.choice(tools)
    for tool in tools:
        if tool.name == choice:
            return tool
    message = "The tool specified in `tool_choice` does not match any of the specified `tools`"
    raise ApiError(400, message, param="tool_choice")


def _schema(body: ChatBody) -> dict[str, Any] | None:
    form = body.response_format
    if form is None or form.type not in ("json_object", "json_schema"):
        return None
    return (form.json_schema and form.json_schema.json_schema) or _ANY_OBJECT


def _shown(prompt: Prompt) -> str:
    return prompt.data.decode(errors="replace")
