"""Reloading routes: all or nothing, and again as soon as what was wrong has changed."""

import json
import time
from pathlib import Path

import pytest

from gateway.config.itself import Listening
from gateway.config.problems import RoutesError
from gateway.config.table import RouteTable
from gateway.control.reload import Reloader
from gateway.wire.slices import Slices
from tests.control.tables import models, written

pytestmark = pytest.mark.anyio


class Routes:
    """A route file, and the tables that were put in force."""

    def __init__(self, folder: Path, listeners: tuple[Listening, ...] = (), slices: Slices | None = None) -> None:
        self.file, self.applied = folder / "routes.yaml", list[RouteTable]()
        before = written(self.file, models("http://a:1"))
        self.reloader = Reloader(self.file, before, self.put_in_force, listeners=listeners, slices=slices)
        self.reloader.mark()

    async def put_in_force(self, table: RouteTable) -> None:
        self.applied.append(table)

    def write(self, text: str) -> None:
        self.file.write_text(text)

    async def look_twice(self) -> None:
        """Look as often as a change takes to count: it may have been half written the first time."""
        for _ in range(2):
            await self.reloader.look()


async def test_good_routes_are_put_in_force(tmp_path: Path) -> None:
    routes = Routes(tmp_path)
    routes.write(json.dumps(models("http://a:1", name="other")))
    table = await routes.reloader.reload()
    assert list(table.models) == ["other"]
    assert routes.applied == [table] == [routes.reloader.table]
    assert (routes.reloader.loads, routes.reloader.failures, routes.reloader.failure) == (1, 0, None)


async def test_wrong_routes_change_nothing_and_say_what_is_wrong(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    routes = Routes(tmp_path)
    before = routes.reloader.table
    routes.write("models: {m: {backends: [nonsense]}}")
    with pytest.raises(RoutesError):
        await routes.reloader.reload()
    assert (routes.applied, routes.reloader.table) == ([], before)
    assert (routes.reloader.loads, routes.reloader.failures) == (0, 1)
    assert routes.reloader.failure is not None
    assert "routes not loaded, the old ones stay in use" in caplog.text


async def test_a_good_load_ends_the_failure(tmp_path: Path) -> None:
    routes = Routes(tmp_path)
    routes.write("nonsense")
    await routes.reloader.again()
    assert routes.reloader.failure is not None
    routes.write(json.dumps(models("http://b:1")))
    await routes.reloader.again()
    assert routes.reloader.failure is None


async def test_a_change_of_the_file_is_seen_once(tmp_path: Path) -> None:
    routes = Routes(tmp_path)
    await routes.look_twice()
    assert routes.reloader.loads == 0
    routes.write(json.dumps(models("http://b:1")))
    await routes.look_twice()
    await routes.look_twice()
    assert routes.reloader.loads == 1


async def test_a_change_of_a_secret_is_seen_too_even_where_it_was_missing(tmp_path: Path) -> None:
    routes = Routes(tmp_path)
    secret = {"url": "http://a:1", "api_key_file": "key"}
    routes.write(json.dumps({"models": {"m": {"backends": [secret]}}}))
    await routes.look_twice()
    assert (routes.reloader.loads, routes.reloader.failures) == (0, 1)
    (tmp_path / "key").write_text("s3cret")
    await routes.look_twice()
    assert routes.reloader.loads == 1
    (tmp_path / "key").write_text("another")
    await routes.look_twice()
    assert routes.reloader.loads == 2
    (spec,) = routes.reloader.table.pools["m"].backends
    assert spec.api_key == "another"


async def test_no_backend_may_be_the_gateway_itself(tmp_path: Path) -> None:
    routes = Routes(tmp_path, (Listening("127.0.0.1", 8080),))
    routes.write(json.dumps(models("http://127.0.0.1:8080")))
    with pytest.raises(RoutesError):
        await routes.reloader.reload()


async def test_large_files_are_loaded_in_another_process_and_put_in_force_as_others_are(tmp_path: Path) -> None:
    routes = Routes(tmp_path, slices=Slices(time.monotonic))
    large = json.dumps(models("http://a:1", name="large")) + "\n# a comment" * 20_000
    routes.write(large)
    table = await routes.reloader.reload()
    assert list(table.models) == ["large"]
    assert routes.applied == [table]
    routes.write(large.replace("http://a:1", "nonsense"))
    with pytest.raises(RoutesError):
        await routes.reloader.reload()
    assert routes.reloader.table is table
