"""POST /v1/messages: Anthropic's dialect as vLLM answers it."""

import json
from typing import Any

from gateway.sim.answers import Answer, Choice, encode
from gateway.sim.requests import MessagesBody
from gateway.sim.text import Channel, Piece, Tool

_STOP_REASONS = {"length": "max_tokens", "stop": "end_turn", "tool_calls": "tool_use"}


class MessagesDialect:
    """One message made of content blocks: thinking, text or a tool call."""

    def __init__(self, answer: Answer, *, tool_id: str) -> None:
        self._answer = answer
        self._tool_id = tool_id
        self._block = -1
        self._open: Channel | None = None

    def preamble(self) -> bytes:
        """Return nothing: vLLM sends nothing before the first token."""
        return b""

    def opening(self) -> bytes:
        """Return the event `message_start`."""
        message: dict[str, Any] = {
            "id": f"chatcmpl-{self._answer.id}",
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": self._answer.model,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": self._answer.prompt_tokens, "output_tokens": 0},
        }
        return _event({"type": "message_start", "message": message})

    def delta(self, choice: Choice, channel: Channel, text: str) -> bytes:
        """Return a piece of the current block, or of a new block where the channel changes."""
        if channel is Channel.TOOL_NAME:
            block = {"type": "tool_use", "id": self._tool_id, "name": text, "input": {}}
            return self._start_block(Channel.TOOL_ARGUMENTS, block)
        match channel:
            case Channel.REASONING:
                block, delta = {"type": "thinking", "thinking": ""}, {"type": "thinking_delta", "thinking": text}
            case Channel.TOOL_ARGUMENTS:
                block, delta = {}, {"type": "input_json_delta", "partial_json": text}
            case _:
                block, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": text}
        start = b"" if channel is self._open else self._start_block(channel, block)
        return start + _event({"type": "content_block_delta", "delta": delta, "index": self._block})

    def ending(self, choice: Choice, last: Piece | None) -> bytes:
        """Return the last piece and the end of its block."""
        rest = self.delta(choice, *last) if last else b""
        return rest + self._stop_block()

    def closing(self) -> bytes:
        """Return the stop reason with the usage, and the end of the message."""
        reason, sequence = self._stop()
        delta = {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": sequence},
            "usage": self._usage(),
        }
        return _event(delta) + _event({"type": "message_stop"})

    def whole(self) -> dict[str, Any]:
        """Return the message object."""
        reason, sequence = self._stop()
        return {
            "id": f"chatcmpl-{self._answer.id}",
            "type": "message",
            "role": "assistant",
            "content": self._blocks(self._answer.choices[0]),
            "model": self._answer.model,
            "stop_reason": reason,
            "stop_sequence": sequence,
            "usage": self._usage(),
        }

    def _blocks(self, choice: Choice) -> list[dict[str, Any]]:
        blocks: list[dict[str, Any]] = []
        if thought := choice.said(Channel.REASONING):
            blocks.append({"type": "thinking", "thinking": thought, "signature": ""})
        if choice.calls_tool:
            arguments = _finished_object(choice)
            name = choice.said(Channel.TOOL_NAME)
            blocks.append({"type": "tool_use", "id": self._tool_id, "name": name, "input": arguments})
        else:
            blocks.append({"type": "text", "text": choice.said(Channel.CONTENT)})
        return blocks

    def _start_block(self, channel: Channel, block: dict[str, Any]) -> bytes:
        stop = self._stop_block()
        self._block += 1
        self._open = channel
        return stop + _event({"type": "content_block_start", "content_block": block, "index": self._block})

    def _stop_block(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return _event({"type": "content_block_stop", "index": self._block})

    def _stop(self) -> tuple[str, str | None]:
        script = self._answer.choices[0].script
        if script.stop_reason is not None:
            return "stop_sequence", script.stop_reason
        return _STOP_REASONS[script.finish], None

    def _usage(self) -> dict[str, int]:
        return {"input_tokens": self._answer.prompt_tokens, "output_tokens": self._answer.completion_tokens}


def anthropic_tools(body: MessagesBody) -> tuple[list[Tool], str]:
    """Return the tools of a body and the choice among them: `none`, `auto`, `required` or a name."""
    tools = [Tool(str(tool.get("name", "")), tool.get("input_schema") or {}) for tool in body.tools or ()]
    choice = body.tool_choice or {"type": "auto"}
    match choice.get("type"):
        case "any":
            return tools, "required"
        case "tool":
            return tools, str(choice.get("name", ""))
        case "none":
            return tools, "none"
    content = body.messages[-1].get("content") if body.messages else None
    answered = isinstance(content, list) and any(part.get("type") == "tool_result" for part in content)
    return tools, "none" if answered else "auto"


def _finished_object(choice: Choice) -> dict[str, Any]:
    """Return the arguments of a tool call, or an empty object if the answer was cut off inside them."""
    if choice.script.finish != "tool_calls":
        return {}
    arguments = json.loads(choice.said(Channel.TOOL_ARGUMENTS))
    return arguments if isinstance(arguments, dict) else {}


def _event(data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (data["type"].encode(), encode(data))
