"""A short error budget holds rollouts back, and never leaves promotion as the only way out."""

from pathlib import Path

import pytest

from gateway import clock
from gateway.policy.canary.rollout import Phase
from gateway.policy.slo.series import Kind
from gateway.policy.slo.windows import SLO_SLOT, Windows
from tests.e2e.fakes import backends, good
from tests.e2e.harness import gateway
from tests.e2e.processes import serving
from tests.e2e.test_canary import crowd, get, in_phase, now, post, routes
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


def remember(windows: Windows, good_events: int, bad_events: int) -> None:
    """Count events of almost four weeks ago: a budget says nothing before one day of history."""
    slot = int(clock.wall() // SLO_SLOT) - 220
    windows.restore(SLO_SLOT, {slot: (good_events, bad_events, slot * SLO_SLOT, slot * SLO_SLOT + 1.0)})


async def test_a_spent_error_budget_freezes_and_pauses_with_its_numbers(tmp_path: Path) -> None:
    objective = {"availability": {"target": 95}}
    async with backends(good, good) as (old, new):
        text = routes(old.url, new.url, objective=objective, start="manual", hold="30s")
        async with gateway(tmp_path, text) as running:
            (model,) = [each for each in running.app.data.ledger.get(Kind.MODEL, "m") if each.sli == "availability"]
            remember(model.windows, 953, 47)
            refused = await post(running, "start")
            assert refused.status_code == 409
            words = refused.json()["error"]["message"]
            assert words.startswith("6.0 % of the error budget is left, and no rollout starts below 10 %")
            assert "`tidegate canary start m --despite-budget`" in words
            (record,) = await get(running, "/admin/audit")
            assert (record["action"], record["subject"]) == ("start refused", "rollout of m")

            model.windows.good = 1000
            await eventually(lambda: model.windows.count(model.windows.slo).total == 2000)
            assert (await post(running, "start")).status_code == 200
            await in_phase(running, Phase.STEP)
            model.windows.bad = 60
            paused = await in_phase(running, Phase.PAUSED)
            assert "no rollout goes on below 5 % (`pause_below`)" in paused.rollout.reason
            refused = await post(running, "resume")
            assert refused.status_code == 409
            assert "no rollout goes on below 5 %" in refused.json()["error"]["message"]


async def test_minutes_of_failures_freeze_nothing(tmp_path: Path) -> None:
    """A newcomer's first rollout, on a process that is seconds old and has failed once or twice: it goes on."""
    async with backends(good, good) as (old, new):
        async with gateway(tmp_path, routes(old.url, new.url, start="manual", hold="30s")) as running:
            (model,) = [each for each in running.app.data.ledger.get(Kind.MODEL, "m") if each.sli == "availability"]
            model.windows.good, model.windows.bad = 30, 5
            await eventually(lambda: model.windows.count(model.windows.slo).total == 35)
            assert (await post(running, "start")).status_code == 200
            await in_phase(running, Phase.STEP)
            status = await get(running, "/admin/models/m/canary")
            assert status["error_budget_remaining"] is None
            assert status["outlook"]
            assert status["command"] == "tidegate canary report m"


async def test_a_person_may_start_despite_the_budget_and_goes_step_by_step(tmp_path: Path) -> None:
    objective = {"availability": {"target": 95}}
    async with backends(good, good) as (old, new):
        text = routes(old.url, new.url, objective=objective, start="manual", hold="200ms")
        async with gateway(tmp_path, text) as running:
            (model,) = [each for each in running.app.data.ledger.get(Kind.MODEL, "m") if each.sli == "availability"]
            remember(model.windows, 100, 900)
            frozen = await get(running, "/admin/models/m/canary")
            assert frozen["command"] == "tidegate canary start m --despite-budget"
            started = await post(running, "start", "the remedy", despite_budget=True)
            assert started.status_code == 200
            await in_phase(running, Phase.STEP)
            async with crowd(running.port, fresh=True):
                await eventually(lambda: now(running).rollout.share > 10)
            shares = [each.share for each in now(running).history if each.phase is Phase.STEP]
            assert shares[:2] == [10.0, 50.0]
            assert "(despite the error budget)" in [each.reason for each in now(running).history][1]


async def test_a_paused_rollout_gains_nothing_by_an_edit_of_its_steps(tmp_path: Path) -> None:
    """16 of 300 requests became 75, without a record, and history said that it had always been so."""
    async with backends(good, good) as (old, new):
        async with gateway(tmp_path, routes(old.url, new.url, steps=[5, 50], hold="30s")) as running:
            await in_phase(running, Phase.STEP)
            await post(running, "pause", "lunch")
            (tmp_path / "routes.yaml").write_text(routes(old.url, new.url, steps=[25, 50], hold="30s"))
            await running.app.control.reloader.reload()
            status = await get(running, "/admin/models/m/canary")
            assert (status["phase"], status["weight"]) == ("paused", 5.0)
            assert [each["weight"] for each in status["history"]] == [0.0, 0.0, 5.0, 5.0]
            record = (await get(running, "/admin/audit"))[0]
            assert (record["actor"], record["action"]) == ("reload", "change")
            assert any("promotion or rollback will not survive" in each for each in status["notes"])


async def test_serve_says_at_its_start_that_promotions_will_not_survive_without_lasting_state(tmp_path: Path) -> None:
    async with backends(good, good) as (old, new):
        text = routes(old.url, new.url)
        async with serving(tmp_path, [], "--state", "memory://", text=text) as child:
            assert "--state" in await child.said("a promotion or rollback will not survive")
        async with serving(tmp_path, [], text=text) as child:
            assert not any("will not survive" in line for line in child.err)
