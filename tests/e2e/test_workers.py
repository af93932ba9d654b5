"""Several worker processes below a supervisor: one gateway to clients and to people."""

import asyncio
import errno
import json
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import ResourceMetrics

from loadtest.upgrades.load import Load
from tests.background import in_background
from tests.e2e.collector import collecting
from tests.e2e.fakes import DONE, LAST_CHUNK, ROLE, STREAM_HEAD, Call, backends, chunked, event, good
from tests.e2e.harness import ask, chat, post
from tests.e2e.machine import machine, needs_wrk, wrk
from tests.e2e.processes import following, running, serving
from tests.e2e.raw_client import RawClient, connect
from tests.waiting import DEADLINE, eventually, patient_client

pytestmark = pytest.mark.anyio


async def until_told(call: Call) -> None:
    """Stream until the client has what it wanted."""
    await call.send(STREAM_HEAD, chunked(ROLE), chunked(event("x")))
    await call.passed.wait()
    await call.send(chunked(event("y", "stop"), DONE) + LAST_CHUNK)


async def streaming(port: int) -> RawClient:
    client = await connect(port)
    await client.send(post(chat(), headers="connection: close\r\n"))
    await client.reader.readuntil(b'"content":"x"')
    return client


def durations(exports: list[ResourceMetrics]) -> dict[str, int]:
    """Return how many requests each instance has told of last."""
    found: dict[str, int] = {}
    for each in exports:
        (instance,) = (kv.value.string_value for kv in each.resource.attributes if kv.key == "service.instance.id")
        of = {metric.name: metric.histogram.data_points for metric in each.scope_metrics[0].metrics}
        found[instance] = sum(point.count for point in of["gen_ai.server.request.duration"])
    return found


async def test_they_share_the_work_and_answer_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "200")
    async with (
        backends(good) as (fake,),
        collecting() as (endpoint, _, exports),
        machine(tmp_path, [fake.url], "--otlp-endpoint", endpoint) as served,
    ):
        for _ in range(40):
            assert (await ask(served.port, chat(stream=False))).status == 200
        found = await served.until(lambda status: sum(each["requests"] for each in status["workers"]) == 40)
        assert all(each["requests"] for each in found["workers"]), "the system divides connections among them"
        assert sum(each["leads"] for each in found["workers"]) == 1
        assert [each["in_flight"] for each in found["backends"]] == [0]
        counts = await served.scrape()
        assert sum(value for (name, _), value in counts.items() if name == "tidegate_requests_total") == 40
        async with patient_client(trust_env=False) as web:
            text = await web.get(f"{served.admin}/metrics", headers={"accept": "application/openmetrics-text"})
            assert text.text.endswith("# EOF\n")
            assert (await web.get(f"{served.admin}/admin/models/m/slo")).status_code == 200
            (used,) = (await web.get(f"{served.admin}/admin/costs")).json()["tenants"]
            assert (used["tenant"], used["requests"], used["prompt_tokens"]) == ("other", {"ok": 40}, 40 * 7)
            assert (await web.get(f"{served.admin}/admin/costs?format=xml")).json()["error"][
                "code"
            ] == "invalid_request"
            assert (await web.get(f"{served.admin}/docs")).status_code == 200
            assert (await web.get(f"{served.admin}/nothing")).json()["error"]["code"] == "not_found"
        await eventually(lambda: sum(durations(exports).values()) == 40)
        assert len(durations(exports)) == 2, "each worker tells its own counts, as an instance of its own"
        lines = [json.loads(each) for each in served.process.err if each.startswith("{")]
        pids = {each["pid"] for each in found["workers"]}
        assert {each.get("worker") for each in lines if each["message"] == "backend ready"} == pids, "each names itself"
        served.process.process.terminate()
        assert await served.process.ended() == 0
        with socket.socket() as trying:
            assert trying.connect_ex(("127.0.0.1", served.port)) == errno.ECONNREFUSED


