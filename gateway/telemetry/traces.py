"""Traces over OTLP/HTTP, where an endpoint is set: made when a thing is over, sent from a thread of their own."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Protocol

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway.telemetry.request_traces import RequestTraces

_NANOSECONDS = 1e9
_CLOSE_MILLISECONDS = 2000


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

    def __init__(self, endpoint: str) -> None:
        """Take the collector's base URL, to which `/v1/traces` is appended."""
        resource = Resource.create({"service.name": "tidegate", "service.version": version("tidegate")})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", session=_session())
        self._sender = BatchSpanProcessor(exporter)
        self._provider.add_span_processor(self._sender)
        self.requests = RequestTraces(self._sender.on_end, resource)
        self._tracer = self._provider.get_tracer("tidegate")

    def over(self, thing: Staged) -> None:
        """Send its trace. Never blocks; what cannot be sent is dropped by the exporter, which says so."""
        (_, began), *stages = thing.milestones
        carrier = {"traceparent": thing.traceparent} if thing.traceparent else {}
        parent = TraceContextTextMapPropagator().extract(carrier)
        root = self._tracer.start_span(
            thing.label, context=parent, start_time=_nanoseconds(began), attributes=dict(thing.attributes)
        )
        below = set_span_in_context(root)
        before = began
        for name, at in stages:
            span = self._tracer.start_span(name, context=below, start_time=_nanoseconds(before))
            span.end(_nanoseconds(at))
            before = at
        if thing.failure:
            root.set_status(Status(StatusCode.ERROR, thing.failure))
        root.end(_nanoseconds(before))

    def close(self) -> None:
        """Send what waits, for at most two seconds."""
        self._provider.force_flush(_CLOSE_MILLISECONDS)
        self._provider.shutdown()


def _session() -> requests.Session:
    """Return a session that reads the heads of answers alone: what else a collector says, or packs, has no bound."""
    session = requests.Session()
    session.stream = True
    session.hooks["response"] = [_close]
    return session


def _close(answer: requests.Response, **_: object) -> None:
    answer.close()


def _nanoseconds(seconds: float) -> int:
    return int(seconds * _NANOSECONDS)
