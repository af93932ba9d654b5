"""W3C Trace Context: what of a client's `traceparent` is believed, and what engines are told instead."""

import re
from dataclasses import dataclass
from typing import Final

_TRACEPARENT: Final = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_SAMPLED: Final = 1


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Ids of a trace, of the span that is our parent in it (0 for none), and of our own span (0 while it has none)."""

    trace_id: int
    parent_id: int
    sampled: bool
    span_id: int = 0

    @property
    def traceparent(self) -> bytes:
        """The header value that makes its receiver's span a child of ours."""
        return b"00-%032x-%016x-%02x" % (self.trace_id, self.span_id, self.sampled)


def parse(value: bytes) -> TraceContext | None:
    """Read a `traceparent` (Trace Context section 3.2); None for one that is not valid, which is to be ignored."""
    match = _TRACEPARENT.fullmatch(value)
    if match is None or (match[1] == b"00" and match[5]):
        return None
    trace_id, parent_id = int(match[2], 16), int(match[3], 16)
    if not trace_id or not parent_id:
        return None
    return TraceContext(trace_id, parent_id, bool(int(match[4], 16) & _SAMPLED))
