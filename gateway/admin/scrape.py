"""GET /metrics: made in slices, so that requests pass in between, and for no client that has hung up meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from fastapi import Request, Response
from starlette.responses import StreamingResponse

from gateway.telemetry.exposition import Exposition
from gateway.telemetry.families import negotiate

_LOOK = 0.25
"""Seconds between two looks whether the client is still there."""
_NOBODY = Response(status_code=499)


async def scrape(request: Request, exposition: Exposition, accept: str) -> Response:
    """Return Prometheus or OpenMetrics text, sent in blocks."""
    open_metrics, content_type = negotiate(accept)
    making: asyncio.Task[list[bytes]] | None = None
    try:
        while making is None or not making.done():
            if await request.is_disconnected():
                return _NOBODY
            if making is None:
                making = asyncio.create_task(exposition.text(open_metrics=open_metrics))
            await asyncio.wait((making,), timeout=_LOOK)
        blocks = making.result()
    finally:
        if making is not None:
            making.cancel()
    length = str(sum(map(len, blocks)))
    return StreamingResponse(_sent(blocks), headers={"content-length": length, "content-type": content_type})


async def _sent(blocks: Sequence[bytes]) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block
