"""A candidate's cold backends are asked something small until they are warm, so that no user meets a cold start."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.control import warming
from gateway.control.warming import Warmer
from gateway.policy.canary.rollout import Phase
from gateway.policy.canary.warmth import Warmth
from gateway.policy.routing import readiness
from tests.control.tables import in_force, registered, versions, written
from tests.e2e.fakes import Call, backends
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
WARM_UP = 3


class Rollout:
    """One model's rollout, as far as warming goes."""

    def __init__(self, phase: Phase) -> None:
        self.model, self.rollout = "m", SimpleNamespace(phase=phase)
        self.plan = SimpleNamespace(candidate="v2", warm_up=WARM_UP)
        self.warmth = Warmth(WARM_UP, 60.0)


class Rollouts:
    """The rollouts that there are."""

    def __init__(self, *running: Rollout) -> None:
        self.running = running

    def __iter__(self) -> Any:
        return iter(self.running)

    def get(self, model: str) -> Rollout | None:
        return next((each for each in self.running if each.model == model), None)

    def warmed(self, model: str, backend: str) -> None:
        running = self.get(model)
        assert running is not None
        running.warmth.answered(backend, 0.0)


async def answer(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")


@asynccontextmanager
async def warmed(tmp_path: Path, phase: Phase, *, leads: bool = True) -> AsyncIterator[tuple[list[Call], list[Call]]]:
    """Warm the backends of a model; give what those of stable and of the candidate were asked."""
    async with backends(answer, answer) as (stable, candidate):
        routes = written(tmp_path / "routes.yaml", versions(stable.url, candidate.url))
        registry = registered(routes)
        for backend in registry:
            backend.learn(readiness.probe_passed(backend.readiness))
            backend.availability.list_models({"m": None, "v1": None, "v2": None})
        warmer = Warmer(cast(Any, Rollouts(Rollout(phase))), in_force(routes, registry), lambda: leads)
        running = asyncio.create_task(warmer.run())
        try:
            yield stable.calls, candidate.calls
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "INTERVAL", 0.001)


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.STEP, Phase.PAUSED])
async def test_a_cold_backend_of_the_candidate_is_asked_as_often_as_it_takes_to_be_warm(
    tmp_path: Path, phase: Phase
) -> None:
    async with warmed(tmp_path, phase) as (stable, candidate):
        await eventually(lambda: len(candidate) == WARM_UP)
        for _ in range(20):
            await asyncio.sleep(0)
        assert (len(stable), len(candidate)) == (0, WARM_UP)
        assert candidate[0].json["messages"]


@pytest.mark.parametrize(("phase", "leads"), [(Phase.PROMOTED, True), (Phase.ROLLED_BACK, True), (Phase.STEP, False)])
async def test_what_is_over_or_led_by_another_gateway_is_not_warmed(tmp_path: Path, phase: Phase, leads: bool) -> None:
    async with warmed(tmp_path, phase, leads=leads) as (_, candidate):
        looks = 0

        def looked() -> bool:
            nonlocal looks
            looks += 1
            return looks > 20

        await eventually(looked)
        assert not candidate
