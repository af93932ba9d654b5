"""Faults are set while the server runs, and look like those of real servers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from tests.sim.captured import captured, events
from tests.sim.conftest import Serve
from tests.waiting import DEADLINE, HandClock, patient_client

CHAT = "/v1/chat/completions"

pytestmark = pytest.mark.anyio


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20, **fields}


async def break_with(client: httpx.AsyncClient, **faults: Any) -> None:
    answer = await client.post("/sim/faults", json=faults)
    assert answer.status_code == 200, answer.text


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not await condition():
            await asyncio.sleep(0.005)


async def test_the_paths_and_the_faults_that_there_are_can_be_asked_for(client: httpx.AsyncClient) -> None:
    found = (await client.get("/sim")).json()
    assert found["faults"] == (await client.get("/sim/faults")).json()
    for path in found["paths"]:
        method, where = path.split()
        assert (await client.request(method, where, content=b"{}")).status_code == 200


async def test_faults_are_shown_replaced_and_cleared(client: httpx.AsyncClient) -> None:
    healthy = (await client.get("/sim/faults")).json()
    await break_with(client, slow=3, error_rate=0.5)
    await break_with(client, slow=4)
    assert (await client.get("/sim/faults")).json() == {**healthy, "slow": 4.0}
    await client.delete("/sim/faults")
    assert (await client.get("/sim/faults")).json() == healthy


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ('{"slow": 0}', "slow", "greater than 0"),
        ('{"error_rate": 2}', "error_rate", "less than or equal to 1"),
        ('{"error_code": 200}', "error_code", "greater than or equal to 400"),
        ('{"stal_after": 2}', "stal_after", "Known faults: stall_after"),
        ('{"stall_after": "x"}', "stall_after", "valid integer"),
        ('{"refuse": true}', "refuse", "refuse_seconds"),
        ("{", None, "Invalid JSON"),
    ],
)
async def test_a_wrong_fault_is_refused_in_words_that_help(
    client: httpx.AsyncClient, body: str, field: str | None, words: str
) -> None:
    answer = await client.post("/sim/faults", content=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, field)
    assert words in error["message"]


async def test_errors_come_at_the_rate_and_with_the_code_that_were_set(client: httpx.AsyncClient) -> None:
    await break_with(client, error_rate=0.5, error_code=502)
    answers = [await client.post(CHAT, json=chat()) for _ in range(40)]
    codes = [answer.status_code for answer in answers]
    assert set(codes) == {200, 502}
    assert 8 < codes.count(502) < 32
    bad = next(answer for answer in answers if answer.status_code == 502)
    assert bad.json()["error"]["code"] == 502


async def test_an_error_inside_a_stream_is_followed_by_the_usual_end(client: httpx.AsyncClient) -> None:
    await break_with(client, stream_error_after=3)
    answer = await client.post(CHAT, json=chat(stream=True))
    expected = captured("vllm-crash/stream_enginecore_killed")
    assert answer.content.split(b"\n\n")[-3:] == expected.body.split(b"\n\n")[-3:]
    assert answer.status_code == 200
    assert (await client.post(CHAT, json=chat())).json() == captured("vllm-crash/chat_after_enginecore_kill").json


async def test_a_stream_is_cut_by_a_reset(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    await break_with(client, cut_after=3)
    got = bytearray()

    async def read_all() -> None:
        async with client.stream("POST", CHAT, json=chat(stream=True)) as answer:
            async for chunk in answer.aiter_bytes():
                got.extend(chunk)

    with pytest.raises(httpx.ReadError):
        await read_all()
    assert b'"content":' in got
    assert b"[DONE]" not in got
    with pytest.raises(httpx.ReadError):
        await client.post(CHAT, json=chat())
    assert [record.message for record in caplog.records if record.name.startswith("uvicorn")] == []


async def test_a_stalled_stream_says_nothing_more_until_the_client_leaves(serve: Serve) -> None:
    async with serve() as (sim, client):
        await break_with(client, stall_after=3)
        with pytest.raises(httpx.ReadTimeout):
            await client.post(CHAT, json=chat(stream=True), timeout=httpx.Timeout(DEADLINE, read=0.2))
        await until(lambda: calls_are(client, 0))
        assert sim.simulation.deliveries == set()


async def test_a_stalled_stream_can_go_on_sending_comments(serve: Serve) -> None:
    async with serve(sse_keep_alive_interval=0.01) as (_, client):
        await break_with(client, stall_after=2, keep_alive_on_stall=True)
        got = b""
        async with client.stream("POST", CHAT, json=chat(stream=True)) as answer:
            async for chunk in answer.aiter_bytes():
                got += chunk
                if got.endswith(b": keep-alive\n\n: keep-alive\n\n"):
                    break
        assert b"[DONE]" not in got


async def test_a_fault_can_be_asked_for_by_a_single_request(client: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.ReadError):
        await client.post(CHAT, json=chat(sim={"cut_after": 1}))
    assert (await client.post(CHAT, json=chat())).status_code == 200


async def test_the_first_token_can_be_late(serve: Serve) -> None:
    async with serve(sse_keep_alive_interval=0.02) as (_, client):
        await break_with(client, ttft_delay=0.1)
        answer = await client.post(CHAT, json=chat(stream=True))
        assert answer.content.startswith(b": keep-alive\n\n")
        assert events(answer.content)[-1] == "[DONE]"


async def test_a_slow_engine_takes_longer_for_each_token(serve: Serve) -> None:
    async with serve(time_scale=1.0) as (sim, client):
        await break_with(client, slow=5)
        clock = sim.simulation.runner.clock
        before = clock()
        await client.post(CHAT, json=chat(max_tokens=3))
        assert clock() - before > 0.15


async def test_a_frozen_engine_is_well_to_those_who_ask_and_goes_on_where_it_stopped(serve: Serve) -> None:
    async with serve() as (sim, client):
        await break_with(client, frozen=True)
        answer = asyncio.create_task(client.post(CHAT, json=chat(max_tokens=3)))
        await until(lambda: calls_are(client, 1))
        assert (await client.get("/health")).status_code == 200
        assert not answer.done()
        assert sim.simulation.engine.tally.generation_tokens == 0
        await client.delete("/sim/faults")
        assert (await answer).json()["usage"]["completion_tokens"] == 3


async def test_not_ready_turns_health_and_calls_into_503_for_a_while(serve: Serve) -> None:
    async with serve() as (sim, client):
        sim.simulation.board._clock = clock = HandClock()  # noqa: SLF001 - the test's own clock
        await break_with(client, not_ready_seconds=5)
        clock.advance(4.9)
        assert (await client.get("/health")).status_code == 503
        assert (await client.post(CHAT, json=chat())).status_code == 503
        assert (await client.get("/v1/models")).status_code == 200
        clock.advance(0.1)
        assert (await client.get("/health")).status_code == 200
        assert (await client.post(CHAT, json=chat())).status_code == 200


async def test_a_dead_engine_breaks_running_streams_and_refuses_calls(serve: Serve) -> None:
    async with serve(time_scale=1.0) as (_, client):
        stream = asyncio.create_task(client.post(CHAT, json=chat(stream=True, max_tokens=1000)))
        await until(lambda: calls_are(client, 1))
        await break_with(client, dead=True)
        error, done = events((await stream).content)[-2:]
        assert (error["error"]["code"], done) == (500, "[DONE]")
        after = await client.post(CHAT, json=chat())
        expected = captured("vllm-crash/chat_after_enginecore_kill")
        assert (after.status_code, after.json()) == (expected.status, expected.json)
        assert (await client.get("/health")).status_code == captured("vllm-crash/health_after_enginecore_kill").status


class TestRefusal:
    async def test_connections_are_refused_for_a_while(self, serve: Serve) -> None:
        async with serve() as (sim, client):
            await break_with(client, refuse_seconds=0.15)
            with pytest.raises(httpx.ConnectError):
                await client.get("/health")

            async def back() -> bool:
                try:
                    return (await client.get("/health")).status_code == 200
                except httpx.ConnectError:
                    return False

            await until(back)
            assert (await client.post(CHAT, json=chat())).status_code == 200
            assert sim.port == client.base_url.port

    async def test_the_control_port_stays_up_and_can_end_it(self, serve: Serve) -> None:
        async with serve(control_port=0) as (sim, client):
            async with patient_client(base_url=f"http://127.0.0.1:{sim.control_port}") as control:
                await break_with(control, refuse=True)
                with pytest.raises(httpx.ConnectError):
                    await client.get("/health")
                assert (await control.get("/sim/state")).json()["ready"] is True
                await control.delete("/sim/faults")
            assert (await client.get("/health")).status_code == 200

    async def test_streams_that_run_go_on(self, serve: Serve) -> None:
        async with serve(time_scale=0.2) as (_, client):
            stream = asyncio.create_task(client.post(CHAT, json=chat(stream=True, max_tokens=40)))
            await until(lambda: calls_are(client, 1))
            await break_with(client, refuse_seconds=3600)
            assert events((await stream).content)[-1] == "[DONE]"


async def calls_are(client: httpx.AsyncClient, count: int) -> bool:
    return bool((await client.get("/sim/state")).json()["calls"] == count)
