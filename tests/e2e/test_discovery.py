"""Backends that are found while the gateway serves: they come, go and come back, and no request notices."""

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from gateway.backends.backend import Backend
from gateway.state.sqlite import SqliteStore
from gateway.state.store import Batch, Ejection
from tests.discovery.dns_server import dns_server
from tests.e2e.fakes import FakeBackend, backends, good
from tests.e2e.harness import Running, ask, chat, gateway
from tests.e2e.test_admission import Gate, begin
from tests.waiting import eventually, patient_client

pytestmark = pytest.mark.anyio


def routes(*entries: Any) -> str:
    return json.dumps({"models": {"m": {"backends": list(entries)}}})


def write(folder: Path, fakes: Iterable[FakeBackend], **labels: str) -> None:
    """Replace the file of targets in one step."""
    fresh = folder / "fresh"
    fresh.write_text(json.dumps([{"targets": [f"127.0.0.1:{fake.port}" for fake in fakes], "labels": labels}]))
    os.replace(fresh, folder / "targets.json")


def serving(running: Running) -> set[int]:
    """Return the ports of backends that new requests may be sent to."""
    return {backend.spec.port for backend in running.app.data.registry if backend.serves("m")}


def of(running: Running, fake: FakeBackend) -> Backend:
    (found,) = [backend for backend in running.app.data.registry if backend.spec.port == fake.port]
    return found


async def test_engines_in_a_file_come_go_and_come_back_as_they_were(tmp_path: Path) -> None:
    async with backends(good, good) as (first, second):
        write(tmp_path, [first])
        async with gateway(tmp_path, routes({"file": "targets.json"}), wait_ready=False) as running:
            await eventually(lambda: serving(running) == {first.port})
            assert (await ask(running.port, chat(stream=False))).status == 200
            write(tmp_path, [first, second])
            await eventually(lambda: serving(running) == {first.port, second.port})
            known = of(running, second)
            write(tmp_path, [first])
            await eventually(lambda: serving(running) == {first.port})
            assert known.leaving
            for _ in range(5):
                assert (await ask(running.port, chat(stream=False))).status == 200
            assert second.calls == []
            write(tmp_path, [first, second])
            await eventually(lambda: serving(running) == {first.port, second.port})
            assert of(running, second) is known


async def test_a_stream_of_an_engine_that_left_ends_as_it_would_and_its_connection_closes(tmp_path: Path) -> None:
    gate = Gate()
    async with backends(gate, good) as (left, other):
        write(tmp_path, [left])
        async with gateway(tmp_path, routes({"file": "targets.json"}), wait_ready=False) as running:
            await eventually(lambda: serving(running) == {left.port})
            client = await begin(running, "first")
            await eventually(lambda: gate.prompts == ["first"])
            write(tmp_path, [other])
            await eventually(lambda: serving(running) == {other.port})
            assert (await ask(running.port, chat(stream=False))).status == 200
            gate.open.release()
            assert (await client.answer()).complete
            client.close()
            await running.quiet()
            assert gate.prompts == ["first"]
            await eventually(lambda: of(running, left).pool.idle == 0)


async def test_an_engine_that_is_found_begins_without_what_was_said_of_its_address(tmp_path: Path) -> None:
    """Another engine may have that by now. Those that the routes name are the ones that were ejected."""
    now = time.time()
    async with backends(good, good, good) as fakes:
        first, second, found = fakes
        write(tmp_path, [found])
        path = tmp_path / "state.sqlite"
        store = SqliteStore(path)
        out = [Ejection(f"m/127.0.0.1:{fake.port}", now - 1, now + 300, "five in a row") for fake in (first, found)]
        store.save(Batch(now, ejections=tuple(out)))
        store.close()
        entries = routes(first.url, second.url, {"file": "targets.json"})
        async with gateway(tmp_path, entries, state=f"sqlite:///{path}", wait_ready=False) as running:
            await eventually(lambda: serving(running) == {fake.port for fake in fakes})
            assert {fake.port for fake in fakes if of(running, fake).health.outlier.ejection.out} == {first.port}


