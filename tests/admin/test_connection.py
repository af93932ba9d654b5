"""What a connection to the admin listener may hold and send, and for how long."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.admin.connection import AdminConnection, AdminLimits
from gateway.clock import Clock, monotonic
from gateway.control.sweep import Checked, sweep
from gateway.lateness import Lateness
from gateway.listeners import Listener, bind, listener
from gateway.wire.slices import Slices
from tests.e2e.fakes import backends, good
from tests.e2e.harness import ask, chat, gateway, routes
from tests.e2e.processes import serving
from tests.e2e.raw_client import RawClient, connect
from tests.waiting import DEADLINE, HandClock, eventually, patient_client

pytestmark = pytest.mark.anyio
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def answering(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    """An application: reads the body, and answers `/large` with more than sockets hold, `/never` not at all."""
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/never":
        await receive()  # until the connection is gone
        return
    body = b"x" * (50_000_000 if scope["path"] == "/large" else 2)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def listening(clock: Clock = monotonic, **bounds: Any) -> AsyncIterator[tuple[Listener, int]]:
    limits = AdminLimits(**bounds)
    made = listener(answering, partial(AdminConnection, limits=limits, clock=clock), None, limits.admit)
    bound = bind("127.0.0.1", 0)
    serving = asyncio.create_task(made.serve(sockets=[bound]))
    await made.accepting.wait()
    held = cast(set[Checked], made.server_state.connections)
    sweeping = asyncio.create_task(sweep(lambda: [held], clock, Lateness(), Slices(monotonic)))
    try:
        yield made, bound.getsockname()[1]
    finally:
        made.should_exit = made.force_exit = True
        await serving
        sweeping.cancel()


async def ends(client: RawClient) -> bytes:
    """Return what comes until the connection ends."""
    got = b""
    try:
        while data := await client.reader.read(65536):
            got += data
    except ConnectionError:
        pass
    client.close()
    return got


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /%b HTTP/1.1\r\nhost: x\r\n\r\n" % (b"x" * 9000), 414),
        (b"GET / HTTP/1.1\r\nhost: x\r\n%b\r\n" % (b"a: b\r\n" * 200), 431),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: %b\r\n\r\n" % (b"x" * 40_000), 431),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: %b" % (b"x" * 40_000), 431),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 65537\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %b\r\n\r\n" % (b"9" * 18), 413),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %b\r\n\r\n" % (b"9" * 40), 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n12000\r\n%b\r\n" % (b"x" * 0x12000), 413),
        (
            b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
            + b"".join(b"1;%b\r\nx\r\n" % (b"e" * 1000) for _ in range(200)),
            431,
        ),
        (GET.replace(b"/ ", b"/never ") * 20, 400),
        (b"no http\r\n\r\n", 400),
    ],
)
async def test_what_is_too_much_is_refused_in_words(request_: bytes, status: int) -> None:
    async with listening() as (made, port):
        client = await connect(port)
        await client.send(request_)
        answer = await client.answer()
        assert (answer.status, answer.complete) == (status, True)
        assert answer.json["error"]["message"]
        client.close()
        await eventually(lambda: not made.server_state.connections)


async def test_much_within_the_bounds_is_taken() -> None:
    async with listening() as (_, port):
        async with patient_client(base_url=f"http://127.0.0.1:{port}") as web:
            for _ in range(20):
                assert (await web.post("/", content=b"x" * 60_000, headers={"a": "x" * 20_000})).status_code == 200
                assert (await web.get("/" + "x" * 8000)).status_code == 200


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx"])
async def test_what_does_not_come_in_time_is_not_waited_for(sent: bytes) -> None:
    async with listening(head_seconds=0.3, request_seconds=0.3) as (made, port):
        client = await connect(port)
        await client.send(sent)
        await ends(client)
        await eventually(lambda: not made.server_state.connections)


async def test_bytes_now_and_then_do_not_move_the_deadline() -> None:
    clock = HandClock()
    async with listening(clock, head_seconds=0.5) as (made, port):
        client = await connect(port)
        await eventually(lambda: len(made.server_state.connections) == 1)
        while made.server_state.connections:
            client.writer.write(b"x")
            clock.advance(0.02)
            await asyncio.sleep(0.02)
        client.close()


@pytest.mark.parametrize("path", [b"/large", b"/never"])
async def test_an_answer_that_is_not_read_or_never_comes_ends(path: bytes) -> None:
    clock = HandClock()
    async with listening(clock, request_seconds=0.5) as (made, port):
        client = await connect(port)
        await client.send(GET.replace(b"/ ", path + b" "))
        await eventually(lambda: len(made.server_state.connections) == 1)
        await clock.passes(0.6, lambda: not made.server_state.connections)
        client.close()


async def test_an_idle_connection_ends() -> None:
    async with listening(idle_seconds=0.2) as (made, port):
        client = await connect(port)
        await client.send(GET)
        assert (await client.answer()).status == 200
        await eventually(lambda: not made.server_state.connections)
        client.close()


async def test_a_newcomer_gets_the_place_of_the_one_that_was_idle_the_longest() -> None:
    async with listening(connections=4, head_seconds=600.0, request_seconds=600.0, idle_seconds=600.0) as (made, port):
        busy = await connect(port)
        await busy.send(GET.replace(b"/ ", b"/never "))
        await eventually(lambda: any(each.busy for each in made.server_state.connections))  # type: ignore[union-attr]
        idle = [await connect(port) for _ in range(10)]
        assert len(made.server_state.connections) <= 4
        for client in idle[:7]:
            assert await ends(client) == b""
        for client in idle[7:]:
            await client.send(GET)
            assert (await client.answer()).status == 200
        assert sum(each.busy for each in made.server_state.connections) == 1  # type: ignore[union-attr]
        for client in (*idle[7:], busy):
            client.close()


async def test_where_everyone_is_busy_a_newcomer_is_turned_away() -> None:
    async with listening(connections=2, request_seconds=600.0) as (made, port):
        busy = [await connect(port) for _ in range(2)]
        for client in busy:
            await client.send(GET.replace(b"/ ", b"/never "))
        await eventually(lambda: sum(each.busy for each in made.server_state.connections) == 2)  # type: ignore[union-attr]
        assert await ends(await connect(port)) == b""
        for client in busy:
            client.close()


async def test_a_crowd_on_either_listener_leaves_the_other_one_serving(tmp_path: Path) -> None:
    """With 400 descriptors, of which the data listener takes 70 connections."""
    async with backends(good) as (fake,), serving(tmp_path, [fake.url], descriptors=400) as served:
        data, admin = (int(url.rsplit(":", 1)[1]) for url in served.urls)
        crowd = [await connect(admin) for _ in range(600)]
        for _ in range(20):
            assert (await ask(data, chat(stream=False))).status == 200
        async with patient_client() as web:
            assert (await web.get(f"{served.urls[1]}/health")).status_code == 200
            crowd += [await connect(data) for _ in range(600)]
            for path in ("/health", "/metrics", "/admin/status"):
                assert (await web.get(f"{served.urls[1]}{path}")).status_code == 200
        for client in crowd:
            client.close()
        async with asyncio.timeout(DEADLINE):
            while (await ask(data, chat(stream=False))).status != 200:
                await asyncio.sleep(0.1)


async def test_a_name_without_end_is_not_compared_nor_repeated(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running, patient_client() as web:
        for path in ("models/{}/slo", "deployments/{}", "models/{}/canary", "explain?prompt_tokens=1&model={}"):
            answer = await web.get(f"{running.admin}/admin/{path.format('m' * 7000)}")
            assert answer.status_code == 404
            assert len(answer.text) < 600, path
