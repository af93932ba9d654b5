"""A process that sends hostile requests, one kind after the other, and says when each kind began and ended."""

import asyncio
import contextlib
import json
import os
import sys
from time import monotonic

from loadtest.bodies.shapes import requests

_PIECE = 256 * 1024
_PATIENCE = 30.0


async def send(port: int, data: bytes) -> str:
    """Send a request, whatever the gateway thinks of it, and return the status line of the first answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.create_task(reader.readline())
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            view = memoryview(data)
            for at in range(0, len(data), _PIECE):
                writer.write(view[at : at + _PIECE])
                await writer.drain()
            await answer
            while await reader.read(_PIECE):
                pass
    writer.close()
    done = answer.done() and not answer.cancelled() and answer.exception() is None
    if not done:
        answer.cancel()
    return answer.result().decode().strip() if done else "no answer"


async def main(port: int, size: int, at_once: int) -> None:
    """Send `at_once` of each kind at the same time."""
    os.nice(15)  # where cores are few, the one that sends must not take them from those that are measured
    for name, data in requests(size).items():
        began = monotonic()
        answers = await asyncio.gather(*(send(port, data) for _ in range(at_once)))
        print(json.dumps([name, began, monotonic(), answers[0]]), flush=True)
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
