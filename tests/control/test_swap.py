"""A reload is made beside what is in force, and put in force in one piece."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateway.data_plane import DataPlane
from gateway.policy.slo.objective import Sli
from gateway.policy.slo.series import Kind
from gateway.settings import Settings
from gateway.wire.slices import finish
from tests.control.tables import models, written
from tests.waiting import HandClock


def plane(folder: Path, clock: HandClock) -> DataPlane:
    routes = written(folder / "routes.yaml", models("http://a:1", "http://b:1"))
    return DataPlane(Settings(routes=folder, access_log=False), routes, clock=clock, epoch=clock, rng=Random(1))


def in_force(data: DataPlane) -> tuple[object, ...]:
    """Return all that requests meet."""
    pools = {name: (pool, tuple(pool.members)) for name, pool in data.registry.pools.items()}
    lines = [(line, line.neighbours) for model in data.current.table for line in model.memory.lines.values()]
    counts = (data.ledger.requests, data.ledger.attempts, data.ledger.pools, list(data.ledger))
    return data.current.table, data.current.tenants, data.current.routes, list(data.registry), pools, lines, counts


def test_whatever_piece_it_ends_at_nothing_has_changed(tmp_path: Path) -> None:
    data = plane(tmp_path, HandClock())
    before = in_force(data)
    other = written(tmp_path / "other.yaml", models("http://b:1", "http://c:1"))
    pieces = len(list(data.swapping(other)))
    data = plane(tmp_path, HandClock())
    before = in_force(data)
    for ends in range(pieces):
        work = data.swapping(other)
        for _ in range(ends):
            next(work)
        work.close()
        assert in_force(data) == before
    finish(data.swapping(other))
    assert data.current.routes is other
    assert not any("a:1" in backend.id for backend in data.registry)


@pytest.mark.parametrize(
    "other",
    [
        models("http://a:1", "http://b:1"),
        models("http://a:1", "http://c:1"),
        {**models("http://a:1"), "objectives": {"default": {"availability": {"target": 98}}}},
    ],
)
def test_what_is_counted_while_it_is_made_is_not_lost(tmp_path: Path, other: dict[str, Any]) -> None:
    clock = HandClock()
    data = plane(tmp_path, clock)
    (model,) = data.current.table
    counted = 0
    for _ in data.swapping(written(tmp_path / "other.yaml", other)):
        counted += 1
        counts = data.ledger.of_request(model.name, next(iter(model.versions)), "")
        assert counts is not None
        counts.count_request(dict.fromkeys(counts.objective.targets, True), (0, 0), 10, 5)
        clock.advance(0.25)
        data.ledger.advance(clock())
    after = data.ledger.of_request(model.name, next(iter(model.versions)), "")
    assert after is not None
    assert (after.met, after.tokens) == (counted, 5 * counted)
    (series,) = [each for each in data.ledger.get(Kind.MODEL, model.name) if each.sli == Sli.AVAILABILITY]
    assert series.windows.count(60.0).good == counted


def test_a_second_reload_follows_the_first(tmp_path: Path) -> None:
    data = plane(tmp_path, HandClock())
    for urls in (("http://b:1",), ("http://a:1", "http://c:1")):
        routes = written(tmp_path / "next.yaml", models(*urls))
        before = data.current.table
        assert finish(data.swapping(routes)) is before
        finish(data.current.renewing(before))
        assert len(data.registry) == len(urls)
        (model,) = data.current.table
        assert [len(version.backends) for version in model.versions.values()] == [len(urls)]
