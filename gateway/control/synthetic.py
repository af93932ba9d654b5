"""Synthetic requests: an engine is asked something small, the way users do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from gateway.backends.backend import Backend
from gateway.backends.reading import read
from gateway.backends.roots import system_roots

SECONDS = 30.0
_MOST = 1024 * 1024
"""Bytes of an answer that are read: an embedding may have 100 KB."""
_QUESTIONS = (
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "ping"}], "max_tokens": 1}),
    ("/v1/completions", {"prompt": "ping", "max_tokens": 1}),
    ("/v1/embeddings", {"input": "ping"}),
)


@asynccontextmanager
async def asking(tasks: dict[str, asyncio.Task[None]]) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client for synthetic requests; in the end, cancel and forget the `tasks` that still ask with it."""
    async with httpx.AsyncClient(timeout=SECONDS, trust_env=False, verify=system_roots()) as client:
        try:
            yield client
        finally:
            for task in tasks.values():
                task.cancel()
            tasks.clear()


async def answers(client: httpx.AsyncClient, backend: Backend, served_model: str) -> bool:
    """Return whether an engine answers something small for a model; raises httpx.HTTPError."""
    key = backend.spec.api_key
    headers = {"authorization": f"Bearer {key}"} if key else {}
    for path, question in _QUESTIONS:
        url, asked = f"{backend.spec.url}{path}", {"model": served_model, **question}
        try:
            async with asyncio.timeout(SECONDS):
                _, body = await read(client, url, headers, most=_MOST, question=asked)
        except TimeoutError:
            return False
        if body is not None:
            return True
    return False
