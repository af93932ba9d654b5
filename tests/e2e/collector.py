"""An OTLP collector that keeps what it is sent."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from loadtest.bench.listening import listening


@asynccontextmanager
async def collector() -> AsyncIterator[tuple[str, list[Span]]]:
    """Run an OTLP collector that keeps what it is sent."""
    spans: list[Span] = []

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n") if b": " in line)
        length = int(fields[b"content-length"])
        body = await reader.readexactly(length)
        if fields.get(b"content-encoding") == b"gzip":
            body = gzip.decompress(body)
        request = ExportTraceServiceRequest.FromString(body)
        spans.extend(span for each in request.resource_spans for scope in each.scope_spans for span in scope.spans)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    async with listening(receive) as url:
        yield url, spans