async def test_a_worker_that_is_killed_loses_its_own_streams_alone_and_is_replaced(tmp_path: Path) -> None:
    async with backends(until_told) as (fake,), machine(tmp_path, [fake.url]) as served:
        # The system divides them by chance: of so many, one worker has all once in 16 million runs.
        clients = [await streaming(served.port) for _ in range(25)]
        workers = [each["pid"] for each in await served.serving_workers()]
        os.kill(workers[0], signal.SIGKILL)
        later = await asyncio.gather(*(streaming(served.port) for _ in range(6)))
        for call in fake.calls:
            call.passed.set()
        ends = [await client.answer_rest() for client in (*clients, *later)]
        whole = [b"[DONE]" in each for each in ends]
        assert 0 < sum(whole[: len(clients)]) < len(clients), "those of the other worker go on"
        assert all(whole[len(clients) :]), "what comes later is served by those who live"
        found = await served.until(lambda status: sum(each["stage"] == "serving" for each in status["workers"]) == 2)
        assert workers[0] not in [each["pid"] for each in found["workers"]]
        assert [each["in_flight"] for each in found["backends"]] == [0]
        assert sum(each["leads"] for each in found["workers"]) == 1 or await served.until(
            lambda status: sum(each["leads"] for each in status["workers"]) == 1
        )


async def test_a_worker_that_is_asked_to_end_is_replaced_and_loses_nothing(tmp_path: Path) -> None:
    async with backends(until_told) as (fake,), machine(tmp_path, [fake.url]) as served:
        client = await streaming(served.port)
        for each in await served.serving_workers():
            os.kill(each["pid"], signal.SIGTERM)
        await eventually(lambda: len([line for line in served.process.err if '"worker serves"' in line]) == 4)
        fake.calls[0].passed.set()
        assert b"[DONE]" in await client.answer_rest()
        again = asyncio.create_task(streaming(served.port))
        await eventually(lambda: len(fake.calls) == 2)
        fake.calls[1].passed.set()
        assert b"[DONE]" in await (await again).answer_rest()


async def test_all_get_the_same_routes_and_a_bad_file_changes_none(tmp_path: Path) -> None:
    async with (
        backends(good) as (fake,),
        machine(tmp_path, [fake.url]) as served,
        patient_client(trust_env=False) as web,
    ):
        file = tmp_path / "served.yaml"
        file.write_text(json.dumps({"models": {"other": {"backends": [fake.url], "served_model": "m"}}}))
        assert (await web.post(f"{served.admin}/admin/reload")).json()["models"] == 1
        # Files are looked at too: what has been read by then is read once more.
        (second,) = {each["routes"] for each in (await served.status())["workers"]}
        assert second in {2, 3}
        for _ in range(10):
            assert (await ask(served.port, chat(stream=False) | {"model": "other"})).status == 200
        file.write_text("models: {}")
        assert (await web.post(f"{served.admin}/admin/reload")).status_code == 409
        found = await served.status()
        assert not found["routes"]["loaded"]
        assert {each["routes"] for each in found["workers"]} == {second}
        file.write_text(json.dumps({"models": {"third": {"backends": [fake.url], "served_model": "m"}}}))
        served.process.process.send_signal(signal.SIGHUP)
        await served.until(lambda status: all(each["routes"] > second for each in status["workers"]))
        assert (await ask(served.port, chat(stream=False) | {"model": "third"})).status == 200
        counts = await served.scrape()
        assert 2 <= counts["tidegate_reloads_total", "{}"] <= 4
        assert counts["tidegate_reload_failures_total", "{}"] >= 1


async def test_a_drained_backend_is_drained_for_all(tmp_path: Path) -> None:
    async with (
        backends(good) as (fake,),
        machine(tmp_path, [fake.url]) as served,
        patient_client(trust_env=False) as web,
    ):
        backend = (await served.status())["backends"][0]["id"]
        drain = await web.post(f"{served.admin}/admin/backends/{backend}/drain", json={"reason": "repair"})
        assert drain.json() == {"backend": backend, "drained": True, "in_flight": 0}
        async with asyncio.timeout(DEADLINE):
            while {(await ask(served.port, chat(stream=False))).status for _ in range(12)} != {503}:
                pass
        records = (await web.get(f"{served.admin}/admin/audit")).json()
        assert [each["action"] for each in records] == ["drain"]
        drained = (await web.get(f"{served.admin}/admin/backends/{backend}")).json()
        assert drained == {"backend": backend, "draining": True, "drained": True, "in_flight": 0}
        assert (await web.get(f"{served.admin}/admin/backends/m/nowhere:1")).status_code == 404


