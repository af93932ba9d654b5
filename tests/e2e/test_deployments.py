"""A deployment's clock runs from the CD system's word to the first live answer; backends are drained by hand."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.control.deployments import Stage
from gateway.policy.canary.rollout import Phase
from gateway.policy.slo.series import Kind
from tests.e2e.collector import collector
from tests.e2e.fakes import FakeBackend, backends, good
from tests.e2e.harness import Running, ask, chat, gateway
from tests.e2e.test_canary import OBJECTIVE, crowd, failing, now, routes
from tests.waiting import eventually, patient_client

pytestmark = pytest.mark.anyio
DEPLOYMENT = {**OBJECTIVE, "deployment": {"target": 95, "under": "60s"}}


@asynccontextmanager
async def admin(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"x-gateway-actor": "argo"}
    async with patient_client(base_url=running.admin, headers=headers) as client:
        yield client


async def registered(client: httpx.AsyncClient, **more: str) -> dict[str, Any]:
    answer = await client.post("/admin/deployments", json={"model": "m", "version": "v2", **more})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def stages(running: Running, identity: str) -> list[str]:
    found = running.app.control.deployments.get(identity)
    assert found is not None
    return [stage for stage, _ in sorted(found.stages.items(), key=lambda item: item[1])]


def burned(running: Running) -> tuple[int, int]:
    """Good and bad deployments as the objective counts them."""
    (series,) = [each for each in running.app.data.ledger.get(Kind.MODEL, "m") if each.sli == "deployment"]
    counts = series.windows.count(series.windows.slo)
    return counts.good, counts.bad


async def test_a_deployment_passes_every_stage(tmp_path: Path) -> None:
    async with backends(good, good) as (old, new):
        new.health = b"503 Service Unavailable"
        # A candidate that needs no warming is asked by nobody else.
        text = routes(old.url, new.url, objective=DEPLOYMENT, warm_up=0)
        async with gateway(tmp_path, text, wait_ready=False) as running, admin(running) as client:
            await running.ready(0)
            found = await registered(client, id="run-42")
            assert [each["stage"] for each in found["stages"]] == ["registered"]
            again = await registered(client, id="run-42")
            assert again["stages"] == found["stages"], "registering twice is registering once"
            new.health = b"200 OK"
            await eventually(lambda: Stage.FIRST_SYNTHETIC_ANSWER in stages(running, "run-42"))
            assert len(new.calls) == 1, "one small question, before any user's"
            assert new.calls[0].json["max_tokens"] == 1
            async with crowd(running.port):
                await eventually(lambda: Stage.FULL_WEIGHT in stages(running, "run-42"))
            assert stages(running, "run-42") == list(Stage)
            listed = (await client.get("/admin/deployments")).json()
            assert [(each["id"], each["result"], each["actor"]) for each in listed] == [("run-42", "live", "argo")]
            await eventually(lambda: burned(running) == (1, 0))
            text = (await client.get("/metrics")).text
            assert 'tidegate_deployment_duration_seconds_count{model="m",result="live"} 1.0' in text
            assert 'tidegate_deployment_stage_seconds{model="m",stage="full_weight",version="v2"}' in text
            actions = [record.action for record in running.app.control.audit if record.subject == "deployment run-42"]
            assert actions == ["register", "live"]


async def test_a_deployment_that_is_rolled_back_before_anybody_was_answered_burns_its_objective(
    tmp_path: Path,
) -> None:
    async with backends(good, failing) as (old, new):
        text = routes(old.url, new.url, objective=DEPLOYMENT)
        async with gateway(tmp_path, text) as running, admin(running) as client:
            found = await registered(client)
            async with crowd(running.port):
                await eventually(lambda: now(running).rollout.phase is Phase.ROLLED_BACK)
            await eventually(lambda: burned(running) == (0, 1))
            one = (await client.get(f"/admin/deployments/{found['id']}")).json()
            assert one["result"] == "rolled_back"
            assert one["reason"] == now(running).rollout.reason


async def test_a_newer_deployment_supersedes_one_under_way(tmp_path: Path) -> None:
    async with backends(good, good) as (old, new):
        text = routes(old.url, new.url, objective=DEPLOYMENT, start="manual")
        async with gateway(tmp_path, text) as running, admin(running) as client:
            first = await registered(client)
            second = await registered(client)
            results = {each["id"]: each["result"] for each in (await client.get("/admin/deployments")).json()}
            assert results == {first["id"]: "superseded", second["id"]: "running"}
            assert burned(running) == (0, 0)


async def test_one_that_answered_users_is_live_whatever_comes_after_it_but_a_rollback(tmp_path: Path) -> None:
    async with backends(good, good) as (old, new):
        text = routes(old.url, new.url, objective=DEPLOYMENT, start="manual", hold="30s")
        async with gateway(tmp_path, text) as running, admin(running) as client:
            await client.post("/admin/models/m/canary/start", json={})
            first = await registered(client)
            async with crowd(running.port):
                await eventually(lambda: Stage.FIRST_LIVE_ANSWER in stages(running, first["id"]))
            second = await registered(client)
            one = (await client.get(f"/admin/deployments/{first['id']}")).json()
            assert (one["result"], second["result"]) == ("live", "running")
            assert "full_weight" not in {each["stage"] for each in one["stages"]}
            await eventually(lambda: running.app.control.deployments.open == {second["id"]})
            async with crowd(running.port):
                await eventually(lambda: Stage.FIRST_LIVE_ANSWER in stages(running, second["id"]))
            await client.post("/admin/models/m/canary/rollback", json={"reason": "no"})
            await eventually(lambda: not running.app.control.deployments.open)
            two = (await client.get(f"/admin/deployments/{second['id']}")).json()
            assert (two["result"], two["reason"]) == ("rolled_back", "no")
            await eventually(lambda: burned(running) == (2, 0))


async def test_what_cannot_be_registered_is_refused_in_words(tmp_path: Path) -> None:
    async with backends(good, good) as (old, new):
        async with gateway(tmp_path, routes(old.url, new.url)) as running, admin(running) as client:
            wrong = await client.post("/admin/deployments", json={"model": "mm", "version": "v2"})
            assert (wrong.status_code, "did you mean `m`" in wrong.json()["error"]["message"]) == (404, True)
            wrong = await client.post("/admin/deployments", json={"model": "m", "version": "v3"})
            assert wrong.json()["error"]["message"] == "the model `m` has no version `v3`; there are v1, v2"
            assert (await client.get("/admin/deployments/none")).status_code == 404
            assert (await client.get("/admin/models/x/canary")).status_code == 404


async def test_a_deployment_under_way_outlives_the_process(tmp_path: Path) -> None:
    state = f"sqlite:///{tmp_path / 'state.sqlite'}"
    async with backends(good, good) as (old, new):
        text = routes(old.url, new.url, objective=DEPLOYMENT, start="manual")
        async with gateway(tmp_path, text, state=state) as running, admin(running) as client:
            found = await registered(client)
            await eventually(lambda: Stage.FIRST_SYNTHETIC_ANSWER in stages(running, found["id"]))
        async with gateway(tmp_path, text, state=state) as running, admin(running) as client:
            assert len(stages(running, found["id"])) == 3
            await client.post("/admin/models/m/canary/promote", json={"reason": "go"})
            assert (await ask(running.port, chat())).headers["x-gateway-version"] == "v2"
            await eventually(lambda: len(stages(running, found["id"])) == 5)


async def test_a_drained_backend_finishes_its_streams_and_gets_nothing_new_over_restarts(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def held(call: Any) -> None:
        await release.wait()
        await good(call)

    state = f"sqlite:///{tmp_path / 'state.sqlite'}"
    async with backends(held, good) as (first, second):
        text = json.dumps({"models": {"m": {"backends": [first.url, second.url]}}})
        async with gateway(tmp_path, text, state=state) as running, admin(running) as client:
            streams = [asyncio.create_task(ask(running.port, chat())) for _ in range(8)]
            while not first.calls:
                await eventually(lambda: len(first.calls) + sum(each.done() for each in streams) == len(streams))
                streams.append(asyncio.create_task(ask(running.port, chat())))
            await eventually(lambda: len(first.calls) + sum(each.done() for each in streams) == len(streams))
            name = running.backend(0).id
            answer = await client.post(f"/admin/backends/{name}/drain", json={"reason": "new driver"})
            assert answer.json() == {"backend": name, "drained": True, "in_flight": len(first.calls)}
            progress = (await client.get(f"/admin/backends/{name}")).json()
            assert progress == {"backend": name, "draining": True, "drained": False, "in_flight": len(first.calls)}
            taken = len(first.calls)
            for _ in range(10):
                assert (await ask(running.port, chat())).status == 200
            assert len(first.calls) == taken
            release.set()
            assert {answer.status for answer in await asyncio.gather(*streams)} == {200}
            await eventually(lambda: not running.backend(0).in_flight)
            assert (await client.get(f"/admin/backends/{name}")).json()["drained"] is True
            other = (await client.get(f"/admin/backends/{running.backend(1).id}")).json()
            assert (other["draining"], other["drained"]) == (False, False)
            assert (await client.get("/admin/backends/m/nowhere:1")).status_code == 404
            status = (await client.get("/admin/status")).json()
            assert [each["drained"] for each in status["backends"]] == [True, False]
            missing = await client.post("/admin/backends/m/nowhere:1/drain")
            assert (missing.status_code, "known backends" in missing.json()["error"]["message"]) == (404, True)
        async with gateway(tmp_path, text, state=state) as running, admin(running) as client:
            await served_by(running, second)
            await client.post(f"/admin/backends/{name}/undrain", json={"reason": "done"})
            await eventually(lambda: not running.backend(0).drained)
            records = (await client.get("/admin/audit")).json()
            assert [(each["action"], each["reason"], each["actor"]) for each in records] == [
                ("undrain", "done", "argo"),
                ("drain", "new driver", "argo"),
            ]


async def served_by(running: Running, only: FakeBackend) -> None:
    before = len(only.calls)
    for _ in range(6):
        assert (await ask(running.port, chat())).status == 200
    assert len(only.calls) == before + 6


async def test_a_deployment_leaves_a_trace_that_goes_on_from_the_cd_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with backends(good, good) as (old, new), collector() as (endpoint, spans):
        text = routes(old.url, new.url, objective=DEPLOYMENT, start="manual")
        async with gateway(tmp_path, text, otlp_endpoint=endpoint) as running, admin(running) as client:
            body = {"model": "m", "version": "v2", "id": "run-9"}
            await client.post("/admin/deployments", json=body, headers={"traceparent": parent})
            await eventually(lambda: Stage.FIRST_SYNTHETIC_ANSWER in stages(running, "run-9"))
            await client.post("/admin/models/m/canary/promote", json={})
            await ask(running.port, chat())
            await eventually(lambda: len(stages(running, "run-9")) == 5)
            deployment = running.app.control.deployments.get("run-9")
            await eventually(
                lambda: deployment is not None and deployment.id not in running.app.control.deployments.open
            )
            await eventually(lambda: any(span.name == "deploy m/v2" for span in spans))
        # A request may be sampled too; its trace is another one.
        named = {span.name: span for span in spans if span.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"}
        assert set(named) == {"deploy m/v2", *list(Stage)[1:]}
        root = named.pop("deploy m/v2")
        assert root.parent_span_id.hex() == "b7ad6b7169203331"
        assert {each.key: each.value.string_value for each in root.attributes}["deployment.status"] == "live"
        assert {span.parent_span_id for span in named.values()} == {root.span_id}
        assert root.end_time_unix_nano == max(span.end_time_unix_nano for span in named.values())


STAGES = {"image_pull": {"target": 95, "under": "60s"}, "validation": {"target": 90, "under": "10m"}}


def stage_burned(running: Running, stage: str) -> tuple[int, int]:
    (series,) = [each for each in running.app.data.ledger.get(Kind.MODEL, "m") if each.sli == stage]
    counts = series.windows.count(series.windows.slo)
    return counts.good, counts.bad


async def test_stages_of_a_cd_system_have_slis_of_their_own_and_outlive_the_process(tmp_path: Path) -> None:
    state = f"sqlite:///{tmp_path / 'state.sqlite'}"
    async with backends(good, good) as (old, new):
        text = routes(old.url, new.url, objective={**OBJECTIVE, "deployment_stages": STAGES}, start="manual")
        async with gateway(tmp_path, text, state=state) as running, admin(running) as client:
            await registered(client, id="run-42")
            path = "/admin/deployments/run-42"
            begun = await client.patch(path, json={"stage": "image_pull"})
            (told,) = begun.json()["reported"]
            assert (told["stage"], told["result"], told["ended"]) == ("image_pull", "running", None)
            for _ in range(2):
                ended = await client.patch(path, json={"stage": "image_pull", "result": "succeeded"})
                assert ended.status_code == 200
            await eventually(lambda: stage_burned(running, "image_pull") == (1, 0))
            begun_at = datetime.now(UTC) - timedelta(days=1)
            late = {"started": begun_at.isoformat(), "ended": (begun_at + timedelta(minutes=20)).isoformat()}
            for stage in ("validation", "provisioning"):
                body = {"stage": stage, "result": "failed", "reason": "no GPU", **late}
                assert (await client.patch(path, json=body)).status_code == 200
            await eventually(lambda: stage_burned(running, "validation") == (0, 1))
            text_of = (await client.get("/metrics")).text
            name = "tidegate_deployment_reported_stage_duration_seconds_count"
            assert f'{name}{{model="m",result="failed",stage="provisioning"}} 1.0' in text_of
            assert f'{name}{{model="m",result="succeeded",stage="image_pull"}} 1.0' in text_of
            slis = {each["sli"] for each in (await client.get("/admin/status")).json()["objectives"]}
            assert slis >= {"image_pull", "validation"}
            actions = [record.action for record in running.app.control.audit if record.actor == "argo"]
            assert actions == ["register", "image_pull succeeded", "validation failed", "provisioning failed"]
        async with gateway(tmp_path, text, state=state) as running, admin(running) as client:
            again = await client.patch(path, json={"stage": "image_pull", "result": "succeeded"})
            reported = {each["stage"]: each for each in again.json()["reported"]}
            assert reported["validation"]["seconds"] == 1200.0
            assert reported["validation"]["reason"] == "no GPU"
            assert stage_burned(running, "image_pull") == (1, 0), "what is known is not counted again"


async def test_a_report_that_cannot_be_is_refused_in_words(tmp_path: Path) -> None:
    async with backends(good, good) as (old, new):
        async with gateway(tmp_path, routes(old.url, new.url, start="manual")) as running, admin(running) as client:
            await registered(client, id="run-42")
            unknown = await client.patch("/admin/deployments/run-43", json={"stage": "image_pull"})
            assert unknown.status_code == 404
            assert "did you mean `run-42`" in unknown.json()["error"]["message"]
            odd = await client.patch("/admin/deployments/run-42", json={"stage": "coffee"})
            assert odd.status_code == 422
            assert "'registry_pull', 'image_pull', 'provisioning' or 'validation'" in odd.json()["error"]["message"]
            naive = {"stage": "image_pull", "started": "2026-01-01T12:00:00"}
            assert (await client.patch("/admin/deployments/run-42", json=naive)).status_code == 422
            early = await client.patch("/admin/deployments/run-42", json={"stage": "image_pull", "result": "failed"})
            assert (early.status_code, early.json()["error"]["code"]) == (409, "report_refused")
            for impossible in ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z"):
                report = {"stage": "validation", "result": "succeeded", "started": impossible}
                refused = await client.patch("/admin/deployments/run-42", json=report)
                assert refused.status_code == 409
                assert "validation: `started` is " in refused.json()["error"]["message"]
            (listed,) = (await client.get("/admin/deployments")).json()
            assert listed["reported"] == []
            assert running.app.control.deployments.reported == {}
