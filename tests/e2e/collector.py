"""An OTLP collector that keeps what it is sent."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import ResourceMetrics
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from loadtest.bench.listening import listening


@asynccontextmanager
async def collector() -> AsyncIterator[tuple[str, list[Span]]]:
    """Run an OTLP collector that keeps the spans that it is sent."""
    async with collecting() as (url, spans, _):
        yield url, spans


@asynccontextmanager
async def collecting() -> AsyncIterator[tuple[str, list[Span], list[ResourceMetrics]]]:
    """Run an OTLP collector that keeps what it is sent, exports of metrics one by one."""
    spans: list[Span] = []
    metrics: list[ResourceMetrics] = []

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n") if b": " in line)
        body = await reader.readexactly(int(fields[b"content-length"]))
        if fields.get(b"content-encoding") == b"gzip":
            body = gzip.decompress(body)
        if head.startswith(b"POST /v1/metrics "):
            metrics.extend(ExportMetricsServiceRequest.FromString(body).resource_metrics)
        else:
            request = ExportTraceServiceRequest.FromString(body)
            spans.extend(span for each in request.resource_spans for scope in each.scope_spans for span in scope.spans)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    async with listening(receive) as url:
        yield url, spans, metrics
