"""The simulated server's endpoints, listed in one place."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response

from gateway.sim.answers import encode
from gateway.sim.audio import Audio
from gateway.sim.control import Control
from gateway.sim.door import Door, Gate
from gateway.sim.errors import ApiError
from gateway.sim.generation import Generation
from gateway.sim.information import Information
from gateway.sim.pooling import Pooling
from gateway.sim.simulation import Simulation
from gateway.sim.sleep import SleepMode

Endpoint = Callable[[Request], Awaitable[Response]]


def engine_app(simulation: Simulation, control: Control) -> FastAPI:
    """Everything that vLLM serves, and /sim for what a simulation can do besides."""
    door = Door(simulation)
    generation = Generation(simulation, door)
    audio = Audio(simulation, door)
    pooling = Pooling(simulation, door)
    information = Information(simulation, door)
    app = _bare_app()
    posts: dict[str, Endpoint] = {
        "/v1/chat/completions": generation.chat,
        "/v1/completions": generation.completions,
        "/v1/responses": generation.responses,
        "/v1/messages": generation.messages,
        "/v1/audio/transcriptions": audio.transcriptions,
        "/v1/audio/translations": audio.translations,
        "/v1/embeddings": pooling.embeddings,
        "/v1/rerank": pooling.rerank,
        "/v2/rerank": pooling.rerank,
        "/rerank": pooling.rerank,
        "/v1/score": pooling.score,
        "/score": pooling.score,
        "/pooling": pooling.pooling,
        "/classify": pooling.classify,
        "/tokenize": information.tokenize,
        "/detokenize": information.detokenize,
    }
    for path, endpoint in posts.items():
        app.add_route(path, endpoint, methods=["POST"])
    gets: dict[str, Endpoint] = {
        "/v1/models": information.models,
        "/health": information.health,
        "/version": information.version,
        "/load": information.load,
        "/metrics": information.metrics,
    }
    for path, endpoint in gets.items():
        app.add_route(path, endpoint, methods=["GET"])
    if simulation.settings.sleep_mode:
        SleepMode(simulation).add_to(app)
    control.add_to(app)
    app.add_middleware(Gate, settings=simulation.settings)
    return app


def control_app(control: Control) -> FastAPI:
    """Only /sim, for a listener that stays up while the engine's refuses connections."""
    app = _bare_app()
    control.add_to(app)
    return app


def _bare_app() -> FastAPI:
    app = FastAPI(openapi_url=None)
    app.add_exception_handler(ApiError, _answer_error)
    return app


async def _answer_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    return Response(encode(error.body), status_code=error.status, media_type="application/json")
