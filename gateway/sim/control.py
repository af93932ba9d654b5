"""/sim: what tests and demonstrations ask of a simulated server while it runs."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from pydantic import ValidationError

from gateway.sim.answers import encode
from gateway.sim.errors import ApiError
from gateway.sim.faults import Faults
from gateway.sim.simulation import Simulation

_PATHS = {
    "GET /sim/state": "what the engine is doing",
    "GET /sim/faults": "the faults in force",
    "POST /sim/faults": "replace the faults in force, by a JSON object of some of the `faults` below",
    "DELETE /sim/faults": "all well again",
}


class Control:
    """Shows the engine's state and sets faults. `on_refusal` is told whether, and for how long, to refuse connections.

    `survives_refusal` says that these endpoints can be reached while connections are refused.
    """

    def __init__(
        self, simulation: Simulation, on_refusal: Callable[[Faults], Awaitable[None]], *, survives_refusal: bool
    ) -> None:
        self._simulation = simulation
        self._on_refusal = on_refusal
        self._survives_refusal = survives_refusal

    def add_to(self, app: FastAPI) -> None:
        """Add the endpoints to an app."""
        app.add_route("/sim", self.index, methods=["GET"])
        app.add_route("/sim/state", self.state, methods=["GET"])
        app.add_route("/sim/faults", self.show, methods=["GET"])
        app.add_route("/sim/faults", self.set, methods=["POST"])
        app.add_route("/sim/faults", self.clear, methods=["DELETE"])

    async def index(self, request: Request) -> Response:
        """GET /sim: what can be asked here."""
        return _json({"paths": _PATHS, "faults": Faults().model_dump()})

    async def state(self, request: Request) -> Response:
        """GET /sim/state."""
        return _json(self._simulation.state())

    async def show(self, request: Request) -> Response:
        """GET /sim/faults: the faults in force, every field."""
        return _json(self._simulation.board.current.model_dump())

    async def set(self, request: Request) -> Response:
        """POST /sim/faults: replace the faults in force; 400 names each wrong field and how to fix it."""
        try:
            faults = Faults.model_validate_json(await request.body())
        except ValidationError as error:
            raise ApiError(400, _explain(error), param=_field(error)) from None
        if faults.refuse and faults.refuse_seconds is None and not self._survives_refusal:
            message = "refuse: nothing could clear it: give refuse_seconds instead, or start with --control-port"
            raise ApiError(400, message, param="refuse")
        return await self._apply(faults)

    async def clear(self, request: Request) -> Response:
        """DELETE /sim/faults: all well again. Answers that have stalled or broken stay so."""
        return await self._apply(Faults())

    async def _apply(self, faults: Faults) -> Response:
        self._simulation.set_faults(faults)
        await self._on_refusal(faults)
        return _json(faults.model_dump())


def _explain(error: ValidationError) -> str:
    problems = [f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in error.errors()]
    known = ", ".join(Faults.model_fields)
    return f"{'; '.join(problems)}. Known faults: {known}"


def _field(error: ValidationError) -> str | None:
    location = error.errors()[0]["loc"]
    return str(location[0]) if location else None


def _json(document: object) -> Response:
    return Response(encode(document), media_type="application/json")
