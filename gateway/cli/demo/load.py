"""The demo's load: gentle, mixed, seeded."""

import asyncio
import contextlib
from collections.abc import Callable
from random import Random
from typing import Any

import httpx

MODEL = "demo-chat"
MOST_AT_ONCE = 64
"""Requests in progress beyond which none is sent, whatever the rate."""

_WORDS = ("tide", "harbour", "boat", "wall", "wave", "moon", "shore", "anchor", "the", "and", "rises", "falls", "with")
Draw = Callable[[Random], tuple[str, dict[str, Any]]]


def draw(rng: Random) -> tuple[str, dict[str, Any]]:
    """Return the path and body of one request: 80 % streamed chat, the rest whole chat, completions, embeddings."""
    kind = rng.random()
    text = prompt(rng)
    if kind < 0.05:
        return "/v1/embeddings", {"model": MODEL, "input": text}
    body = {"model": MODEL, "max_tokens": rng.choice((8, 16, 32, 64)), "stream": kind >= 0.2}
    if kind < 0.1:
        return "/v1/completions", {**body, "prompt": text, "stream": True}
    return "/v1/chat/completions", {**body, "messages": [{"role": "user", "content": text}]}


def prompt(rng: Random) -> str:
    """Return a text to ask about."""
    return " ".join(rng.choices(_WORDS, k=rng.choice((20, 60, 200))))


class Load:
    """Asks about `rate` times a second through `client`; what is asked, and when, is drawn from `rng`."""

    def __init__(
        self, client: httpx.AsyncClient, rate: float, rng: Random, *, of: Draw = draw, service_class: str = ""
    ) -> None:
        self._client = client
        self._rate = rate
        self._rng = rng
        self._draw = of
        self._headers = {"x-gateway-class": service_class} if service_class else {}
        self._asking: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Load {self._rate:g}/s {len(self._asking)} in flight>"

    async def run(self) -> None:
        """Ask until cancelled, with arrivals as independent clients make them (a Poisson process)."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while True:
                due += self._rng.expovariate(self._rate)
                await asyncio.sleep(due - loop.time())
                if len(self._asking) < MOST_AT_ONCE:
                    task = asyncio.create_task(self._ask(*self._draw(self._rng)))
                    self._asking.add(task)
                    task.add_done_callback(self._asking.discard)
        finally:
            for task in self._asking:
                task.cancel()
            await asyncio.gather(*self._asking, return_exceptions=True)

    async def _ask(self, path: str, body: dict[str, Any]) -> None:
        # An error shows in the table: the gateway counts it.
        with contextlib.suppress(httpx.HTTPError):
            async with self._client.stream("POST", path, json=body, headers=self._headers) as answer:
                async for _ in answer.aiter_raw():
                    pass
