"""The demo's load: gentle, mixed, seeded, and only to this machine."""

import asyncio
import contextlib
from random import Random
from typing import Any

import httpx

MODEL = "demo-chat"
_WORDS = ("the", "tide", "comes", "in", "over", "the", "harbour", "wall", "and", "the", "boats", "rise", "with", "it")
_MAX_AT_ONCE = 64


class Load:
    """Asks about `rate` times a second until cancelled; what is asked is drawn from `rng`."""

    def __init__(self, url: str, rate: float, rng: Random) -> None:
        self._url = url
        self._rate = rate
        self._rng = rng
        self._asking: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Ask, with arrivals as independent clients make them."""
        async with httpx.AsyncClient(base_url=self._url, timeout=60.0, trust_env=False) as client:
            try:
                while True:
                    await asyncio.sleep(self._rng.expovariate(self._rate))
                    if len(self._asking) < _MAX_AT_ONCE:
                        task = asyncio.create_task(self._ask(client))
                        self._asking.add(task)
                        task.add_done_callback(self._asking.discard)
            finally:
                for task in self._asking:
                    task.cancel()
                await asyncio.gather(*self._asking, return_exceptions=True)

    async def _ask(self, client: httpx.AsyncClient) -> None:
        path, body = self._request()
        # An error shows in the table: the gateway counts it.
        with contextlib.suppress(httpx.HTTPError):
            async with client.stream("POST", path, json=body) as answer:
                async for _ in answer.aiter_raw():
                    pass

    def _request(self) -> tuple[str, dict[str, Any]]:
        kind = self._rng.random()
        text = " ".join(self._rng.choices(_WORDS, k=self._rng.choice((20, 60, 200))))
        tokens = self._rng.choice((8, 16, 32, 64))
        if kind < 0.8:
            messages = [{"role": "user", "content": text}]
            return "/v1/chat/completions", {"model": MODEL, "messages": messages, "stream": True, "max_tokens": tokens}
        if kind < 0.9:
            messages = [{"role": "user", "content": text}]
            return "/v1/chat/completions", {"model": MODEL, "messages": messages, "max_tokens": tokens}
        if kind < 0.95:
            return "/v1/completions", {"model": MODEL, "prompt": text, "stream": True, "max_tokens": tokens}
        return "/v1/embeddings", {"model": MODEL, "input": text}
