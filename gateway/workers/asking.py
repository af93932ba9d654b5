"""Asking workers through their own admin listeners, each at a path that only this user can reach."""

import asyncio
import logging
from collections.abc import Iterable, Mapping

import httpx

from gateway.workers.process import Stage, WorkerProcess

_log = logging.getLogger(__name__)
_SECONDS = 10.0
_HOST = "http://localhost"


class Asking:
    """One client for each worker."""

    def __init__(self) -> None:
        self._clients: dict[WorkerProcess, httpx.AsyncClient] = {}

    async def ask(
        self,
        worker: WorkerProcess,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        seconds: float = _SECONDS,
    ) -> httpx.Response | None:
        """Return what a worker answers, None where it does not in time."""
        client = self._clients.get(worker)
        if client is None:
            transport = httpx.AsyncHTTPTransport(uds=worker.admin)
            client = httpx.AsyncClient(transport=transport, base_url=_HOST, trust_env=False)
            self._clients[worker] = client
        try:
            return await client.request(method, path, content=body, headers=headers, timeout=seconds)
        except httpx.HTTPError as error:
            if worker.stage is not Stage.RETIRING:
                _log.warning("a worker does not answer", extra={"worker": worker.pid, "reason": repr(error)})
            return None

    async def ask_all(
        self, workers: Iterable[WorkerProcess], path: str, seconds: float = _SECONDS
    ) -> list[tuple[WorkerProcess, httpx.Response]]:
        """Return what those workers answer that do, in the same order."""
        asked = [each for each in workers if each.stage is not Stage.STARTING]
        answers = await asyncio.gather(*(self.ask(each, "GET", path, seconds=seconds) for each in asked))
        return [
            (worker, answer)
            for worker, answer in zip(asked, answers, strict=True)
            if answer is not None and answer.is_success
        ]

    async def forget(self, worker: WorkerProcess) -> None:
        """Close the connections to a worker that has ended."""
        client = self._clients.pop(worker, None)
        if client is not None:
            await client.aclose()
