"""The clients of `loadtest.scale`: streams that stay open, and plain requests beside them."""

import asyncio
from itertools import count
from typing import cast

from loadtest.scale.size import Size, key, model_name

_AT_ONCE = 200
_PATIENCE = 120.0


def _request(size: Size, number: int, *, stream: bool) -> bytes:
    model, said = model_name(number % size.models), "true" if stream else "false"
    body = f'{{"model":"{model}","stream":{said},"messages":[{{"role":"user","content":"a word"}}]}}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key(number % size.tenants)}"
    return f"{head}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()


class Client(asyncio.Protocol):
    """One connection: says when it was answered, or that it broke; what comes after that is thrown away."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self.answered.done():
            self.answered.set_result(data)

    def connection_lost(self, _: Exception | None) -> None:
        if not self.answered.done():
            self.answered.set_exception(ConnectionError("the gateway closed a connection"))

    async def ask(self, request: bytes) -> None:
        """Send a request and wait for the beginning of its answer; raises ConnectionError for another than 200."""
        if self.answered.done():
            self.answered = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        async with asyncio.timeout(_PATIENCE):
            answer = await self.answered
        if not answer.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(answer.decode(errors="replace"))


class Traffic:
    """Everything that clients do to one gateway."""

    def __init__(self, size: Size, port: int) -> None:
        self._size, self._port = size, port
        self._streams: list[Client] = []

    async def _client(self) -> Client:
        _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", self._port)
        return client

    async def touch(self) -> None:
        """Send each model a request, so that everything is counted that can be."""
        client = await self._client()
        for number in range(self._size.models):
            await client.ask(_request(self._size, number, stream=False))
        client.transport.close()

    async def open(self) -> None:
        """Open all streams, some at a time."""
        numbers = iter(range(self._size.streams))

        async def some() -> None:
            for number in numbers:
                client = await self._client()
                await client.ask(_request(self._size, number, stream=True))
                self._streams.append(client)

        await asyncio.gather(*(some() for _ in range(_AT_ONCE)))

    async def ask(self, rate: float) -> None:
        """Send plain requests, so many a second, until cancelled."""
        client = await self._client()
        for number in count():
            await client.ask(_request(self._size, number * 7, stream=False))
            await asyncio.sleep(1 / rate)

    def lost(self) -> int:
        """Return how many streams have ended, which none should."""
        return sum(client.transport.is_closing() for client in self._streams)

    def close(self) -> None:
        for client in self._streams:
            client.transport.abort()