async def test_while_nothing_was_found_requests_are_told_where_it_is_looked_for(tmp_path: Path) -> None:
    async with backends(good) as (fake,):
        async with gateway(tmp_path, routes({"file": "targets.json"}), wait_ready=False) as running:
            await eventually(lambda: "cannot be read" in running.app.data.registry.pools["m"].discovery)
            answer = await ask(running.port, chat(stream=False))
            assert answer.status == 503
            message = json.loads(answer.body)["error"]["message"]
            assert message == (
                f"no backend of the model `m` is ready: file {tmp_path}/targets.json has not told of any backend yet "
                "(the file cannot be read: No such file or directory)"
            )
            write(tmp_path, [fake])
            await eventually(lambda: serving(running) == {fake.port})
            assert (await ask(running.port, chat(stream=False))).status == 200


async def test_an_address_gets_requests_once_it_has_shown_the_model(tmp_path: Path) -> None:
    async with backends(good, good) as (fake, other):
        other.models = ("another",)
        write(tmp_path, [fake, other])
        async with gateway(tmp_path, routes({"file": "targets.json"}), wait_ready=False) as running:
            await eventually(lambda: len(running.app.data.registry) == 2)
            await running.ready()
            assert serving(running) == {fake.port}
            other.models = ("m",)
            await eventually(lambda: serving(running) == {fake.port, other.port})


async def test_what_was_found_is_shown_with_its_age_and_what_is_wrong(tmp_path: Path) -> None:
    async with backends(good, good) as (first, second):
        write(tmp_path, [first, second])
        async with gateway(tmp_path, routes({"file": "targets.json"}), wait_ready=False) as running:
            await eventually(lambda: len(serving(running)) == 2)
            write(tmp_path, [first])
            await eventually(lambda: len(serving(running)) == 1)
            (tmp_path / "broken").write_text("[")
            os.replace(tmp_path / "broken", tmp_path / "targets.json")
            await eventually(lambda: running.app.control.discovery.rows()[0].problem != "")
            origin = f"file {tmp_path}/targets.json"
            async with patient_client(base_url=running.admin) as web:
                status = (await web.get("/admin/status")).json()
                metrics = (await web.get("/metrics")).text
                explained = (await web.get("/admin/explain", params={"model": "m", "prompt_tokens": 9})).json()
            (shown,) = status["discovery"]
            assert 0.0 <= shown.pop("age_seconds") < 100.0
            assert shown == {
                "origin": origin,
                "pools": ["m"],
                "targets": 1,
                "leaving": 1,
                "problem": "the file is not JSON: Expecting value: line 1 column 2 (char 1)",
                "errors": 1,
            }
            assert {each["id"]: each["leaving"] for each in status["backends"]} == {
                f"m/127.0.0.1:{first.port}": False,
                f"m/127.0.0.1:{second.port}": True,
            }
            assert f'tidegate_discovery_targets{{origin="{origin}",state="leaving"}} 1.0' in metrics
            assert f'tidegate_discovery_errors_total{{origin="{origin}"}} 1.0' in metrics
            assert f'tidegate_discovery_age_seconds{{origin="{origin}"}}' in metrics
            candidates = explained["versions"][0]["candidates"]
            assert sorted(each["refused"] for each in candidates) == ["", "leaving"]


async def test_names_that_lead_elsewhere(tmp_path: Path) -> None:
    records = {("A", "vllm.svc"): ["127.0.0.1"]}
    async with backends(good) as (fake,), dns_server(records=records) as names:
        entry = {"dns": "vllm.svc", "port": fake.port}
        async with gateway(tmp_path, routes(entry), wait_ready=False, dns_server=names.where) as running:
            await eventually(lambda: serving(running) == {fake.port})
            names.mode = "SERVFAIL"
            await eventually(lambda: any(row.problem for row in running.app.control.discovery.rows()))
            assert serving(running) == {fake.port}
            assert (await ask(running.port, chat(stream=False))).status == 200
