"""`tidegate slo suggest` proposes objectives from requests that were served, which `tidegate check` accepts."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from gateway.cli.commands import app
from gateway.config.load import load_routes
from gateway.policy.slo.observed import TPOT, TTFT
from gateway.policy.slo.series import Kind
from tests.cli.test_asking import tidegate
from tests.e2e.fakes import backends, good
from tests.e2e.harness import Running, ask, chat, gateway
from tests.e2e.machine import machine
from tests.waiting import DEADLINE, eventually, patient_client

pytestmark = pytest.mark.anyio


def routes(url: str, **more: object) -> str:
    model = {"pools": ["gpu"]}
    pool = {"gpu": {"backends": [url]}}
    return json.dumps({"pools": pool, "models": {"m": {"versions": {"v1": model}, **more}}})


async def counted(running: Running, requests: int) -> None:
    (series,) = [each for each in running.app.data.ledger.get(Kind.MODEL, "m") if each.sli == "availability"]
    await eventually(lambda: series.windows.count(series.windows.slo).total >= requests)


def seen(told: dict[str, Any]) -> int:
    """Return how many requests a proposal for the whole time of answers is made from."""
    (objective,) = told["objectives"]
    return sum(each["good"] + each["bad"] for each in objective["targets"] if each["sli"] == "e2e")


async def test_without_data_it_says_how_many_are_missing(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        found = await tidegate(running, "slo", "suggest", "m", status=1)
        assert "too few data to propose anything yet" in found.stderr
        assert "    # ttft: too few data, 0 of 500 events\n" in found.stdout
        unknown = await tidegate(running, "slo", "suggest", "mm", status=1)
        assert "did you mean `m`" in unknown.stderr


async def test_what_it_proposes_is_accepted_as_it_is_printed(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        for length in (4, 4, 40_000):
            await asyncio.gather(*(ask(running.port, chat(user="x" * length)) for _ in range(20)))
        await counted(running, 60)
        profile = running.app.data.latencies.observed["m", "default"]
        for step in (0, 3):  # the rest of a day, as it was observed
            for _ in range(600):
                profile.add(TTFT, step, 0.1 * 4**step)
                profile.add(TPOT, step, 0.02)
        found = await tidegate(running, "slo", "suggest", "m")
        assert "# e2e: too few data, 60 of 500 events" in found.stdout
        assert "burn rate 0, 0 % of the 28d budget in this time; observed at 99 %: " in found.stdout
        proposed = yaml.safe_load(found.stdout)
        ttft = proposed["objectives"]["default-suggested"]["ttft"]
        assert ttft["target"] == 99
        assert list(ttft["by_prompt_tokens"]) == [4096]
        pasted = tmp_path / "pasted.yaml"
        rest = yaml.safe_dump(json.loads(routes(fake.url, objective="default-suggested")))
        pasted.write_text(f"{found.stdout}\n{rest}")
        checked = CliRunner().invoke(app, ["check", str(pasted)])
        assert checked.exit_code == 0, checked.output
        objective = load_routes(pasted).models["m"].objective
        assert [str(sli) for sli in objective.targets] == ["availability", "ttft", "tpot"]
        told = json.loads((await tidegate(running, "slo", "suggest", "m", "--headroom", "100", "--json")).stdout)
        (only,) = told["objectives"]
        (found_ttft,) = [each for each in only["targets"] if each["sli"] == "ttft"]
        assert (found_ttft["bad"], told["headroom"]) == (0, 1.0)


async def test_what_all_workers_have_seen_is_proposed_from(tmp_path: Path) -> None:
    async with backends(good) as (fake,), machine(tmp_path, [fake.url]) as served:
        answered: list[int] = []
        async with asyncio.timeout(DEADLINE):
            while len(answered) < 60 or not all(each["requests"] for each in (await served.status())["workers"]):
                answered += [(await ask(served.port, chat(stream=True))).status for _ in range(10)]
        assert set(answered) == {200}
        async with patient_client(base_url=served.admin) as client:
            path = "/admin/models/m/slo/suggest"
            async with asyncio.timeout(DEADLINE):
                while seen(told := (await client.get(path, params={"target": 90})).json()) < len(answered):
                    await asyncio.sleep(0.05)
            assert seen(told) == len(answered), "of no worker alone"
            assert (told["observed_by"], told["workers"]) == (2, 2)
            assert (await client.get(path, params={"target": 9})).status_code == 422
            assert (await client.get("/admin/models/mm/slo/suggest")).status_code == 404
        command = ["slo", "suggest", "m", "--target", "90", "--admin", served.admin]
        found = await asyncio.to_thread(CliRunner().invoke, app, command)
        assert (
            "# Latencies are those of the requests that all 2 workers have answered since they started.\n"
            in found.stdout
        )


async def test_a_worker_of_another_version_is_left_out_and_that_is_said(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        other = [{"objective": "default", "observed_seconds": 9.0, "counts": {"ttft": [[1, 2]]}}]
        async with patient_client(base_url=running.admin) as client:
            body = {"observed": [other], "workers": 3}
            told = (await client.post("/admin/models/m/slo/suggest", json=body)).json()
            assert (told["observed_by"], told["workers"]) == (1, 3)


async def test_slo_without_a_command_still_shows_models(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        shown = (await tidegate(running, "slo", "m")).stdout
        assert shown == (await tidegate(running, "slo", "show", "m")).stdout
        assert shown == (await tidegate(running, "slo")).stdout
