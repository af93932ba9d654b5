"""vLLM's sleep mode: an engine that gives its memory back, and serves nothing until it is woken."""

import asyncio

from fastapi import FastAPI, Request, Response

from gateway.sim.answers import encode
from gateway.sim.errors import ENGINE_DEAD, ApiError
from gateway.sim.simulation import Simulation


class SleepMode:
    """`/sleep`, `/wake_up` and `/is_sleeping`, as vLLM has them with `VLLM_SERVER_DEV_MODE=1`.

    A request that meets a sleeping engine kills it, as it has killed real ones.
    """

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._turn = asyncio.Lock()

    def add_to(self, app: FastAPI) -> None:
        """Add the endpoints to an app."""
        app.add_route("/sleep", self.sleep, methods=["POST"])
        app.add_route("/wake_up", self.wake_up, methods=["POST"])
        app.add_route("/is_sleeping", self.is_sleeping, methods=["GET"])

    async def sleep(self, request: Request) -> Response:
        """POST /sleep?level=1: an empty answer."""
        level = request.query_params.get("level", "1")
        if level not in {"1", "2"}:
            raise ApiError(400, f"level must be 1 or 2, got {level}.", param="level")
        self._check_alive()
        self._simulation.engine.sleep_level = int(level)
        self._simulation.sleeps += 1
        return Response(status_code=200)

    async def wake_up(self, _: Request) -> Response:
        """POST /wake_up: an empty answer, once the engine is awake."""
        self._check_alive()
        simulation = self._simulation
        simulation.wakes += 1
        async with self._turn:
            if simulation.engine.sleep_level:
                await asyncio.sleep(simulation.settings.wake_seconds)
                self._check_alive()
                simulation.engine.sleep_level = 0
        return Response(status_code=200)

    async def is_sleeping(self, _: Request) -> Response:
        """GET /is_sleeping."""
        self._check_alive()
        body = {"is_sleeping": self._simulation.engine.sleep_level > 0}
        return Response(encode(body), media_type="application/json")

    def _check_alive(self) -> None:
        if self._simulation.board.current.dead:
            raise ApiError(500, ENGINE_DEAD)
