"""One answer in the making, and what each API dialect must be able to say about it."""

from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from gateway.sim.engine import Sequence
from gateway.sim.text import Channel, Piece, Script

encode = msgspec.json.encode
"""Compact JSON in UTF-8, as vLLM writes it."""


@dataclass(slots=True, eq=False)
class Choice:
    """One of an answer's choices. `sent` counts the tokens that have been passed on."""

    index: int
    script: Script
    sequence: Sequence
    sent: int = 0

    def said(self, channel: Channel) -> str:
        """Return the text of one channel so far."""
        return "".join(text for where, text in self.script.pieces[: self.sequence.produced] if where is channel)

    @property
    def calls_tool(self) -> bool:
        """Whether a tool call has begun."""
        return bool(self.said(Channel.TOOL_NAME))


@dataclass(slots=True, eq=False)
class Answer:
    """What every dialect tells about an answer. `id` comes without the dialect's prefix."""

    id: str
    created: int
    model: str
    fingerprint: str
    prompt_tokens: int
    choices: Items[Choice]
    tells_cached_tokens: bool = False

    @property
    def completion_tokens(self) -> int:
        """Output tokens of all choices so far."""
        return sum(choice.sequence.produced for choice in self.choices)

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that came from the prefix cache."""
        return self.choices[0].sequence.cached_tokens

    def usage(self) -> dict[str, Any]:
        """Return token counts, in the order of vLLM's chat and text completions."""
        prompt, completion = self.prompt_tokens, self.completion_tokens
        usage: dict[str, Any] = {
            "prompt_tokens": prompt,
            "total_tokens": prompt + completion,
            "completion_tokens": completion,
        }
        if self.tells_cached_tokens:
            usage["prompt_tokens_details"] = {"cached_tokens": self.cached_tokens, "created_cache_tokens": 0}
        return usage

    def whole_usage(self) -> dict[str, Any]:
        """Return token counts as in an answer that is not streamed."""
        usage = self.usage()
        details = usage.get("prompt_tokens_details")
        usage["prompt_tokens_details"] = {**details, "multimodal_tokens": None} if details else None
        usage["completion_tokens_details"] = None
        return usage


class Dialect(Protocol):
    """How one API tells an answer, as server-sent events or whole."""

    def preamble(self) -> bytes:
        """Return the events that are sent with the head, before the first token."""

    def opening(self) -> bytes:
        """Return the events that come right before the first token."""

    def delta(self, choice: Choice, channel: Channel, text: str) -> bytes:
        """Return the events for some text of a choice that continues."""

    def ending(self, choice: Choice, last: Piece | None) -> bytes:
        """Return the events that end a choice, with its last text if there is any."""

    def closing(self) -> bytes:
        """Return the events that end the stream."""

    def whole(self) -> dict[str, Any]:
        """Return the answer in one piece."""
