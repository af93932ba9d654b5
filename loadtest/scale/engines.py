"""`python -m loadtest.scale.engines COUNT`: many engines in one process that only answer a gateway's own questions.

Each has a port of its own and answers `/health`, `/v1/models` and `/metrics` with what a real vLLM said
(tests/captures), at next to no cost. Standard output names the ports.
"""

import asyncio
import sys
from pathlib import Path
from typing import cast

import uvloop

MODEL = "tiny"
_CAPTURES = Path(__file__).parents[2] / "tests/captures"
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


def answers() -> dict[bytes, bytes]:
    """Return what a real vLLM answers, head and body, by path."""
    captured = {b"/health": "vllm/health", b"/v1/models": "vllm/models", b"/metrics": "vllm-opts/metrics_noauth"}
    return {path: (_CAPTURES / f"{name}.txt").read_bytes() for path, name in captured.items()}


class Connection(asyncio.Protocol):
    """A connection of a gateway: one answer for every head that comes."""

    def __init__(self, known: dict[bytes, bytes]) -> None:
        self._known = known
        self._transport = cast(asyncio.Transport, None)
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *heads, self._head = (self._head + data).split(b"\r\n\r\n")
        for head in heads:
            path = head.split(b" ", 2)[1]
            self._transport.write(self._known.get(path, _NOT_FOUND))


async def main(count: int) -> None:
    """Listen on so many ports until ended."""
    known, loop = answers(), asyncio.get_running_loop()
    servers = [await loop.create_server(lambda: Connection(known), "127.0.0.1", 0) for _ in range(count)]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    print("listening on", *ports, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
