"""Asking an engine for its own metrics."""

import httpx

from gateway.backends import probe
from gateway.backends.exposed import EngineMetrics, extract
from gateway.backends.reading import read
from gateway.config.table import BackendSpec

MAX_BODY = 4 * 1024 * 1024


async def scrape(client: httpx.AsyncClient, spec: BackendSpec) -> EngineMetrics | None:
    """Return what an engine says of itself; None when it has no metrics, or they cannot be read or are beyond 4 MiB."""
    try:
        _, body = await read(client, f"{probe.base_url(spec)}/metrics", probe.headers(spec), most=MAX_BODY)
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
    found = extract(body) if body is not None else EngineMetrics()
    return found if found != EngineMetrics() else None
