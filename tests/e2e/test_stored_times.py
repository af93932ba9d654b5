"""A start on any state file: damaged ones are put aside, and times of a clock that was wrong are not believed."""

import contextlib
import json
import math
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.control.rollout_progress import RolloutProgress
from gateway.policy.routing.ejection import USUAL
from gateway.state.sqlite import SqliteStore
from gateway.state.store import Batch, Ejection, Record
from tests.e2e.fakes import backends, good
from tests.e2e.harness import ask, chat, gateway
from tests.e2e.processes import serving
from tests.e2e.test_alert_restarts import outage
from tests.e2e.test_canary import routes
from tests.waiting import eventually, patient_client

pytestmark = pytest.mark.anyio
LONG: dict[str, Any] = {"hold": "10m", "last_hold": "10m", "max_hold": "1h", "start": "manual"}
Wrong = Callable[[float], Any]
WRONG: dict[str, Wrong] = {
    "an hour ahead": lambda at: at + 3600.0,
    "a day ahead": lambda at: at + 86_400.0,
    "an hour behind": lambda at: at - 3600.0,
    "a day behind": lambda at: at - 86_400.0,
    "negative": lambda at: -at,
    "endless": lambda _: math.inf,
    "none": lambda _: math.nan,
    "huge": lambda _: 1e300,
}


def misdate(path: Path, wrong: Wrong) -> None:
    """Change every time in a state file: the columns that hold one, and numbers in documents that look like one."""

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: changed(each) for key, each in value.items()}
        if isinstance(value, list):
            return [changed(each) for each in value]
        return wrong(value) if isinstance(value, float) and value > 1e9 else value

    columns = {"ejections": ("at", "until"), "records": ("at",), "lease": ("until",), "counts": ("first", "last")}
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.create_function("wrong", 1, lambda at: at if at is None else wrong(at))
        for table, names in columns.items():
            for name in names:
                connection.execute(f"UPDATE {table} SET {name} = coalesce(wrong({name}), 0)")  # noqa: S608
        shift = wrong(0.0)
        if abs(shift) < 1e6:
            connection.execute("UPDATE OR IGNORE counts SET slot = slot + CAST(? / width AS INTEGER)", (shift,))
        for kind, name, body in connection.execute("SELECT kind, name, body FROM documents").fetchall():
            text = json.dumps(changed(json.loads(body)))
            connection.execute("UPDATE documents SET body = ? WHERE kind = ? AND name = ?", (text, kind, name))
    connection.close()


def rollout(running: Any) -> RolloutProgress:
    (found,) = running.app.control.rollouts
    assert isinstance(found, RolloutProgress)
    return found


@pytest.mark.parametrize("name", WRONG)
async def test_times_of_a_clock_that_was_wrong_are_not_believed(tmp_path: Path, name: str) -> None:
    path = tmp_path / "state.sqlite"
    state = f"sqlite:///{path}"
    async with backends(good, good) as (stable, candidate):
        text = routes(stable.url, candidate.url, **LONG)
        outage(path, text, ended=3.0)
        async with (
            gateway(tmp_path, text, state=state) as running,
            patient_client(base_url=running.admin) as web,
        ):
            await eventually(lambda: running.app.control.flusher.token > 0)
            started = {"actor": "ann", "reason": "try", "despite_budget": True}
            assert (await web.post("/admin/models/m/canary/start", json=started)).status_code == 200
            deployed = {"model": "m", "version": "v2", "id": "d1"}
            assert (await web.post("/admin/deployments", json=deployed)).status_code == 201
            backend = running.backend(0).id
        now = time.time()
        store = SqliteStore(path)
        store.lead("killed", now, 5.0)
        ejection = Ejection(backend, now - 1, now + 30, "five in a row")
        store.save(Batch(now, ejections=(ejection,), records=(Record(now, "ann", "pause", "m", ""),)))
        store.close()
        misdate(path, WRONG[name])
        async with gateway(tmp_path, text, state=state, wait_ready=False) as running:
            now = time.time()
            for each in running.app.data.registry:
                standing = each.health.outlier.ejection
                assert standing.until - running.app.data.clock() <= USUAL.max_ejection_time
                assert not math.isnan(standing.until)
                if "ahead" in name:
                    assert not standing.out, "an ejection of a time to come"
            for held in (rollout(running).rollout, *rollout(running).history):
                assert 0.0 <= held.since <= now + 1
                assert 0.0 <= held.started <= now + 1
            for incident in running.app.control.alerter._live.values():
                for at in (incident.started, incident.silent, incident.uncovered, incident.ended):
                    assert 0.0 <= at <= now + 1
            for deployment in running.app.control.deployments:
                assert all(0.0 <= at <= now + 1 for at in (*deployment.stages.values(), deployment.ended))
            await running.ready()
            assert (await ask(running.port, chat(stream=False))).status == 200
            running.app.control.alerter.evaluate()
            running.app.control.rollouts.tick()
            async with patient_client(base_url=running.admin) as web:
                for page in ("/metrics", "/admin/status", "/admin/audit", "/admin/deployments", "/admin/models/m/slo"):
                    assert (await web.get(page)).status_code == 200, page
            await eventually(lambda: running.app.control.flusher.token > 0)  # no lease holds for longer than one may


@pytest.mark.parametrize("harm", ["pages", "cut", "no database", "a folder's worth of nothing"])
async def test_a_damaged_state_file_does_not_bar_the_start(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "state.sqlite"
    async with backends(good) as (fake,):
        async with serving(tmp_path, [fake.url]) as served:
            served.process.terminate()
            assert await served.ended() == 0
        data = path.read_bytes()
        damaged = {
            "pages": data[:4096] + os.urandom(len(data) - 4096),
            "cut": data[: len(data) // 2],
            "no database": b"no database" * 1000,
            "a folder's worth of nothing": b"",
        }
        path.write_bytes(damaged[harm])
        async with serving(tmp_path, [fake.url]) as served, patient_client() as web:
            if damaged[harm]:
                told = await served.said("put aside")
                assert "state.sqlite.damaged-20" in told
                assert "lost" in told
            assert (await web.get(f"{served.urls[0]}/ready")).status_code in {200, 503}
            served.process.terminate()
            assert await served.ended() == 0
