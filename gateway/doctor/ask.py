"""Asking engines what the checkup looks at. Bounded in time, size and number; costs no tokens."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from gateway.backends import probe
from gateway.config.table import BackendSpec, RouteTable
from gateway.doctor.checkup import Answers, Finding, examine
from gateway.rules.engine import needed_buckets

TIMEOUT = 5.0
MAX_BODY = 4 * 1024 * 1024
AT_ONCE = 16


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
        health = await client.get(f"{base}/health", headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Answers(unreachable=str(error) or type(error).__name__)
    models, version, metrics = [
        await _text(client, f"{base}{path}", headers) for path in ("/v1/models", "/version", "/metrics")
    ]
    listed = probe.listed(httpx.Response(200, text=models)) if models is not None else None
    return Answers(
        health=health.status_code,
        version=_version(version),
        models=None if listed is None else frozenset(listed),
        metrics=metrics,
    )


async def _text(client: httpx.AsyncClient, url: str, headers: dict[str, str]) -> str | None:
    body = bytearray()
    try:
        async with asyncio.timeout(TIMEOUT), client.stream("GET", url, headers=headers) as answer:
            if answer.status_code != 200:
                return None
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MAX_BODY:
                    return None
    except (httpx.HTTPError, TimeoutError):
        return None
    return body.decode(errors="replace")


def _version(text: str | None) -> str | None:
    """Return `version` of what /version answers; None for anything else."""
    if text is None:
        return None
    try:
        answer = httpx.Response(200, text=text).json()
    except ValueError:
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
