"""From an engine's socket to a client's, however the bytes are cut: the whole data plane but the sockets."""

import asyncio
import atexit
import json
import os
import re
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.backends.registry import Registry
from gateway.clock import monotonic
from gateway.config.load import load_routes
from gateway.exchange import Exchange, Outcome
from gateway.lateness import Lateness
from gateway.observers import Observer, Observers
from gateway.proxy.current import CurrentTable
from gateway.proxy.gateway import Gateway
from gateway.proxy.mirroring import Mirroring
from gateway.proxy.routed_request import ProxyContext
from gateway.proxy.stored import StoredResponses
from gateway.wire.client import Client
from gateway.wire.edge import Edge
from gateway.wire.guard import Limits
from gateway.wire.outbox import Outbox
from gateway.wire.slices import Slices
from gateway.wire.upstream import Upstream

CAPTURES = Path(__file__).parents[1] / "captures" / "vllm"
ROUTES = Path(__file__).parents[2] / "routes" / "minimal.yaml"
HEAD = b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAMS = {
    "/v1/chat/completions": "chat_stream_nousage.txt",
    "/v1/completions": "completions_stream.txt",
    "/v1/responses": "responses_stream.txt",
    "/v1/messages": "messages_stream.txt",
}


SILENT = open(os.pipe()[0], "rb", buffering=0)  # noqa: SIM115 - as long as the process lives
atexit.register(SILENT.close)


class Wire(asyncio.Transport):
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.open = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return not self.open

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return something that never has anything to read, where a socket is asked for."""
        return SILENT if name == "socket" else default

    def close(self) -> None:
        self.open = False

    def abort(self) -> None:
        self.open = False


class Recorder(Observer):
    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def on_settled(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)


class Bench:
    """A gateway with one backend, a client and a pooled connection, on transports of memory."""

    def __init__(self) -> None:
        table = load_routes(ROUTES, {})
        outbox, self.recorder = Outbox(), Recorder()
        registry = Registry(outbox, monotonic, Lateness())
        registry.reconcile(table)
        tools = ProxyContext(monotonic, Random(1), Observers(self.recorder))
        slices, mirroring = Slices(monotonic), Mirroring(tools, lambda _: None)
        gateway = Gateway(
            CurrentTable(table, registry, monotonic, 0),
            tools,
            mirroring,
            slices,
            stored=StoredResponses(),
            edge=Edge(),
        )
        (self.backend,) = registry
        self.model = next(iter(table.models))
        self.upstream = Upstream(self.backend.pool.idle_connections, outbox)
        self.upstream.connection_made(Wire())
        self.backend.pool.idle_connections.put(self.upstream)
        self.client = Client(gateway, set(), Limits(), outbox, slices, clock=monotonic)
        self.out = Wire()
        self.client.connection_made(self.out)

    async def relay(self, request: list[bytes], answer: list[bytes]) -> None:
        """Read a piece in each turn of the loop."""
        reads: list[tuple[Client | Upstream, bytes]]
        reads = [*((self.client, each) for each in request), *((self.upstream, each) for each in answer)]
        for connection, data in reads:
            connection.data_received(data)
            await asyncio.sleep(0)


def pieces(data: bytes, points: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(point % (len(data) + 1) for point in points)})
    return [data[a:b] for a, b in pairwise(edges)]


def events(name: str) -> bytes:
    return (CAPTURES / name).read_bytes().replace(b"\r\n", b"\n").split(b"\n\n", 1)[1]


def without_usage(stream: bytes) -> bytes:
    """What a client gets that did not ask for usage: the chunk goes, the fingerprint that it bears stays."""
    kept: list[bytes] = []
    for event in stream.split(b"\n\n"):
        if b'"choices":[]' not in event:
            kept.append(event)
        elif fingerprint := re.search(rb'"system_fingerprint":"[^"]*"', event):
            kept[-1] = kept[-1].replace(b"{", b"{%b," % fingerprint[0], 1)
    return b"\n\n".join(kept)


cuts = st.lists(st.integers(0, 100_000), max_size=20)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(STREAMS)), cuts, cuts, cuts, st.booleans())
def test_what_the_engine_sent_is_what_the_client_gets(
    path: str, framing: list[int], reads: list[int], sends: list[int], ask_usage: bool
) -> None:
    bench = Bench()
    body = json.dumps({"model": bench.model, "stream": True, "stream_options": {"include_usage": ask_usage}}).encode()
    request = b"POST %b HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n%b" % (path.encode(), len(body), body)
    sent = events(STREAMS[path])
    counts = b'"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}'
    usage = b'data: {"id":"%b","choices":[],%b}\n\n' % (sent.split(b'"id":"')[1].split(b'"')[0], counts)
    counted = path in {"/v1/chat/completions", "/v1/completions"}
    if counted and usage not in sent and b'"choices":[]' not in sent:
        sent = sent.replace(b"data: [DONE]", usage + b"data: [DONE]")
    answer = HEAD + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces(sent, framing)) + b"0\r\n\r\n"
    asyncio.run(bench.relay(pieces(request, sends), pieces(answer, reads)))

    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="POST", target="/", headers=[("host", "g")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(bench.out.written)
    got, ended = b"", False
    while not ended:
        event = parser.next_event()
        got += bytes(event.data) if isinstance(event, h11.Data) else b""
        ended = isinstance(event, h11.EndOfMessage)
    assert got == (sent if ask_usage or not counted else without_usage(sent))
    (exchange,) = bench.recorder.exchanges
    assert exchange.outcome is Outcome.OK
    assert sum(exchange.itl) == exchange.content_events - 1
    assert (bench.backend.in_flight, bench.backend.pool.idle, bench.client.busy) == (0, 1, False)
