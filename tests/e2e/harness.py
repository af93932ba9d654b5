"""Real sockets at both ends of a real gateway: a scripted backend, a raw client, and the gateway between them."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h11

from gateway.app import Addresses, App, Settings
from gateway.backends.backend import Backend
from gateway.config.load import load_routes
from gateway.control.drain import DrainTimes
from gateway.exchange import AttemptEnd, Exchange
from gateway.wire.client import Client
from gateway.wire.guard import Limits

DEADLINE = 10.0


async def eventually(condition: Callable[[], bool], seconds: float = DEADLINE) -> None:
    """Wait for a condition; fails when it does not come in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


class Call:
    """One request as the scripted backend sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> None:
        self.reader = reader
        self.writer = writer
        self.head = head
        self.body = body
        self.gone = asyncio.Event()

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
    port: int = 0
    calls: list[Call] = field(default_factory=list)
    connections: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        counted = False
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.split(b"\r\n")
                        if line.lower().startswith(b"content-length")
                    ),
                    0,
                )
                body = await reader.readexactly(length)
                if head.startswith(b"GET"):
                    self._answer_probe(writer, head)
                    continue
                if not counted:
                    self.connections += 1
                    counted = True
                call = Call(reader, writer, head, body)
                self.calls.append(call)
                await self.script(call)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        except RuntimeError as error:
            if "closed" not in str(error):  # uvloop's word for writing to a connection that has gone
                raise
        finally:
            writer.close()

    def _answer_probe(self, writer: asyncio.StreamWriter, head: bytes) -> None:
        if head.startswith(b"GET /v1/models"):
            body = json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body.encode()))
        else:
            writer.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\n\r\n" % self.health)


@dataclass
class Recorder:
    """An observer that keeps what it is told."""

    exchanges: list[Exchange] = field(default_factory=list)
    attempts: list[tuple[str, AttemptEnd]] = field(default_factory=list)
    retries: list[AttemptEnd] = field(default_factory=list)

    def attempt_ended(self, exchange: Exchange, backend: Backend, end: AttemptEnd) -> None:
        self.attempts.append((backend.id, end))

    def retried(self, exchange: Exchange, end: AttemptEnd) -> None:
        self.retries.append(end)

    def settled(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)


@dataclass
class Running:
    """A gateway that serves."""

    app: App
    data: str
    admin: str
    records: Recorder
    task: asyncio.Task[None]

    @property
    def port(self) -> int:
        return int(self.data.rsplit(":", 1)[1])

    @property
    def connections(self) -> list[Client]:
        """The clients that are connected."""
        return self.app.connections()

    def backend(self, index: int = 0) -> Backend:
        return list(self.app.registry)[index]

    @property
    def in_flight(self) -> int:
        return sum(backend.in_flight for backend in self.app.registry)

    async def quiet(self, seconds: float = DEADLINE) -> None:
        """Wait until nothing is in progress anywhere: what every test of a fault ends with."""
        await eventually(lambda: self.in_flight == 0 and not self.app.busy_connections, seconds)

    async def settled(self, count: int = 1) -> Exchange:
        """Wait until exactly `count` requests have settled and nothing is left; return the last."""
        await eventually(lambda: len(self.records.exchanges) >= count)
        await self.quiet()
        assert len(self.records.exchanges) == count, [e.reason for e in self.records.exchanges]
        return self.records.exchanges[-1]

    async def ready(self, *backends: int) -> None:
        """Wait until backends (all by default) have been probed as ready."""
        wanted = list(self.app.registry)
        chosen = [wanted[i] for i in backends] if backends else wanted
        await eventually(lambda: all(backend.readiness.state == "ready" for backend in chosen))


def routes(*urls: str, model: str = "m", **timeouts: str) -> str:
    """Return routes with one model on these backends."""
    limits = {"connect": "500ms", "first_token": "5s", "stall": "5s", "total": "20s"} | timeouts
    spec = {"models": {model: {"backends": list(urls), "timeouts": limits}}}
    return json.dumps(spec)


@asynccontextmanager
async def gateway(
    folder: Path, text: str, *, limits: Limits | None = None, drain: DrainTimes | None = None, wait_ready: bool = True
) -> AsyncIterator[Running]:
    """Run a gateway on free ports until the block ends."""
    path = folder / "routes.yaml"
    path.write_text(text)
    settings = Settings(
        routes=path,
        port=0,
        admin_port=0,
        access_log=False,
        limits=limits or Limits(),
        drain=drain or DrainTimes(0.0, 5.0),
    )
    records = Recorder()
    app = App(settings, load_routes(path), records)
    addresses: asyncio.Future[Addresses] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(app.run(addresses.set_result))
    await asyncio.wait({task, addresses}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    where = addresses.result()
    running = Running(app, where.data, where.admin, records, task)
    if wait_ready:
        await running.ready()
    try:
        yield running
    finally:
        app.stop()
        app.stop()
        async with asyncio.timeout(DEADLINE):
            await task


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


@dataclass
class Answer:
    """An answer as the raw client got it: every byte, and what h11 makes of them."""

    raw: bytes
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RawClient:
    """A client that writes whatever bytes a test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._left = b""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, method: str = "POST") -> Answer:
        """Read one answer, or what comes of it before the connection ends."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        parser.send(h11.EndOfMessage())
        answer = Answer(b"")
        data = self._left
        async with asyncio.timeout(DEADLINE):
            while True:
                if data:
                    parser.receive_data(data)
                    answer.raw += data
                if self._take(parser, answer):
                    self._left = parser.trailing_data[0]
                    return answer
                try:
                    data = await self.reader.read(65536)
                except ConnectionError:
                    return answer
                if not data:
                    return answer

    @staticmethod
    def _take(parser: h11.Connection, answer: Answer) -> bool:
        while (event := parser.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Response):
                answer.status = event.status_code
                answer.headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                answer.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                answer.complete = True
                return True
            elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return True
        return False

    async def closed(self) -> bool:
        """Return whether the gateway has closed this connection (waits for it)."""
        async with asyncio.timeout(DEADLINE):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass
        return True

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def connect(port: int) -> RawClient:
    return RawClient(*await asyncio.open_connection("127.0.0.1", port))


def post(body: Any, *, path: str = "/v1/chat/completions", headers: str = "") -> bytes:
    """Return the bytes of a POST."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"POST %b HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (
        path.encode(),
        headers.encode(),
        len(data),
        data,
    )


def chat(stream: bool = True, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream, **more}


async def ask(port: int, body: Any, *, path: str = "/v1/chat/completions", headers: str = "") -> Answer:
    """Send one request on a connection of its own and read its answer."""
    client = await connect(port)
    try:
        await client.send(post(body, path=path, headers=headers))
        return await client.answer()
    finally:
        client.close()


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


async def good(call: Call) -> None:
    """Answer streams and documents as asked."""
    if b'"stream": true' in call.body or b'"stream":true' in call.body:
        await good_stream(call)
    else:
        await call.send(whole(b"200 OK", JSON_ANSWER))
