from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from gateway.sim.profiles import GPU
from gateway.sim.server import SimServer, running
from gateway.sim.settings import Settings
from tests.waiting import patient_client

SMALL = replace(GPU, max_model_len=2048, num_blocks=256)
FAST = Settings(profile=SMALL, models=("tiny",), time_scale=0.0, output_tokens=1000)
"""The model of the captures; answers are as long as they may be, and come at once."""

Served = tuple[SimServer, httpx.AsyncClient]
Serve = Callable[..., AbstractAsyncContextManager[Served]]


@asynccontextmanager
async def serving(**changes: Any) -> AsyncIterator[Served]:
    async with (
        running(replace(FAST, **changes)) as sim,
        patient_client(base_url=sim.url) as client,
    ):
        yield sim, client


@pytest.fixture
def serve() -> Serve:
    """Starts a simulated server with changed settings, and a client of it."""
    return serving


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of a simulated server with the settings of the captures."""
    async with serving() as (_, client):
        yield client
