"""Upgrades: other workers and another program in the same process, and no client notices."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.background import in_background
from tests.e2e.fakes import backends, good
from tests.e2e.harness import chat, gateway, post, routes
from tests.e2e.machine import machine, needs_wrk, wrk
from tests.e2e.raw_client import connect
from tests.e2e.test_workers import streaming, until_told
from tests.waiting import DEADLINE

pytestmark = pytest.mark.anyio
REQUESTS = 10_000
READY = b"GET /ready HTTP/1.1\r\nhost: gateway\r\n\r\n"


async def tidegate(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    text = (await process.communicate())[0].decode()
    return process.returncode or 0, text


async def test_connections_streams_sockets_and_the_process_outlive_an_upgrade(tmp_path: Path) -> None:
    arguments = ("--drain-timeout", "60")
    async with backends(until_told) as (fake,), machine(tmp_path, [fake.url], *arguments, workers=1) as served:
        stream = await streaming(served.port)
        idle = await connect(served.port)
        await idle.send(READY)
        first = await idle.answer("GET")
        assert first.status == 200
        assert "connection" not in first.headers
        status, text = await tidegate("upgrade", "--admin", served.admin)
        assert (status, text) == (0, "generation 2 serves\n")
        assert served.process.process.returncode is None
        found = await served.status()
        assert sorted((each["generation"], each["stage"]) for each in found["workers"]) == [
            (1, "retiring"),
            (2, "serving"),
        ]
        later = await streaming(served.port)
        for call in fake.calls:
            call.passed.set()
        assert b"[DONE]" in await stream.answer_rest()
        assert b"[DONE]" in await later.answer_rest()
        await idle.send(READY)
        answer = await idle.answer("GET")
        assert answer.status == 200, served.process.err
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        await served.until(lambda status: len(status["workers"]) == 1)


async def test_a_generation_that_does_not_become_ready_changes_nothing(tmp_path: Path) -> None:
    async with backends(good) as (fake,), machine(tmp_path, [fake.url], workers=1) as served:
        file = Path((await served.status())["state"]["where"].removeprefix("sqlite:///"))
        os.rename(file, file.with_suffix(".away"))
        os.mkdir(file)  # no file for the state: what starts now fails
        status, text = await tidegate("upgrade", "--admin", served.admin)
        os.rmdir(file)
        os.rename(file.with_suffix(".away"), file)
        assert status == 1
        assert re.match(r"tidegate: the upgrade failed: worker \d+ of the new generation ended", text), text
        client = await connect(served.port)
        await client.send(post(chat(stream=False)))
        assert (await client.answer()).status == 200
        found = await served.status()
        assert [(each["generation"], each["stage"]) for each in found["workers"]] == [(1, "serving")]


async def test_one_process_says_that_it_cannot_be_upgraded(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        status, text = await tidegate("upgrade", "--admin", running.admin)
        assert status == 1
        assert "--workers 1" in text


@needs_wrk
@pytest.mark.parametrize("close", [False, True], ids=["keep-alive", "new connections"])
async def test_three_upgrades_under_load_lose_no_request(tmp_path: Path, close: bool) -> None:
    arguments = ("--no-access-log", "--drain-timeout", "10")
    async with backends(good) as (fake,), machine(tmp_path, [fake.url], *arguments) as served:
        done, requests = False, 0

        async def load() -> None:
            nonlocal requests
            while not done or requests < REQUESTS:
                # Once there were enough, a trickle goes on, which takes no core from the upgrades that are left.
                pause = 10 if requests < REQUESTS else 200
                found = await wrk(tmp_path, served.port, seconds=2, pause=pause, close=close)
                requests += found.requests
                assert (found.lost, found.refused, found.bad) == (0, 0, 0)

        async with in_background(served.keep_scraping()):
            loading = asyncio.create_task(load())
            for _ in range(3):
                before = (await served.status())["generation"]
                served.process.process.send_signal(signal.SIGUSR2)
                await served.until(lambda status, before=before: status["generation"] > before, 6 * DEADLINE)  # type: ignore[misc]
            done = True
            await loading
        assert served.falls == []
        assert requests >= REQUESTS
        assert (await served.status())["generation"] == 4
