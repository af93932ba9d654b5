"""Timing a stream of server-sent events while it arrives: what counts as output, when it came, how it ended.

Written apart from the gateway's own reader, so that neither's mistakes are the other's. Nothing is parsed while a
stream runs: an event is output when its dialect's pattern is in its bytes. A raw quote cannot stand inside a JSON
string, so what is found is never a piece of somebody's text.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_ERROR = re.compile(rb'"error"\s*:\s*[{"]|"type"\s*:\s*"response\.failed"')
_DONE = re.compile(rb"^data: ?\[DONE\]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one API streams: which bytes make an event output, and which say that the answer is whole."""

    path: str
    output: re.Pattern[bytes]
    end: re.Pattern[bytes]


CHAT = Dialect(
    "/v1/chat/completions",
    re.compile(
        rb'"(?:content|reasoning_content|reasoning|refusal)"\s*:\s*"(?!")'
        rb'|"(?:tool_calls|function_call|audio)"\s*:\s*[\[{]\s*["{]'
    ),
    re.compile(rb'"finish_reason"\s*:\s*"'),
)
COMPLETIONS = Dialect("/v1/completions", re.compile(rb'"text"\s*:\s*"(?!")'), CHAT.end)
RESPONSES = Dialect(
    "/v1/responses",
    re.compile(rb'"type"\s*:\s*"response\.[a-z_.]+\.delta"'),
    re.compile(rb'"type"\s*:\s*"response\.(?:completed|incomplete)"'),
)
MESSAGES = Dialect(
    "/v1/messages",
    re.compile(rb'"type"\s*:\s*"content_block_delta"'),
    re.compile(rb'"type"\s*:\s*"message_stop"'),
)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Prompt and output tokens as an engine counted them; 0 where it did not say.

    `cached` are those of the prompt that it found in its cache; None where it did not say.
    """

    prompt: int = 0
    output: int = 0
    cached: int | None = None


@dataclass(slots=True)
class Stream:
    """One stream as it arrives. Times are seconds on the clock of its caller.

    `gaps` has, for each output event after the first, when it came and how long after the one before: events of one
    read came together. `whole` says that the end was seen, `error` is the data of an error event, if one came.
    """

    dialect: Dialect
    first: float | None = None
    last: float | None = None
    events: int = 0
    gaps: list[tuple[float, float]] = field(default_factory=list)
    whole: bool = False
    error: bytes | None = None
    _usage: list[bytes] = field(default_factory=list)
    _tail: bytes = b""

    def feed(self, data: bytes, at: float) -> None:
        """Take the bytes of one read, which came at `at`."""
        buffer = self._tail + data
        if b"\r" in buffer:
            buffer = buffer.replace(b"\r\n", b"\n")
        *events, self._tail = buffer.split(b"\n\n")
        output = self.dialect.output.search
        outputs = 0
        for event in events:
            if output(event):
                outputs += 1
            elif _DONE.search(event):
                self.whole = True
            elif _ERROR.search(event):
                self.error = self.error or event
            if b'"usage"' in event:
                self._usage[1:] = [event]
            if not self.whole and self.dialect.end.search(event):
                self.whole = True
        if outputs:
            self._arrived(outputs, at)

    def tokens(self) -> Tokens:
        """What the engine counted, from the first and the last event that had a usage: one dialect tells by halves."""
        tokens = Tokens()
        for event in self._usage:
            found = usage(parsed(event))
            cached = tokens.cached if found.cached is None else found.cached
            tokens = Tokens(found.prompt or tokens.prompt, found.output or tokens.output, cached)
        return tokens

    def tpot(self, output_tokens: int) -> float | None:
        """Seconds per output token after the first; None below two."""
        if self.first is None or self.last is None or output_tokens < 2:
            return None
        return (self.last - self.first) / (output_tokens - 1)

    def _arrived(self, outputs: int, at: float) -> None:
        if self.last is None:
            self.first = at
            outputs -= 1
            together = outputs
        else:
            self.gaps.append((at, at - self.last))
            together = outputs - 1
        self.gaps.extend([(at, 0.0)] * together)
        self.last = at


def parsed(event: bytes) -> dict[str, Any]:
    """Return the JSON object in an event's data; {} where there is none."""
    data = b"\n".join(line[5:] for line in event.split(b"\n") if line.startswith(b"data:"))
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def usage(answer: dict[str, Any]) -> Tokens:
    """Return the token counts of an answer, or of an event that has them, in any dialect."""
    holders = (answer, answer.get("message"), answer.get("response"))
    found: dict[str, Any] = next((h["usage"] for h in holders if isinstance(h, dict) and h.get("usage")), {})
    details = found.get("prompt_tokens_details") or found.get("input_tokens_details") or {}
    return Tokens(
        found.get("prompt_tokens") or found.get("input_tokens") or 0,
        found.get("completion_tokens") or found.get("output_tokens") or 0,
        details.get("cached_tokens", found.get("cache_read_input_tokens")),
    )


def chat_text(data: bytes) -> str:
    """Return what the assistant said in a whole chat stream."""
    return "".join(_contents(data.replace(b"\r\n", b"\n")))


def _contents(data: bytes) -> Iterator[str]:
    for event in data.split(b"\n\n"):
        for choice in parsed(event).get("choices") or ():
            yield choice.get("delta", {}).get("content") or ""
