"""Asking an engine whether it lives and what it serves."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import httpx

from gateway.backends.backend import Backend
from gateway.config.table import BackendSpec
from gateway.policy.routing import readiness

_LONGEST = 10**9
"""More tokens than any context has."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe found: None for `failure` when all is well, None for `models` when the engine did not tell.

    `models` maps each name to its context length in tokens, None where the engine does not tell that.
    """

    failure: str | None
    silent: bool = False
    models: Mapping[str, int | None] | None = None


async def probe(client: httpx.AsyncClient, backend: Backend) -> ProbeResult:
    """Ask `/health`, then `/v1/models`. An engine without a list of models is taken at its health's word."""
    base, fields = base_url(backend.spec), headers(backend.spec)
    try:
        health = await client.get(f"{base}/health", headers=fields)
        if health.status_code == 508:
            return ProbeResult("it is this gateway itself: what is sent there comes back")
        if health.status_code >= 500:
            return ProbeResult(f"/health answers {health.status_code}")
        models = await client.get(f"{base}/v1/models", headers=fields)
    except httpx.TimeoutException:
        return ProbeResult("no answer to a probe in time", silent=True)
    except httpx.HTTPError as error:
        return ProbeResult(f"probe failed: {error or type(error).__name__}")
    if models.status_code >= 500:
        return ProbeResult(f"/v1/models answers {models.status_code}")
    return ProbeResult(None, models=listed(models))


def apply(backend: Backend, result: ProbeResult) -> None:
    """Move the backend's state by what a probe found."""
    if result.failure is not None:
        backend.readiness = readiness.probe_failed(backend.readiness, result.failure, silent=result.silent)
        return
    backend.readiness = readiness.probe_passed(backend.readiness)
    backend.models = result.models


@cache
def system_roots() -> ssl.SSLContext:
    """Return what control calls trust, as requests do: the roots of the system, loaded once since that takes 20 ms."""
    return ssl.create_default_context()


def base_url(spec: BackendSpec) -> str:
    """Return the URL that control calls begin with."""
    scheme = "https" if spec.tls else "http"
    host = f"[{spec.host}]" if ":" in spec.host else spec.host
    return f"{scheme}://{host}:{spec.port}{spec.base_path}"


def headers(spec: BackendSpec) -> dict[str, str]:
    """Return the fields that control calls carry."""
    return {"authorization": f"Bearer {spec.api_key}"} if spec.api_key else {}


def listed(response: httpx.Response) -> dict[str, int | None] | None:
    """Return the models that an engine's list names, with their `max_model_len`; None when it is no list."""
    if response.status_code != 200:
        return None
    try:
        return {str(card["id"]): _context(card) for card in response.json()["data"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _context(card: Mapping[str, object]) -> int | None:
    length = card.get("max_model_len")
    return length if type(length) is int and 0 < length <= _LONGEST else None
