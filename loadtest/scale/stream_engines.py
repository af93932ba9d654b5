"""Engines that cost next to nothing: one process that plays any number of them, by path, for `loadtest.scale`.

`python -m loadtest.scale.stream_engines MODELS PACE`: each engine serves that many models and is asked under a path
of its own. A stream gets a chunk every PACE seconds, for as long as its client stays.
"""

import asyncio
import contextlib
import sys
from collections import deque
from typing import cast

import uvloop

from loadtest.scale.size import model_name

_CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_FRAME = b"%x\r\n%b\r\n" % (len(_CHUNK), _CHUNK)
_REPORT = b"vllm:num_requests_running 1\nvllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0.1\n"
_ANSWER = b'{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"a"}}],\
"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
_TURNS = 50


def _answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class Engine(asyncio.Protocol):
    """One connection; the path says what is asked, whichever engine it names."""

    def __init__(self, models: bytes, streams: "Streams") -> None:
        self._models, self._streams = models, streams
        self._received = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head, length = self._received[:end], 0
            for line in head.split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            if len(self._received) < end + 4 + length:
                return
            body, self._received = self._received[end + 4 : end + 4 + length], self._received[end + 4 + length :]
            self._serve(head.split(b" ", 2)[1], body)

    def _serve(self, path: bytes, body: bytes) -> None:
        if path.endswith(b"/v1/models"):
            self.transport.write(_answer(self._models))
        elif path.endswith(b"/metrics"):
            self.transport.write(_answer(_REPORT))
        elif path.endswith(b"/health"):
            self.transport.write(_answer(b""))
        elif b'"stream":true' in body.replace(b" ", b""):
            self.transport.write(_STREAM + _FRAME)
            self._streams.open(self)
        else:
            self.transport.write(_answer(_ANSWER))

    def connection_lost(self, _: Exception | None) -> None:
        self._streams.gone(self)

    def chunk(self) -> None:
        self.transport.write(_FRAME)


class Streams:
    """All open streams; a few of them get their next chunk in each turn, so that the load is even."""

    def __init__(self) -> None:
        self._open: set[Engine] = set()
        self._round: deque[Engine] = deque()

    def open(self, engine: Engine) -> None:
        self._open.add(engine)

    def gone(self, engine: Engine) -> None:
        self._open.discard(engine)

    async def run(self, pace: float) -> None:
        while True:
            await asyncio.sleep(pace / _TURNS)
            for _ in range(len(self._open) // _TURNS + 1):
                if not self._round:
                    self._round.extend(self._open)
                if self._round and (engine := self._round.popleft()) in self._open:
                    engine.chunk()


async def _serve(models: int, pace: float) -> None:
    cards = ",".join(f'{{"id":"{model_name(each)}","max_model_len":32768}}' for each in range(models))
    streams, listed = Streams(), f'{{"object":"list","data":[{cards}]}}'.encode()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Engine(listed, streams), "127.0.0.1", 0, backlog=4096)
    print(f"engines on {server.sockets[0].getsockname()[1]}", flush=True)
    await streams.run(pace)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
