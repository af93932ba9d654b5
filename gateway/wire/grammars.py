"""What the events of each dialect look like, as patterns over their bytes."""

import re
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from gateway.exchange import Dialect


@dataclass(frozen=True, slots=True)
class Grammar:
    """What events of one dialect look like: patterns over the bytes of an event's data.

    `marker` is how output usually begins, in events of `lines` lines; `content` finds any generated output. `preamble`
    comes before any output and commits to nothing; None means that everything without content is preamble. `end` is
    the event after which the answer is whole, `[DONE]` aside. `terminator` is what clients take for the end of it.
    """

    marker: bytes
    lines: int
    content: re.Pattern[bytes]
    preamble: re.Pattern[bytes] | None = None
    end: re.Pattern[bytes] | None = None
    terminator: bytes = b""


_DONE: Final = b"data: [DONE]\n\n"
_CHAT: Final = Grammar(
    b'"content":"',
    2,
    re.compile(
        rb'"(?:content|reasoning_content|reasoning|refusal)"\s*+:\s*+"(?!")'
        rb'|"(?:tool_calls|function_call|audio)"\s*+:\s*+[\[{]\s*+["{]'
        rb'|"type"\s*+:\s*+"transcript\.text\.delta"'
    ),
    end=re.compile(rb'"type"\s*+:\s*+"transcript\.text\.done"'),
    terminator=_DONE,
)
GRAMMARS: Final = MappingProxyType(
    {
        Dialect.CHAT: _CHAT,
        Dialect.PLAIN: replace(_CHAT, terminator=b""),
        Dialect.COMPLETIONS: Grammar(b'"text":"', 2, re.compile(rb'"text"\s*+:\s*+"(?!")'), terminator=_DONE),
        Dialect.RESPONSES: Grammar(
            b'"type":"response.output_text.delta"',
            3,
            re.compile(rb'"type"\s*+:\s*+"response\.[a-z_.]+\.delta"'),
            re.compile(
                rb'"type"\s*+:\s*+"response\.(?:created|queued|in_progress|output_item\.added|content_part\.added'
                rb'|reasoning_part\.added)"'
            ),
            re.compile(rb'"type"\s*+:\s*+"response\.(?:completed|incomplete)"'),
        ),
        Dialect.MESSAGES: Grammar(
            b'"type":"content_block_delta"',
            3,
            re.compile(rb'"type"\s*+:\s*+"content_block_delta"'),
            re.compile(rb'"type"\s*+:\s*+"(?:message_start|content_block_start|ping)"'),
            re.compile(rb'"type"\s*+:\s*+"message_stop"'),
        ),
    }
)
