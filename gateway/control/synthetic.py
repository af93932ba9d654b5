"""Synthetic requests: an engine is asked something small, the way users do."""

import httpx

from gateway.backends.backend import Backend

SECONDS = 30.0
_QUESTIONS = (
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "ping"}], "max_tokens": 1}),
    ("/v1/completions", {"prompt": "ping", "max_tokens": 1}),
    ("/v1/embeddings", {"input": "ping"}),
)


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
