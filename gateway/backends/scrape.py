"""Asking an engine for its own metrics."""

from typing import Final

from gateway.backends import probe
from gateway.backends.backend import Backend
from gateway.backends.exposed import EngineMetrics, extract
from gateway.wire.control_client import ControlClient
from gateway.wire.control_connection import ControlError

MAX_BODY: Final = 4 * 1024 * 1024


async def scrape(client: ControlClient, backend: Backend, *, patience: float, until: float) -> EngineMetrics | None:
    """Return what an engine says of itself; None when it has no metrics, or they cannot be read or are beyond 4 MiB.

    The engine may be silent for `patience` seconds, and has time `until` then.
    """
    try:
        asked = probe.question(backend, b"/metrics")
        answer = await client.ask(asked, most=MAX_BODY, patience=patience, until=until)
    except ControlError:
        return None
    body = answer.body
    found = extract(body) if body is not None else EngineMetrics()
    return found if found != EngineMetrics() else None
