"""State files among gateways that run: two on one, and one that is deleted."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli.commands import app
from gateway.cli.problems import problems
from tests.e2e.harness import gateway
from tests.e2e.processes import running, serving
from tests.waiting import DEADLINE, eventually, patient_client

pytestmark = pytest.mark.anyio
BACKEND = "http://127.0.0.1:9"


def with_rollout(model: str) -> str:
    return json.dumps(
        {
            "pools": {"old": {"backends": [BACKEND]}, "new": {"backends": ["http://127.0.0.1:10"]}},
            "models": {
                model: {
                    "versions": {"v1": {"pools": ["old"]}, "v2": {"pools": ["new"]}},
                    "canary": {"stable": "v1", "candidate": "v2"},
                }
            },
        }
    )


async def state_of(admin: str) -> dict[str, Any]:
    async with patient_client() as web:
        found = (await web.get(f"{admin}/admin/status")).json()
    told: dict[str, Any] = found["state"]
    told["problems"] = [each.what for each in problems(found) if "state" in each.what]
    return told


async def test_one_with_other_routes_on_the_same_file_says_who_leads_and_what_it_misses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.control.sharing.LEASE_SECONDS", 0.1)
    state = f"sqlite:///{tmp_path / 'state.sqlite'}"
    (tmp_path / "other").mkdir()
    async with (
        gateway(tmp_path, with_rollout("theirs"), state=state, wait_ready=False) as first,
        gateway(tmp_path / "other", with_rollout("ours"), state=state, wait_ready=False) as second,
    ):
        await eventually(lambda: bool(second.app.control.sharing.problem))
        told = await state_of(second.admin)
        assert (told["leads"], told["where"], told["not_saved"]) == (False, state, "")
        (problem,) = told["problems"]
        assert problem == told["shared"]
        assert f"with {tmp_path / 'routes.yaml'}) keeps its state in {state} too, and leads there" in problem
        assert "rollouts do not begin here (ours)" in problem
        assert [
            record.levelname for record in caplog.records if "give this one its own with --state" in record.message
        ] == ["WARNING"]
        for asked, saved in ((first, True), (second, False)):
            drain = ["drain", asked.backend(0).id, "--admin", asked.admin]
            drained = await asyncio.to_thread(CliRunner().invoke, app, drain)
            is_told = f"not saved: another gateway leads {state}, so a restart will undo this\n" in drained.stderr
            assert is_told is not saved
        leader = await state_of(first.admin)
        assert (leader["leads"], leader["shared"], leader["problems"]) == (True, "", [])
        first.app.stop()
        first.app.stop()
        await asyncio.wait({first.task}, timeout=DEADLINE)
        await eventually(lambda: second.app.control.flusher.token > 0)
        await eventually(lambda: not second.app.control.sharing.problem)


async def test_two_with_the_same_routes_may_share_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.control.sharing.LEASE_SECONDS", 0.0)
    state = f"sqlite:///{tmp_path / 'state.sqlite'}"
    (tmp_path / "other").mkdir()
    async with (
        gateway(tmp_path, with_rollout("m"), state=state, wait_ready=False),
        gateway(tmp_path / "other", with_rollout("m"), state=state, wait_ready=False) as second,
    ):
        saved = second.app.control.flusher.saved_at or 0.0
        await eventually(lambda: (second.app.control.flusher.saved_at or 0.0) > saved + 2.5)
        told = await state_of(second.admin)
        assert (told["leads"], told["shared"], told["problems"]) == (False, "", [])


async def test_one_that_is_deleted_under_a_gateway_is_there_again_with_what_it_held(tmp_path: Path) -> None:
    state = tmp_path / "state.sqlite"
    drained = "m/127.0.0.1:9"
    async with serving(tmp_path, [BACKEND]) as first:
        async with running("gateway.cli", "drain", drained, "--admin", first.urls[1]) as asked:
            assert await asked.ended() == 0
        await eventually(lambda: drained in documents(state))
        state.unlink()
        await first.said("the state file was deleted: it is written again with everything that it held")
        await eventually(state.exists)
        first.process.kill()
        await first.ended()
    async with serving(tmp_path, [BACKEND]) as second, patient_client() as web:
        found = (await web.get(f"{second.urls[1]}/admin/status")).json()
        assert [each["drained"] for each in found["backends"]] == [True]
        assert not [line for line in second.err if "damaged" in line]


def documents(state: Path) -> list[str]:
    with closing(sqlite3.connect(state)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM documents")]
