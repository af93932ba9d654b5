"""What the tour does to the demo: break engines and mend them, add load, steer the rollout."""

import asyncio

import httpx

from gateway.cli.demo.load import Load
from gateway.cli.demo.rollout import STATUS
from gateway.processes.child import ProcessDied

_REFUSED = 409


class Scene:
    """The engines by URL, the gateway's admin listener, and a flood of batch requests that waits to be let loose."""

    def __init__(self, client: httpx.AsyncClient, admin: str, flood: Load) -> None:
        self._client = client
        self._admin = admin
        self._flood = flood
        self._flooding: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Scene {self._admin}{' flooded' if self._flooding else ''}>"

    async def set_faults(self, engine: str, **faults: float) -> None:
        """Put faults in force at an engine; without any it is well again."""
        await self._post(f"{engine}/sim/faults", faults)

    async def steer(self, action: str, reason: str) -> None:
        """Ask for a change of the rollout. If the gateway refuses it, the next reading says why."""
        await self._post(f"{self._admin}{STATUS}/{action}", {"reason": reason})

    async def flood(self) -> None:
        """Let the flood loose."""
        self._flooding = asyncio.create_task(self._flood.run())

    async def calm(self) -> None:
        """End the flood; its clients hang up."""
        if self._flooding is not None:
            self._flooding.cancel()
            await asyncio.gather(self._flooding, return_exceptions=True)
            self._flooding = None

    async def _post(self, url: str, body: dict[str, float] | dict[str, str]) -> None:
        try:
            answer = await self._client.post(url, json=body)
            if answer.status_code != _REFUSED:
                answer.raise_for_status()
        except httpx.HTTPError as error:
            # Let the end of a process be told as such, if it is one.
            await asyncio.sleep(1)
            raise ProcessDied(f"{url} cannot be used: {error!r}") from None
