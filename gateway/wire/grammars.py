"""What the events of each dialect look like, as patterns over their bytes."""

import re
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from gateway.exchange import Dialect


class Marker:
    """What output is known by at first sight: `text` stands before it in an event of so many `lines`.

    `finish` is how an event of the same style gives a finish reason.
    """

    __slots__ = ("finish", "lines", "text")

    def __init__(self, text: bytes, lines: int) -> None:
        self.text: Final = text
        self.lines: Final = lines
        self.finish: Final = b'"finish_reason": "' if text.find(b": ") >= 0 else b'"finish_reason":"'

    def __repr__(self) -> str:
        return f"<Marker {self.text!r}, {self.lines} lines>"


@dataclass(frozen=True, slots=True)
class Grammar:
    """What events of one dialect look like: patterns over the bytes of an event's data.

    `marker` is how output usually begins; `content` finds any generated output. `preamble` comes before any output and
    commits to nothing; None means that everything without content is preamble. `end` is the event after which the
    answer is whole, `[DONE]` aside. `terminator` is what clients take for the end of it.
    """

    marker: Marker
    content: re.Pattern[bytes]
    preamble: re.Pattern[bytes] | None = None
    end: re.Pattern[bytes] | None = None
    terminator: bytes = b""


_DONE: Final = b"data: [DONE]\n\n"
_CHAT: Final = Grammar(
    Marker(b'"content":"', 2),
    re.compile(
        rb'"(?:content|reasoning_content|reasoning|refusal)"\s*+:\s*+"(?!")'
        rb'|"(?:tool_calls|function_call|audio)"\s*+:\s*+[\[{]\s*+["{](?:\s*+"(?!"))?+'
        rb'|"type"\s*+:\s*+"transcript\.text\.delta"'
    ),
    end=re.compile(rb'"type"\s*+:\s*+"transcript\.text\.done"'),
    terminator=_DONE,
)
GRAMMARS: Final = MappingProxyType(
    {
        Dialect.CHAT: _CHAT,
        Dialect.PLAIN: replace(_CHAT, terminator=b""),
        Dialect.COMPLETIONS: Grammar(Marker(b'"text":"', 2), re.compile(rb'"text"\s*+:\s*+"(?!")'), terminator=_DONE),
        Dialect.RESPONSES: Grammar(
            Marker(b'"type":"response.output_text.delta"', 3),
            re.compile(rb'"type"\s*+:\s*+"response\.[a-z_.]+\.delta"'),
            re.compile(
                rb'"type"\s*+:\s*+"response\.(?:created|queued|in_progress|output_item\.added|content_part\.added'
                rb'|reasoning_part\.added)"'
            ),
            re.compile(rb'"type"\s*+:\s*+"response\.(?:completed|incomplete)"'),
        ),
        Dialect.MESSAGES: Grammar(
            Marker(b'"type":"content_block_delta"', 3),
            re.compile(rb'"type"\s*+:\s*+"content_block_delta"'),
            re.compile(rb'"type"\s*+:\s*+"(?:message_start|content_block_start|ping)"'),
            re.compile(rb'"type"\s*+:\s*+"message_stop"'),
        ),
    }
)
