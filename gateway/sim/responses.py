"""POST /v1/responses as vLLM answers it."""

from typing import Any

from gateway.sim.answers import Answer, Choice, encode
from gateway.sim.requests import ResponsesBody
from gateway.sim.text import Channel, Piece


class ResponsesDialect:
    """One response with one message of output text; `limit` is the most output tokens it may have."""

    def __init__(self, answer: Answer, body: ResponsesBody, *, item_id: str, limit: int) -> None:
        self._answer = answer
        self._body = body
        self._item_id = item_id
        self._limit = limit
        self._events = 0

    def preamble(self) -> bytes:
        """Return the events that vLLM sends before the first token."""
        started = self._response("in_progress")
        return self._event("response.created", {"response": started}) + self._event(
            "response.in_progress", {"response": started}
        )

    def opening(self) -> bytes:
        """Return the empty message and its empty content part."""
        item = {**self._item("in_progress"), "content": []}
        part = {"annotations": [], "text": "", "type": "output_text", "logprobs": []}
        return self._event("response.output_item.added", {"item": item, "output_index": 0}) + self._event(
            "response.content_part.added",
            {"content_index": 0, "item_id": self._item_id, "output_index": 0, "part": part},
        )

    def delta(self, choice: Choice, channel: Channel, text: str) -> bytes:
        """Return a piece of the text."""
        return self._event(
            "response.output_text.delta",
            {"content_index": 0, "delta": text, "item_id": self._item_id, "logprobs": [], "output_index": 0},
        )

    def ending(self, choice: Choice, last: Piece | None) -> bytes:
        """Return the last piece of the text, if there is one."""
        return self.delta(choice, *last) if last else b""

    def closing(self) -> bytes:
        """Return the finished text, part, message and response."""
        place = {"content_index": 0, "item_id": self._item_id}
        text = {**place, "logprobs": [], "output_index": 0, "text": self._text()}
        part = {**place, "output_index": 0, "part": self._part()}
        item = {"item": self._item("completed"), "output_index": 0}
        return (
            self._event("response.output_text.done", text)
            + self._event("response.content_part.done", part)
            + self._event("response.output_item.done", item)
            + self._event("response.completed", {"response": self.whole()})
        )

    def whole(self) -> dict[str, Any]:
        """Return the finished response object."""
        cut = self._answer.choices[0].script.finish == "length"
        return self._response("incomplete" if cut else "completed")

    def _response(self, status: str) -> dict[str, Any]:
        body, done = self._body, status != "in_progress"
        return {
            "id": f"resp_{self._answer.id}",
            "created_at": self._answer.created,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": body.instructions,
            "metadata": body.metadata,
            "model": self._answer.model,
            "object": "response",
            "output": [self._item("completed")] if done else [],
            "parallel_tool_calls": True,
            "temperature": 1.0 if body.temperature is None else body.temperature,
            "tool_choice": "none",
            "tools": [],
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "background": False,
            "max_output_tokens": self._limit,
            "max_tool_calls": None,
            "previous_response_id": None,
            "prompt": None,
            "reasoning": None,
            "service_tier": "auto",
            "status": status,
            "text": None,
            "top_logprobs": None,
            "truncation": "disabled",
            "usage": self._usage() if done else None,
            "user": None,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "input_messages": None,
            "output_messages": None,
        }

    def _item(self, status: str) -> dict[str, Any]:
        return {
            "id": self._item_id,
            "content": [self._part()],
            "role": "assistant",
            "status": status,
            "type": "message",
            "phase": None,
        }

    def _part(self) -> dict[str, Any]:
        return {"annotations": [], "text": self._text(), "type": "output_text", "logprobs": None}

    def _text(self) -> str:
        return self._answer.choices[0].said(Channel.CONTENT)

    def _usage(self) -> dict[str, Any]:
        prompt, completion = self._answer.prompt_tokens, self._answer.completion_tokens
        return {
            "input_tokens": prompt,
            "input_tokens_details": {
                "cached_tokens": self._answer.cached_tokens,
                "cache_write_tokens": 0,
                "input_tokens_per_turn": [],
                "cached_tokens_per_turn": [],
            },
            "output_tokens": completion,
            "output_tokens_details": {
                "reasoning_tokens": 0,
                "tool_output_tokens": 0,
                "output_tokens_per_turn": [],
                "tool_output_tokens_per_turn": [],
            },
            "total_tokens": prompt + completion,
        }

    def _event(self, kind: str, data: dict[str, Any]) -> bytes:
        event = {**data, "sequence_number": self._events, "type": kind}
        self._events += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode(event))
