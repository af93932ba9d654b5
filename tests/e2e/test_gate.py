"""`tidegate gate` through the real listener: 0 for go, 1 for stop, 2 where it cannot tell."""

import asyncio
import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.commands import app
from gateway.policy.canary.rollout import Phase
from gateway.policy.slo.series import Kind
from tests.cli.test_asking import tidegate
from tests.e2e.fakes import backends, good
from tests.e2e.harness import gateway
from tests.e2e.test_canary import in_phase, post, routes
from tests.e2e.test_canary_budget import remember
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_a_quiet_gateway_says_go_and_a_rollout_stops_until_it_is_over(tmp_path: Path) -> None:
    async with backends(good, good) as (old, new):
        async with gateway(tmp_path, routes(old.url, new.url, start="manual", hold="30s")) as running:
            quiet = await tidegate(running, "gate", "m")
            assert quiet.stdout == "go\nnote: no requests have been counted yet\n"
            await post(running, "start")
            await in_phase(running, Phase.STEP)
            stopped = await tidegate(running, "gate", "m", "--despite-budget", status=1)
            assert stopped.stdout.startswith("stop: the rollout of v2 is in progress at 10 % of requests: wait until")
            told = json.loads((await tidegate(running, "gate", "m", "--json", status=1)).stdout)
            assert (told["verdict"], told["rollout"]["phase"], told["rollout"]["weight"]) == ("stop", "step", 10.0)
            await post(running, "rollback", "enough")
            over = await tidegate(running, "gate", "m")
            assert "note: v2 was rolled back: enough\n" in over.stdout


async def test_a_spent_budget_stops_but_for_a_fix_and_an_alias_will_do(tmp_path: Path) -> None:
    objective = {"availability": {"target": 95}}
    async with backends(good, good) as (old, new):
        document = json.loads(routes(old.url, new.url, objective=objective, start="manual"))
        document["models"]["m"]["aliases"] = ["team/m"]
        async with gateway(tmp_path, json.dumps(document)) as running:
            (model,) = [each for each in running.app.data.ledger.get(Kind.MODEL, "m") if each.sli == "availability"]
            remember(model.windows, 953, 47)
            told = json.loads((await tidegate(running, "gate", "team/m", "--json", status=1)).stdout)
            assert (told["model"], told["budget_left"], told["freeze_below"]) == ("m", 0.06, 0.1)
            assert [(each["sli"], each["budget"]["bad"]) for each in told["slis"]] == [("availability", 47)]
            assert (await tidegate(running, "gate", "m", "--despite-budget")).stdout.startswith("go: 6.0 % of the ")
            assert (await tidegate(running, "gate", "m", "--freeze-below", "5")).stdout.startswith("go: 6.0 % of the ")


async def test_what_it_cannot_ask_is_neither_go_nor_stop(tmp_path: Path) -> None:
    async with backends(good, good) as (old, new):
        async with gateway(tmp_path, routes(old.url, new.url), token="secret") as running:
            refused = await tidegate(running, "gate", "m", status=2)
            assert "requires a token: set TIDEGATE_ADMIN_TOKEN" in refused.stderr
        async with gateway(tmp_path, routes(old.url, new.url)) as running:
            unknown = await tidegate(running, "gate", "mm", status=2)
            assert unknown.stderr.startswith("cannot tell: ")
            assert "did you mean `m`" in unknown.stderr
            other = await asyncio.to_thread(CliRunner().invoke, app, ["gate", "m", "--admin", running.data])
            assert (other.exit_code, "is the gateway's data port" in other.stderr) == (2, True)
            engine = await asyncio.to_thread(CliRunner().invoke, app, ["gate", "m", "--admin", old.url])
            assert (engine.exit_code, engine.stderr.startswith("cannot tell: ")) == (2, True)
            await eventually(lambda: not running.app.data.busy())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    gone = CliRunner().invoke(app, ["gate", "m", "--json", "--admin", f"http://127.0.0.1:{free}"])
    assert gone.exit_code == 2
    told = json.loads(gone.stdout)
    assert told["verdict"] == "unknown"
    assert told["reasons"][0].startswith(f"no gateway answers at http://127.0.0.1:{free}: Connection refused")
