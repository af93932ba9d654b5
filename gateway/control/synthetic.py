"""Synthetic requests: an engine is asked something small, the way users do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from gateway.backends.backend import Backend
from gateway.backends.probe import system_roots

SECONDS = 30.0
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
        answer = await client.post(
            f"{backend.spec.url}{path}", json={"model": served_model, **question}, headers=headers
        )
        if answer.is_success:
            return True
    return False
