"""Asking engines what the checkup looks at. Bounded in time, size and number; costs no tokens."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from gateway.backends import probe
from gateway.backends.reading import read
from gateway.config.table import BackendSpec, RouteTable
from gateway.doctor.checkup import Answers, Finding, examine
from gateway.rules.engine import needed_buckets

TIMEOUT = 5.0
MAX_BODY = 4 * 1024 * 1024
AT_ONCE = 16
_REJECTED = (401, 403)


@dataclass(frozen=True, slots=True)
class Checkup:
    """What was found in one backend."""

    backend: str
    findings: tuple[Finding, ...]


async def check_all(table: RouteTable) -> list[Checkup]:
    """Return what is found in every backend of the routes, in their order."""
    gate = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as client:

        async def check(spec: BackendSpec) -> Checkup:
            async with gate:
                answers = await ask(client, spec)
            served = _served_models(table, spec.pool)
            needed = [each for each in needed_buckets(table) if each.served_model in served]
            return Checkup(spec.id, tuple(examine(answers, served, needed)))

        specs = [spec for pool in table.pools.values() for spec in pool.backends]
        return list(await asyncio.gather(*map(check, specs)))


async def ask(client: httpx.AsyncClient, spec: BackendSpec) -> Answers:
    """Return what an engine answers."""
    base, headers = probe.base_url(spec), probe.headers(spec)
    try:
        async with asyncio.timeout(TIMEOUT):
            health, _ = await read(client, f"{base}/health", headers, most=0)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        return Answers(unreachable=str(error) or type(error).__name__)
    (status, models), (_, version), (_, metrics) = [
        await _read(client, f"{base}{path}", headers) for path in ("/v1/models", "/version", "/metrics")
    ]
    listed = probe.listed(models)
    return Answers(
        health=health,
        rejected=status if status in _REJECTED else 0,
        version=_version(version),
        models=None if listed is None else frozenset(listed),
        metrics=None if metrics is None else metrics.decode(errors="replace"),
    )


async def _read(client: httpx.AsyncClient, url: str, headers: dict[str, str]) -> tuple[int, bytes | None]:
    """Return the status and the body of an answer, 0 and none where there is no answer."""
    try:
        async with asyncio.timeout(TIMEOUT):
            return await read(client, url, headers, most=MAX_BODY)
    except (httpx.HTTPError, TimeoutError):
        return 0, None


def _version(body: bytes | None) -> str | None:
    """Return `version` of what /version answers; None for anything else."""
    if body is None:
        return None
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return str(answer["version"])[:64] if isinstance(answer, dict) and "version" in answer else None


def _served_models(table: RouteTable, pool: str) -> Sequence[str]:
    return list(
        dict.fromkeys(
            version.served_model
            for model in table.models.values()
            for version in model.versions.values()
            if pool in version.pools
        )
    )
