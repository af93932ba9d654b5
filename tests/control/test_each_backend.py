"""One task for each backend, as long as the routes name it."""

import asyncio
from pathlib import Path

import pytest

from gateway.backends.backend import Backend
from gateway.control.each_backend import for_each_backend
from tests.control.tables import models, registered, written
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


class Watched:
    """What is watched, and what its watch was ended for."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []

    async def watch(self, backend: Backend) -> None:
        self.begun.append(backend.spec.host)
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.append(backend.spec.host)


async def test_backends_that_come_are_watched_and_those_that_go_are_not_any_more(tmp_path: Path) -> None:
    registry = registered(written(tmp_path / "routes.yaml", models("http://a:1", "http://b:1")))
    watched = Watched()
    running = asyncio.create_task(for_each_backend(registry.watched, watched.watch, "watch", every=0.001))
    await eventually(lambda: sorted(watched.begun) == ["a", "b"])
    registry.reconcile(written(tmp_path / "routes.yaml", models("http://b:1", "http://c:1")))
    await eventually(lambda: watched.begun[2:] == ["c"] and watched.ended == ["a"])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert sorted(watched.ended) == ["a", "b", "c"]


async def test_each_task_is_named_after_its_backend(tmp_path: Path) -> None:
    registry = registered(written(tmp_path / "routes.yaml", models("http://a:1")))
    running = asyncio.create_task(for_each_backend(registry.watched, Watched().watch, "probe", every=0.001))
    await eventually(lambda: "probe m/a:1" in {task.get_name() for task in asyncio.all_tasks()})
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_watch_that_breaks_ends_no_other(tmp_path: Path) -> None:
    registry, watched = registered(written(tmp_path / "routes.yaml", models("http://a:1", "http://b:1"))), Watched()

    async def watch(backend: Backend) -> None:
        if backend.spec.host == "a":
            raise RuntimeError("no watch")
        await watched.watch(backend)

    running = asyncio.create_task(for_each_backend(registry.watched, watch, "watch", every=0.001))
    await eventually(lambda: watched.begun == ["b"])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert watched.ended == ["b"]
