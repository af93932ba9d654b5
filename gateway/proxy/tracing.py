"""Which requests leave a trace, and under which ids."""

from random import Random
from typing import Final

from gateway.wire.tracecontext import TraceContext, parse

TRACEPARENT: Final = frozenset((b"traceparent",))
TRACE_HEADERS: Final = frozenset((b"traceparent", b"tracestate"))
NO_HEADERS: Final[frozenset[bytes]] = frozenset()


class Tracing:
    """Samples requests: as their client decided where it sent a `traceparent`, else a `ratio` (0 to 1) of them."""

    def __init__(self, ratio: float, rng: Random) -> None:
        self._ratio = ratio
        self._rng = rng

    def __repr__(self) -> str:
        return f"<Tracing {self._ratio:g} of all without a traceparent>"

    def begin(self, parent: TraceContext | None) -> TraceContext | None:
        """Return the context of a request that is to be traced, None for others."""
        chance = self._rng
        if parent is not None:
            if not parent.sampled:
                return None
            return TraceContext(parent.trace_id, parent.parent_id, sampled=True, span_id=_id(chance, 64))
        if chance.random() >= self._ratio:
            return None
        return TraceContext(_id(chance, 128), 0, sampled=True, span_id=_id(chance, 64))


def carried(given: bytes | None, tracing: Tracing | None) -> tuple[TraceContext | None, frozenset[bytes], bytes]:
    """Return a request's trace, the fields that must not go on because of it, and those that go on in their place.

    A `traceparent` that is not valid is not passed on, and neither is the `tracestate` that came with it (Trace Context
    section 3.3.1).
    """
    parent = None if given is None else parse(given)
    trace = None if tracing is None else tracing.begin(parent)
    if trace is not None:
        stays = TRACEPARENT if parent is not None else TRACE_HEADERS
        return trace, stays, b"traceparent: %b\r\n" % trace.traceparent
    return None, TRACE_HEADERS if given is not None and parent is None else NO_HEADERS, b""


def _id(chance: Random, bits: int) -> int:
    """Return a random id other than 0, which stands for none."""
    return chance.getrandbits(bits) or 1
