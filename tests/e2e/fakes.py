"""A scripted backend on real sockets, and what engines send."""

import asyncio
import atexit
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from loadtest.bench.listening import Listener
from tests.waiting import DEADLINE


class KeptPorts:
    """Ports of backends that have stopped: connections are refused there, and no other test gets one of them.

    Gateways go on asking a backend that has gone; on its port, a backend of a test beside this one would be asked.
    """

    def __init__(self, most: int = 200) -> None:
        self._most = most
        self._sockets: dict[int, socket.socket] = {}

    def keep(self, port: int) -> None:
        """Keep a port until it is given back, or so many others are kept."""
        if port in self._sockets:
            return
        kept = socket.socket()
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            kept.bind(("127.0.0.1", port))  # and nobody listens
        except OSError:  # another was faster
            kept.close()
            return
        self._sockets[port] = kept
        if len(self._sockets) > self._most:
            self.give_back(next(iter(self._sockets)))

    def give_back(self, port: int) -> None:
        """Let somebody listen there again."""
        if kept := self._sockets.pop(port, None):
            kept.close()

    def give_all_back(self) -> None:
        """Let somebody listen on each of them again."""
        for port in list(self._sockets):
            self.give_back(port)


KEPT_PORTS = KeptPorts()
atexit.register(KEPT_PORTS.give_all_back)


class Call:
    """One request as the scripted backend sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> None:
        self.reader = reader
        self.writer = writer
        self.head = head
        self.body = body
        self.gone = asyncio.Event()
        self.passed = asyncio.Event()
        """Set by a test whose client has what was sent so far."""

    @property
    def path(self) -> str:
        return self.head.split(b" ")[1].decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    async def send(self, *parts: bytes) -> None:
        """Send parts, each in a write of its own."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Close with RST."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def until_gone(self) -> None:
        """Wait until the gateway has closed the connection."""
        async with asyncio.timeout(DEADLINE):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass
        self.gone.set()


Script = Callable[[Call], Awaitable[None]]


@dataclass
class FakeBackend:
    """A server that answers probes by itself and everything else by `script`, on one connection after the other."""

    script: Script
    models: tuple[str, ...] = ("m",)
    health: bytes = b"200 OK"
    metrics: bytes = b""
    silent: bool = False
    max_model_len: int | None = None
    port: int = 0
    host: str = "127.0.0.1"
    calls: list[Call] = field(default_factory=list)
    connections: int = 0
    _listener: Listener | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def open(self) -> int:
        """How many connections are open to it."""
        return 0 if self._listener is None else self._listener.open

    async def start(self) -> None:
        KEPT_PORTS.give_back(self.port)
        self._listener = Listener(self._connection)
        self.port = await self._listener.start(self.port, host=self.host)

    async def stop(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.stop()
            KEPT_PORTS.keep(self.port)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counted = False
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
            body = await reader.readexactly(int(lines[0].split(b":")[1]) if lines else 0)
            if head.startswith(b"GET") and not head.startswith(b"GET /v1/responses/"):
                self._answer_probe(writer, head)
                continue
            if not counted:
                self.connections += 1
                counted = True
            call = Call(reader, writer, head, body)
            self.calls.append(call)
            await self.script(call)

    def _answer_probe(self, writer: asyncio.StreamWriter, head: bytes) -> None:
        if self.silent:
            return
        if head.startswith(b"GET /v1/models"):
            length = {"max_model_len": self.max_model_len} if self.max_model_len else {}
            cards = [{"id": name, "object": "model", **length} for name in self.models]
            body = json.dumps({"object": "list", "data": cards})
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body.encode()))
        elif head.startswith(b"GET /metrics"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(self.metrics), self.metrics))
        else:
            writer.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\n\r\n" % self.health)


@asynccontextmanager
async def backends(*scripts: Script) -> AsyncIterator[list[FakeBackend]]:
    """Run scripted backends until the block ends."""
    fakes = [FakeBackend(script) for script in scripts]
    for fake in fakes:
        await fake.start()
    try:
        yield fakes
    finally:
        for fake in fakes:
            await fake.stop()


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def event(content: str | None = None, finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    """Return a chat chunk as vLLM sends it."""
    delta = {} if content is None else {"content": content}
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    data = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
        **more,
    }
    return b"data: %b\n\n" % json.dumps(data, separators=(",", ":")).encode()


ROLE = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}\n\n'
)
USAGE = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],'
    b'"usage":{"prompt_tokens":7,"total_tokens":10,"completion_tokens":3}}\n\n'
)
DONE = b"data: [DONE]\n\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


def whole(status: bytes, body: bytes, headers: bytes = b"") -> bytes:
    """Return a complete JSON answer."""
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (
        status,
        headers,
        len(body),
        body,
    )


JSON_ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"total_tokens":10,"completion_tokens":3}}'
)


async def good_stream(call: Call) -> None:
    """Answer as a healthy engine does."""
    await call.send(STREAM_HEAD, chunked(ROLE), chunked(event("a")), chunked(event("b")))
    tail = [event("c", "stop")]
    if call.json.get("stream_options", {}).get("include_usage"):
        tail.append(USAGE)
    await call.send(chunked(*tail, DONE) + LAST_CHUNK)


async def closed_at_once(call: Call) -> None:
    call.close()


async def reset_at_once(call: Call) -> None:
    call.reset()


async def good(call: Call) -> None:
    """Answer streams and documents as asked."""
    if b'"stream": true' in call.body or b'"stream":true' in call.body:
        await good_stream(call)
    else:
        await call.send(whole(b"200 OK", JSON_ANSWER))
