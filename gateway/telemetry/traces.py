"""Traces over OTLP/HTTP, where an endpoint is set: made when a thing is over, sent from a thread of their own."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Protocol

from gateway.telemetry import otlp
from gateway.telemetry.collector_url import spans_url
from gateway.telemetry.otlp_settings import OtlpSettings
from gateway.telemetry.request_traces import RequestTraces
from gateway.telemetry.span_sender import SpanSender
from gateway.wire.tracecontext import parse


class Staged(Protocol):
    """Something that passed stages, each reached at a moment (seconds since the epoch), the earliest first."""

    @property
    def label(self) -> str:
        """What it is called in a trace."""

    @property
    def attributes(self) -> Mapping[str, str]:
        """What is told about it."""

    @property
    def milestones(self) -> Sequence[tuple[str, float]]:
        """Its stages, and when it was over."""

    @property
    def failure(self) -> str:
        """Why it failed, "" when it did not."""

    @property
    def traceparent(self) -> str:
        """The W3C trace context that it belongs to, "" for none."""


class Traces:
    """Sends a trace of whatever is over: a span, and one below it for each stage.

    `requests` is an observer that does so for those requests that are sampled.
    """

    def __init__(self, endpoint: str, settings: OtlpSettings, resource: bytes, server: bytes) -> None:
        """Take the collector's base URL, and the attributes of this process and of its listener."""
        self._sender = SpanSender(spans_url(endpoint), resource, settings)
        self.requests = RequestTraces(self._sender.offer, server=server)
        self._rng = Random()

    def __repr__(self) -> str:
        return f"<Traces {self._sender!r}>"

    @property
    def dropped(self) -> int:
        """How many spans were dropped."""
        return self._sender.dropped

    def over(self, thing: Staged) -> None:
        """Send its trace, unless what it belongs to is not sampled. Never blocks."""
        spans = staged_spans(thing, self._rng)
        if spans:
            self._sender.offer(spans)

    def close(self) -> None:
        """Send what waits, for at most two seconds."""
        self._sender.close()


def staged_spans(thing: Staged, rng: Random) -> list[bytes]:
    """Return the spans of something, those of its stages first; none where its trace is not sampled."""
    parent = parse(thing.traceparent.encode())
    if parent is not None and not parent.sampled:
        return []
    (_, began), *stages = thing.milestones
    trace = otlp.trace(parent.trace_id if parent is not None else rng.getrandbits(128) or 1)
    own, before, spans = _new_id(rng), began, []
    for name, at in stages:
        fields = [trace, _new_id(rng), otlp.below(own), otlp.named(name, otlp.INTERNAL), _lasting(before, at)]
        spans.append(otlp.span([*fields, otlp.UNSET, otlp.LOCAL_PARENT]))
        before = at
    above = [] if parent is None else [otlp.below(otlp.identity(parent.parent_id))]
    fields = [trace, own, *above, otlp.named(thing.label, otlp.INTERNAL), _lasting(began, before)]
    fields += [otlp.Attribute(name).text(value) for name, value in thing.attributes.items()]
    fields.append(otlp.failed(thing.failure) if thing.failure else otlp.UNSET)
    fields.append(otlp.LOCAL_PARENT if parent is None else otlp.REMOTE_PARENT)
    return [*spans, otlp.span(fields)]


def _new_id(rng: Random) -> bytes:
    return otlp.identity(rng.getrandbits(64) or 1)


def _lasting(start: float, end: float) -> bytes:
    return otlp.lasting(otlp.nanoseconds(start), otlp.nanoseconds(end))
