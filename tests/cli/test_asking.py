"""`tidegate canary`, `drain`, `deploy` and `audit` against a gateway that runs."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from gateway.cli.canary import phase_words
from gateway.cli.commands import app
from gateway.policy.canary.rollout import Phase
from tests.e2e.fakes import backends, good
from tests.e2e.harness import Running, ask, chat, gateway
from tests.e2e.test_canary import in_phase, now, routes
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


async def tidegate(running: Running, *arguments: str, status: int = 0) -> Result:
    """Run a command as a person would, while the gateway goes on."""
    result = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--admin", running.admin])
    assert result.exit_code == status, result.output
    return result


async def test_a_rollout_is_watched_and_steered_from_a_shell(tmp_path: Path) -> None:
    async with backends(good, good) as (old, new):
        text = routes(old.url, new.url, start="manual", hold="30s")
        async with gateway(tmp_path, text) as running:
            refused = await tidegate(running, "canary", "pause", "m", status=1)
            assert refused.stderr == "tidegate: cannot pause a rollout that is idle; possible: promote, start\n"
            told = json.loads((await tidegate(running, "audit", "--json")).stdout)
            assert [each["action"] for each in told] == ["pause refused"]
            started = await tidegate(running, "canary", "start", "m", "--reason", "night shift")
            assert started.stdout.startswith("m: v1 -> v2\nwaiting, candidate at 0 % of requests\n")
            assert "started by " in started.stdout
            await in_phase(running, Phase.STEP)
            again = await tidegate(running, "canary", "start", "m")
            assert "already started: nothing was changed" in again.stdout
            for number in range(40):
                await ask(running.port, chat(), headers=f"x-session-id: s{number}\r\n")
            await eventually(lambda: now(running).decision.reason.startswith("held for"))

            status = await tidegate(running, "canary", "status", "m")
            assert "step 1 of 3, candidate at 10 % of requests" in status.stdout
            assert "night shift" in status.stdout
            report = await tidegate(running, "canary", "report", "m")
            assert "availability" in report.stdout
            assert "set aside" in report.stdout
            assert "of 100: held for" in report.stdout
            told = json.loads((await tidegate(running, "canary", "report", "m", "--json")).stdout)
            versions = {each["version"]: each for each in told["versions"]}
            assert versions["v1"]["requests"] + versions["v2"]["requests"] == 40
            assert versions["v1"]["ttft"]["p50"] > 0
            totals = [(each["sli"], each["stable_total"] + each["candidate_total"]) for each in told["slis"]]
            assert totals[0] == ("availability", 40)
            raw = json.loads((await tidegate(running, "canary", "promote", "m", "--json")).stdout)
            assert (raw["phase"], raw["weight"]) == ("promoted", 100.0)

            audit = (await tidegate(running, "audit")).stdout
            assert "promote" in audit
            assert "no reason given" in audit
            records = json.loads((await tidegate(running, "audit", "--json", "--limit", "2")).stdout)
            assert [each["action"] for each in records] == ["promote", "ready"]
            assert "@" in records[0]["actor"]


async def test_backends_are_drained_and_deployments_registered_from_a_shell(tmp_path: Path) -> None:
    async with backends(good, good) as (old, new):
        async with gateway(tmp_path, routes(old.url, new.url, start="manual")) as running:
            name = running.backend(0).id
            gone = json.loads((await tidegate(running, "drain", name, "--wait", "--json")).stdout)
            assert gone == {"backend": name, "draining": True, "drained": True, "in_flight": 0}
            drained = await tidegate(running, "drain", name, "--reason", "new driver")
            assert drained.stdout == f"{name} is drained, 0 requests still in flight\n"
            assert (await tidegate(running, "undrain", name)).stdout == f"{name} gets requests again\n"
            unknown = await tidegate(running, "drain", "blue/nowhere:1", status=1)
            assert "there is no backend `blue/nowhere:1`" in unknown.stderr

            identity = (await tidegate(running, "deploy", "m", "v2", "--id", "run-7")).stdout.strip()
            assert identity == "run-7"
            assert "run-7" in (await tidegate(running, "deployments")).stdout
            (one,) = json.loads((await tidegate(running, "deployments", "--json")).stdout)
            assert (one["model"], one["version"], one["result"]) == ("m", "v2", "running")
            missing = await tidegate(running, "deploy", "m", "v9", status=1)
            assert missing.stderr == "tidegate: the model `m` has no version `v9`; there are v1, v2\n"


async def test_drain_waits_until_the_last_request_has_ended_or_its_time_is_over(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def held(call: Any) -> None:
        await release.wait()
        await good(call)

    async with backends(held) as (fake,):
        async with gateway(tmp_path, json.dumps({"models": {"m": {"backends": [fake.url]}}})) as running:
            name = running.backend(0).id
            stream = asyncio.create_task(ask(running.port, chat()))
            await eventually(lambda: len(fake.calls) == 1)
            late = await tidegate(running, "drain", name, "--wait", "--timeout", "600ms", status=1)
            assert f"{name} is not drained after 0.6 s: 1 request still in flight" in late.stderr
            waiting = asyncio.create_task(tidegate(running, "drain", name, "--wait", "--timeout", "2m"))
            release.set()
            assert (await stream).status == 200
            assert (await waiting).stdout.endswith(f"{name} has no request in flight: it may be stopped\n")
            assert (await tidegate(running, "undrain", name)).stdout == f"{name} gets requests again\n"
            for wrong in (("--timeout", "5s"), ("--wait", "--timeout", "soon")):
                assert "--timeout" in (await tidegate(running, "drain", name, *wrong, status=2)).stderr
            assert "there is no backend" in (await tidegate(running, "drain", "m/no:1", "--wait", status=1)).stderr
            shown = await tidegate(running, "drain", "--help")
            assert "--wait --timeout 5m && systemctl stop vllm" in shown.stdout


async def test_stages_of_a_deployment_are_reported_from_a_shell(tmp_path: Path) -> None:
    async with backends(good, good) as (old, new):
        async with gateway(tmp_path, routes(old.url, new.url, start="manual")) as running:
            await tidegate(running, "deploy", "m", "v2", "--id", "run-42")
            for word in ("started", "running"):
                begun = await tidegate(running, "stage", "run-42", "image_pull", word)
                assert begun.stdout == "image pull running\n"
            ended = await tidegate(running, "stage", "run-42", "image_pull", "failed", "--reason", "no such tag")
            assert ended.stdout.startswith("image pull failed after ")
            again = await tidegate(running, "stage", "run-42", "image_pull", "succeeded", status=1)
            assert "image_pull has failed already" in again.stderr
            an_hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
            whole = ("stage", "run-42", "validation", "succeeded", "--started", an_hour_ago)
            assert (await tidegate(running, *whole)).stdout.startswith("validation succeeded after ")
            assert "image pull failed after" in (await tidegate(running, "deployments")).stdout


async def test_the_data_port_is_named_as_such(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, f"models: {{m: {{backends: ['{fake.url}']}}}}") as running:
        data = f"http://127.0.0.1:{running.port}"
        result = await asyncio.to_thread(CliRunner().invoke, app, ["status", "--admin", data])
    assert result.exit_code == 1
    assert result.stderr == (
        f"tidegate: {data} is the gateway's data port: give its admin listener with --admin "
        "(default: http://127.0.0.1:9000)\n"
    )


async def test_a_token_that_is_missing_or_wrong_is_told_apart(tmp_path: Path) -> None:
    async with (
        backends(good) as (fake,),
        gateway(tmp_path, f"models: {{m: {{backends: ['{fake.url}']}}}}", token="right") as running,
    ):
        command = ["audit", "--admin", running.admin]
        for token, said in (
            ("", "requires a token: set TIDEGATE_ADMIN_TOKEN"),
            ("wrong", "requires a token: TIDEGATE_ADMIN_TOKEN is not its token"),
        ):
            result = await asyncio.to_thread(CliRunner().invoke, app, command, env={"TIDEGATE_ADMIN_TOKEN": token})
            assert result.exit_code == 1
            assert result.stderr == f"tidegate: the admin listener at {running.admin} {said}\n"
        right = await asyncio.to_thread(CliRunner().invoke, app, command, env={"TIDEGATE_ADMIN_TOKEN": "right"})
        assert right.exit_code == 0, right.stderr


async def test_status_shows_what_is_and_says_what_is_wrong(tmp_path: Path) -> None:
    async with backends(good, good) as (old, new):
        text = routes(old.url, new.url, start="manual")
        async with gateway(tmp_path, text) as running:
            lines = [" ".join(line.split()) for line in (await tidegate(running, "status")).stdout.splitlines()]
            assert ", serving, up " in lines[0]
            assert "m v1 100 % blue" in lines
            assert "m v2 0 % green" in lines
            assert any(line.startswith("m v1 -> v2 idle 0 % 0") for line in lines)
            assert "no problem found" in lines
            assert any(line.startswith(f"{running.backend(0).id} ready in service 1.00 0 ") for line in lines)

            new.health = b"503 Service Unavailable"
            (tmp_path / "routes.yaml").write_text("models: {m: {backend: [x]}}")
            await running.app.control.reloader.again()
            await eventually(lambda: not running.backend(1).readiness.eligible)
            await tidegate(running, "drain", running.backend(0).id)
            wrong = await tidegate(running, "status", status=1)
            assert "! the route files were not applied, and the previous routes stay in use:" in wrong.stdout
            assert f"tidegate check {tmp_path / 'routes.yaml'}" in wrong.stdout
            assert f"! {running.backend(1).id} is not ready:" in wrong.stdout
            assert "! m/v1 has no ready backend: its requests get 503" in wrong.stdout
            assert f"tidegate doctor {tmp_path / 'routes.yaml'}" in wrong.stdout
            assert f"{running.backend(0).id} drained" in " ".join(wrong.stdout.split())
            told = json.loads((await tidegate(running, "status", "--json", status=1)).stdout)
            assert told["routes"]["loaded"] is False
            assert told["problems"][-1]["command"].endswith(f"tidegate check {tmp_path / 'routes.yaml'}")
            assert [(each["model"], each["phase"]) for each in told["rollouts"]] == [("m", "idle")]


async def test_an_address_may_end_in_a_slash_or_lack_its_scheme(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, f"models: {{m: {{backends: ['{fake.url}']}}}}") as running:
        for admin in (f"{running.admin}/", running.admin.removeprefix("http://")):
            result = await asyncio.to_thread(CliRunner().invoke, app, ["audit", "--admin", admin])
            assert result.exit_code == 0, result.output


NO_ADMIN = "tidegate: http://x:1 is not the admin listener of a gateway"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(404, text="<html>"), NO_ADMIN),
        (httpx.Response(404, json={"detail": "Not Found"}), NO_ADMIN),
        (httpx.Response(404, json={"error": {"message": "no", "code": 404}}), NO_ADMIN),
        (httpx.Response(200, text="hello"), NO_ADMIN),
        (httpx.Response(502, text="<html>"), "tidegate: the gateway answered with status 502\n"),
        (httpx.ReadTimeout("timed out"), "tidegate: the gateway at http://x:1 did not answer in time: timed out\n"),
    ],
)
def test_what_answers_and_is_no_gateway_is_told_from_one_that_is_late(
    answer: httpx.Response | httpx.ReadTimeout, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def request(*_: object, **__: object) -> httpx.Response:
        if isinstance(answer, httpx.Response):
            return answer
        raise answer

    monkeypatch.setattr(httpx, "request", request)
    result = CliRunner().invoke(app, ["status", "--admin", "x:1/"])
    assert result.exit_code == 1
    assert result.stderr.startswith(said)


def test_a_gateway_that_does_not_answer_is_named() -> None:
    result = CliRunner().invoke(app, ["canary", "status", "m", "--admin", "http://127.0.0.1:9"])
    assert result.exit_code == 1
    assert "no gateway answers at http://127.0.0.1:9" in result.stderr


@pytest.mark.parametrize(
    ("admin", "variables", "said"),
    [
        ("http://127.0.0.1:9", {"TIDEGATE_ADMIN_TOKEN": "hush\nhush"}, "TIDEGATE_ADMIN_TOKEN contains a character"),
        ("http://127.0.0.1:9", {"TIDEGATE_ADMIN_TOKEN": "hüsh"}, "TIDEGATE_ADMIN_TOKEN contains a character"),
        ("http://127.0.0.1:9", {"TIDEGATE_ADMIN_TOKEN": "hush\n"}, "no gateway answers at http://127.0.0.1:9"),
        ("https://127.0.0.1:9", {"TIDEGATE_ADMIN_CA": "nowhere.pem"}, "a file in TIDEGATE_ADMIN_CA"),
    ],
)
def test_what_is_wrong_with_the_own_variables_is_no_fault_of_the_gateway(
    admin: str, variables: dict[str, str], said: str
) -> None:
    result = CliRunner().invoke(app, ["status", "--admin", admin], env=variables)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "hush" not in result.stderr


@pytest.mark.parametrize(
    ("share", "phase", "said"),
    [
        (60.0, "step", "step 4 of 4"),
        (50.0, "step", "between steps 2 and 3 of 4 (next: 60 %)"),
        (50.0, "paused", "paused between steps 2 and 3 of 4 (next: 60 %)"),
        (1.0, "step", "between the start and step 1 of 4 (next: 5 %)"),
        (0.0, "step", "step 4 of 4"),
        (50.0, "promoted", "promoted"),
    ],
)
def test_a_share_of_a_replaced_list_of_steps_is_no_step_of_the_new_one(share: float, phase: str, said: str) -> None:
    rollout = {"phase": phase, "step": 4, "steps": [5.0, 10.0, 60.0, 95.0], "weight": share}
    assert phase_words(rollout) == said


def test_a_rollout_whose_requests_are_only_copied_is_in_no_step_yet() -> None:
    rollout = {"phase": "step", "step": 0, "steps": [5.0, 95.0], "weight": 0.0, "mirror": 10.0}
    assert phase_words(rollout) == "before step 1 of 2, while 10 % are copied"
    assert phase_words(rollout | {"phase": "paused", "mirror": 0.0}) == "paused before step 1 of 2"


async def test_a_second_pause_is_no_error_and_warm_up_is_told(tmp_path: Path) -> None:
    async with backends(good, good) as (old, new):
        text = routes(old.url, new.url, start="manual", hold="30s", steps=[50], warm_up=1000)
        async with gateway(tmp_path, text) as running:
            assert (await tidegate(running, "audit")).stdout == "nothing recorded\n"
            await tidegate(running, "canary", "start", "m")
            evidence = (await in_phase(running, Phase.STEP)).evidence
            while not evidence.answered:
                await ask(running.port, chat())
                await running.quiet()
            report = " ".join((await tidegate(running, "canary", "report", "m")).stdout.split())
            assert (
                "the latencies of 1 request of v2 do not count: its backends were warming up, which takes 1000"
                in report
            )
            assert (
                "already in progress: nothing was changed" in (await tidegate(running, "canary", "resume", "m")).stdout
            )
            assert "already paused" not in (await tidegate(running, "canary", "pause", "m")).stdout
            assert "already paused: nothing was changed" in (await tidegate(running, "canary", "pause", "m")).stdout