async def test_a_backend_is_not_drained_while_some_worker_has_a_request_there(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def held(call: Call) -> None:
        await release.wait()
        await good(call)

    async with (
        backends(held) as (fake,),
        machine(tmp_path, [fake.url]) as served,
        patient_client(trust_env=False) as web,
    ):
        url = f"{served.admin}/admin/backends/{(await served.status())['backends'][0]['id']}"
        waiting = [asyncio.create_task(ask(served.port, chat())) for _ in range(8)]
        await eventually(lambda: len(fake.calls) == 8)
        await web.post(f"{url}/drain")
        progress = (await web.get(url)).json()
        assert (progress["draining"], progress["drained"], progress["in_flight"]) == (True, False, 8)
        release.set()
        assert {(await each).status for each in waiting} == {200}
        async with asyncio.timeout(DEADLINE):
            while not (await web.get(url)).json()["drained"]:
                await asyncio.sleep(0.05)


async def test_the_admin_listener_keeps_its_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    async with backends(good) as (fake,):
        arguments = ("--admin-token-file", str(tmp_path / "token"))
        async with serving(tmp_path, [fake.url], "--workers", "1", *arguments) as served:
            async with patient_client(trust_env=False) as web:
                url = f"{served.urls[1]}/admin/status"
                assert (await web.get(url)).status_code == 401
                assert (await web.get(url, headers={"authorization": "Bearer secret"})).status_code == 200
            served.process.terminate()
            assert await served.ended() == 0


@pytest.mark.parametrize("text", ["models: {}", "models: {m: {bockends: []}}"])
async def test_bad_routes_end_it_as_one_process(tmp_path: Path, text: str) -> None:
    (tmp_path / "routes.yaml").write_text(text)
    ports = ("--port", "0", "--admin-port", "0", "--state", "memory://", "--workers", "2")
    async with running("gateway.cli", "serve", str(tmp_path / "routes.yaml"), *ports) as child:
        assert await child.ended() == 1
        assert "routes.yaml:1" in "\n".join(child.err)


async def test_workers_that_never_become_ready_end_it_with_a_message(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text('{"models": {"m": {"backends": ["http://127.0.0.1:1"]}}}')
    ports = ("--port", "0", "--admin-port", "0", "--state", "memory://", "--workers", "1")
    code = "from gateway.workers import worker; worker.Worker.run = None; from gateway.cli import main; main()"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, "serve", str(tmp_path / "routes.yaml"), *ports),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with following(process) as child:
        assert await child.ended() == 1
        assert "ended before it was ready" in child.err[-1]


async def test_workers_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    async with backends(good) as (fake,), machine(tmp_path, [fake.url]) as served:
        workers = [each["pid"] for each in await served.serving_workers()]
        served.process.process.kill()
        await served.process.process.wait()
        await eventually(
            lambda: (
                not any(
                    Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes()
                    for pid in workers
                )
            )
        )


@needs_wrk
async def test_sockets_never_refuse_and_counts_never_fall_while_workers_are_killed(tmp_path: Path) -> None:
    async with backends(good) as (fake,), machine(tmp_path, [fake.url], "--no-access-log") as served:
        async with in_background(served.keep_scraping()):
            kills = 0
            windows: list[Load] = []

            async def load() -> None:
                while kills < 3 or not windows:
                    windows.append(await wrk(tmp_path, served.port, seconds=5, pause=50, close=True))

            loading = asyncio.create_task(load())
            while not loading.done():
                workers = await served.serving_workers()
                if len(workers) == 2:
                    os.kill(workers[0]["pid"], signal.SIGKILL)
                    kills += 1
                await asyncio.sleep(1)
            await loading
        assert sum(each.refused for each in windows) == 0
        assert sum(each.requests for each in windows) > 100
        assert sum(each.lost for each in windows) <= 16 * kills, "a worker has at most all connections"
        assert served.falls == []
