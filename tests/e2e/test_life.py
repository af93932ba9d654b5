"""Starting, reloading, draining, stopping."""

import asyncio
import errno
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from gateway.config.problems import RoutesError
from gateway.exchange import Outcome
from tests.e2e.fakes import DONE, LAST_CHUNK, ROLE, STREAM_HEAD, Call, backends, chunked, event, good, good_stream
from tests.e2e.harness import ask, chat, gateway, post, routes
from tests.e2e.processes import running, serving
from tests.e2e.raw_client import RawClient, connect
from tests.waiting import DEADLINE, eventually, patient_client

pytestmark = pytest.mark.anyio
VISITORS = 60


async def paced(call: Call) -> None:
    """A stream of a second or so."""
    await call.send(STREAM_HEAD, chunked(ROLE))
    for _ in range(20):
        await call.send(chunked(event("x")))
        await asyncio.sleep(0.05)
    await call.send(chunked(event("y", "stop"), DONE) + LAST_CHUNK)


async def endless(call: Call) -> None:
    await call.send(STREAM_HEAD, chunked(ROLE))
    while not call.writer.is_closing():
        await call.send(chunked(event("x")))
        await asyncio.sleep(0.02)


def port(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


async def refused(number: int) -> None:
    """Wait until nothing listens there any more."""
    async with asyncio.timeout(DEADLINE):
        while True:
            with socket.socket() as trying:
                if trying.connect_ex(("127.0.0.1", number)) == errno.ECONNREFUSED:
                    return
            await asyncio.sleep(0.01)


async def until_streaming(client: RawClient) -> None:
    await client.reader.readuntil(b'"content":"x"')


async def test_sigterm_says_not_ready_serves_on_and_lets_streams_finish(tmp_path: Path) -> None:
    async with backends(paced) as (fake,):
        async with serving(tmp_path, [fake.url], "--drain-delay", "0.5") as served:
            client = await connect(port(served.urls[0]))
            await client.send(post(chat()))
            await until_streaming(client)
            served.process.send_signal(signal.SIGTERM)
            async with patient_client(base_url=served.urls[0]) as web:
                while (ready := await web.get("/ready")).status_code != 503:
                    await asyncio.sleep(0.01)
                assert ready.json() == {"status": "draining"}
                late = await web.post("/v1/chat/completions", json=chat(stream=True))
                assert late.text.endswith("[DONE]\n\n")
            rest = await client.answer_rest()
            assert rest.endswith(LAST_CHUNK)
            client.close()
            assert await served.ended() == 0
            assert [line["outcome"] for line in served.logged()] == ["ok", "ok"]
            told = [json.loads(line)["message"] for line in served.err if line.startswith("{")]
            assert "draining, 1 request open" in told
            assert told[-1] == "stopped"


async def test_a_client_that_keeps_its_connection_loses_nothing_while_the_gateway_drains(tmp_path: Path) -> None:
    async with backends(good) as (fake,):
        async with serving(tmp_path, [fake.url], "--drain-delay", "0.3") as served:
            number = port(served.urls[0])
            told, idle, fresh = await connect(number), await connect(number), await connect(number)
            await idle.send(post(chat(stream=False)))
            assert "connection" not in (await idle.answer()).headers
            served.process.send_signal(signal.SIGTERM)
            while True:
                await told.send(post(chat(stream=False)))
                answer = await told.answer()
                assert answer.status == 200
                if answer.headers.get("connection") == "close":
                    break
            assert await told.closed()
            await refused(number)
            for client in (idle, fresh):
                await client.send(post(chat(stream=False)))
                answer = await client.answer()
                assert (answer.status, answer.headers["connection"]) == (200, "close")
                assert await client.closed()
            for client in (told, idle, fresh):
                client.close()
            assert await served.ended() == 0


async def test_a_client_that_was_not_told_may_ask_once_more_after_its_stream(tmp_path: Path) -> None:
    async with backends(paced) as (fake,), serving(tmp_path, [fake.url]) as served:
        client = await connect(port(served.urls[0]))
        await client.send(post(chat()))
        await until_streaming(client)
        served.process.send_signal(signal.SIGTERM)
        await client.reader.readuntil(LAST_CHUNK)
        await client.send(post(chat()))
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await client.closed()
        client.close()
        assert await served.ended() == 0


async def test_idle_connections_do_not_hold_a_stop(tmp_path: Path) -> None:
    async with backends(good) as (fake,), serving(tmp_path, [fake.url]) as served:
        clients = [await connect(port(served.urls[0])) for _ in range(20)]
        served.process.send_signal(signal.SIGTERM)
        assert await served.ended() == 0
        for client in clients:
            assert await client.closed()
            client.close()


async def test_past_the_drain_time_a_stream_gets_an_error_event(tmp_path: Path) -> None:
    async with backends(endless) as (fake,):
        async with serving(tmp_path, [fake.url], "--drain-timeout", "0.5") as served:
            client = await connect(port(served.urls[0]))
            await client.send(post(chat()))
            await until_streaming(client)
            served.process.send_signal(signal.SIGTERM)
            rest = await client.answer_rest()
            assert b'"code":"draining"' in rest
            assert b"[DONE]" not in rest
            assert not rest.endswith(LAST_CHUNK)
            client.close()
            assert await served.ended() == 0


async def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    async with backends(endless) as (fake,):
        async with serving(tmp_path, [fake.url], "--drain-delay", "60") as served:
            client = await connect(port(served.urls[0]))
            await client.send(post(chat()))
            await until_streaming(client)
            served.process.send_signal(signal.SIGTERM)
            async with patient_client(base_url=served.urls[0]) as web:
                while (await web.get("/ready")).status_code != 503:
                    await asyncio.sleep(0.01)
            served.process.send_signal(signal.SIGTERM)
            assert b'"code":"draining"' in await client.answer_rest()
            client.close()
            assert await served.ended() == 0


async def test_what_cannot_start_says_why(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text("models: {m: {backnds: [http://a]}}")
    async with running("gateway.cli", "serve", str(path)) as broken:
        assert await broken.ended() == 1
        assert "did you mean" in "".join(broken.err)
    path.write_text("models: {m: {backends: [http://127.0.0.1:1]}}")
    async with running("gateway.cli", "serve", str(path), "--admin-host", "0.0.0.0") as exposed:
        assert await exposed.ended() == 2
        assert "TIDEGATE_ADMIN_TOKEN" in "".join(exposed.err)
    async with await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0) as taken:
        number = str(taken.sockets[0].getsockname()[1])
        async with running("gateway.cli", "serve", str(path), "--port", number, "--admin-port", "0") as late:
            assert await late.ended() == 1
            assert number in "".join(late.err)


async def test_routes_are_reloaded_on_change_and_on_sighup_and_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    async with backends(good, good) as (old, new), serving(tmp_path, [old.url]) as served:
        path = tmp_path / "served.yaml"
        async with patient_client() as web:

            async def status() -> dict[str, Any]:
                found: dict[str, Any] = (await web.get(f"{served.urls[1]}/admin/status")).json()
                return found

            path.write_text("models: {m: {backends: [http")
            async with asyncio.timeout(DEADLINE):
                while (await status())["routes"]["loaded"]:
                    await asyncio.sleep(0.02)
            assert (await ask(port(served.urls[0]), chat())).status == 200
            assert "tidegate_routes_loaded 0.0" in (await web.get(f"{served.urls[1]}/metrics")).text
            fresh = tmp_path / "fresh.yaml"
            fresh.write_text(json.dumps({"models": {"m": {"backends": [new.url]}}}))
            os.replace(fresh, path)
            async with asyncio.timeout(DEADLINE):
                while not new.calls:
                    await ask(port(served.urls[0]), chat())
            path.write_text(json.dumps({"models": {"m2": {"backends": [old.url]}, "m": {"backends": [old.url]}}}))
            served.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(DEADLINE):
                while len((await status())["models"]) != 2:
                    await asyncio.sleep(0.02)


async def test_a_reload_keeps_connections_and_lets_removed_backends_finish(tmp_path: Path) -> None:
    async with backends(paced, good_stream) as (old, new):
        async with gateway(tmp_path, routes(old.url)) as running_gateway:
            backend = running_gateway.backend()
            asking = asyncio.create_task(ask(running_gateway.port, chat()))
            await eventually(lambda: backend.in_flight == 1)
            path = tmp_path / "routes.yaml"
            path.write_text(routes(old.url, new.url))
            await running_gateway.app.control.reloader.reload()
            assert running_gateway.backend() is backend
            path.write_text(routes(new.url))
            await running_gateway.app.control.reloader.reload()
            await running_gateway.ready()
            assert (await ask(running_gateway.port, chat())).headers["x-gateway-backend"].endswith(str(new.port))
            assert (await asking).complete
            await eventually(lambda: backend.in_flight == 0)


async def test_a_thousand_reloads_half_of_them_broken_harm_no_stream(tmp_path: Path) -> None:
    async with backends(paced, paced) as (one, two):
        async with gateway(tmp_path, routes(one.url, two.url)) as running_gateway:
            path, number = tmp_path / "routes.yaml", running_gateway.port
            whole = ROLE + event("x") * 20 + event("y", "stop") + DONE
            stop = asyncio.Event()

            async def visit() -> int:
                visits = 0
                while not stop.is_set():
                    answer = await ask(number, chat())
                    assert (answer.status, answer.body, answer.complete) == (200, whole, True), answer.raw[:600]
                    visits += 1
                return visits

            visitors = [asyncio.create_task(visit()) for _ in range(VISITORS)]
            await eventually(lambda: running_gateway.in_flight >= 0.75 * VISITORS)
            refused = 0
            for turn in range(1000):
                good_text = routes(one.url, two.url, stall=f"{60 + turn % 7}s")
                path.write_text(good_text if turn % 2 == 0 else good_text[: turn % len(good_text)])
                try:
                    await running_gateway.app.control.reloader.reload()
                except RoutesError:
                    refused += 1
            assert refused == 500
            stop.set()
            visits = sum(await asyncio.gather(*visitors))
            last = await running_gateway.settled(visits)
            assert last.outcome is Outcome.OK
            assert {exchange.outcome for exchange in running_gateway.records.exchanges} == {Outcome.OK}
