"""Asking an engine for its own metrics."""

import httpx

from gateway.backends import probe
from gateway.backends.exposed import EngineMetrics, extract
from gateway.config.table import BackendSpec

MAX_BODY = 4 * 1024 * 1024


async def scrape(client: httpx.AsyncClient, spec: BackendSpec) -> EngineMetrics | None:
    """Return what an engine says of itself; None when it has no metrics, or they cannot be read or are beyond 4 MiB."""
    try:
        async with client.stream("GET", f"{probe.base_url(spec)}/metrics", headers=probe.headers(spec)) as answer:
            if answer.status_code != 200:
                return None
            body = bytearray()
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MAX_BODY:
                    return None
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
    found = extract(bytes(body))
    return found if found != EngineMetrics() else None
