"""The dashboard through the admin listener: its files, and the stream that it reads."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.admin.connection import AdminLimits
from gateway.admin.feed import MOST_VIEWERS
from gateway.admin.pages import FOLDER, PATHS
from gateway.policy.slo.series import Kind
from gateway.policy.slo.windows import MINUTE
from tests.admin.test_changes import changed
from tests.e2e.fakes import Call, backends, good
from tests.e2e.harness import Running, ask, chat, gateway, routes
from tests.e2e.machine import machine
from tests.e2e.raw_client import connect
from tests.waiting import DEADLINE, HandClock, eventually, patient_client

pytestmark = pytest.mark.anyio
BEARER = {"authorization": "Bearer t0k"}


@dataclass
class Watching:
    """What a viewer has been told."""

    headers: httpx.Headers
    got: list[dict[str, Any]] = field(default_factory=list)
    ended: bool = False

    async def until(self, count: int) -> dict[str, Any]:
        """Wait for so many snapshots, and return the last."""
        await eventually(lambda: len(self.got) >= count)
        return self.got[-1]


@asynccontextmanager
async def watching(admin: str, headers: dict[str, str] | None = None) -> AsyncIterator[Watching]:
    """Read the stream until the block ends."""
    async with (
        patient_client(trust_env=False) as web,
        web.stream("GET", f"{admin}/admin/stream", headers=headers) as answer,
    ):
        assert answer.status_code == 200
        found = Watching(answer.headers)

        async def read() -> None:
            kind = ""
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    told = json.loads(line.removeprefix("data: "))
                    found.got.append(changed(found.got[-1], told) if kind == "event: changes" else told)
                kind = line
            found.ended = True

        reading = asyncio.create_task(read())
        try:
            yield found
        finally:
            reading.cancel()
            await asyncio.wait((reading,))


def viewers(running: Running) -> int:
    return running.app._admin.feed.viewers


async def broken(call: Call) -> None:
    await call.send(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n")


async def test_a_browser_may_load_the_pages_and_nothing_from_elsewhere(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url), token="t0k") as running:
        async with patient_client(base_url=running.admin) as web:
            for path in PATHS:
                page = await web.get(path)
                assert page.status_code == 200, path
                policy = page.headers["content-security-policy"].split("; ")
                assert policy[0] == "default-src 'none'"
                assert all(each.endswith((" 'self'", " 'none'")) for each in policy)
                assert page.headers["x-content-type-options"] == "nosniff"
            assert "/docs" in PATHS
            rebound = await web.get("/", headers={"host": "evil.example"})
            assert rebound.status_code == 200, "with a token names do not matter: the page says nothing"
            assert (await web.get("/dashboard/nothing.js")).status_code == 401
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running, patient_client() as web:
        assert (await web.get(running.admin, headers={"host": "evil.example"})).status_code == 403
        assert (await web.get(f"{running.data}/")).status_code == 404


def test_no_page_names_another_host_or_holds_a_script_or_style() -> None:
    for path in FOLDER.rglob("*"):
        if path.suffix == ".html":
            text = path.read_text()
            assert not re.search(r"https?:|style=|<style|<script(?![^>]*src=)| on\w+=", text), path
        elif path.suffix in {".js", ".css"} and path.parent == FOLDER:
            assert "://" not in path.read_text(), path
            assert len(path.read_text().splitlines()) <= 400
    assert "MIT" in (FOLDER / "uplot/LICENSE").read_text()


async def test_with_a_token_the_stream_wants_it(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url), token="t0k") as running:
        async with patient_client(base_url=running.admin) as web:
            for path in ("/admin/stream", "/admin/snapshot", "/admin/history"):
                for headers in ({}, {"authorization": "Bearer wrong"}):
                    refused = await web.get(path, headers=headers)
                    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_admin_token")
        assert viewers(running) == 0
        async with watching(running.admin, BEARER) as seen:
            assert seen.headers["content-type"] == "text/event-stream"
            assert seen.headers["cache-control"] == "no-store"
            assert (await seen.until(1))["draining"] is False


async def test_its_numbers_are_those_of_the_admin_api(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running, patient_client() as web:
        for _ in range(3):
            assert (await ask(running.port, chat())).status == 200
        await running.settled(3)
        counted = running.app.data.ledger.get(Kind.MODEL, "m")
        await eventually(lambda: [each.windows.count(MINUTE).total for each in counted] == [3, 3, 3])
        status = (await web.get(f"{running.admin}/admin/status")).json()
        slo = (await web.get(f"{running.admin}/admin/models/m/slo")).json()
        explained = (await web.get(f"{running.admin}/admin/explain?model=m&prompt_tokens=512")).json()
        told = (await web.get(f"{running.admin}/admin/snapshot")).json()
    for key in ("version", "models", "routes", "alerts", "capacity"):
        assert told[key] == status[key], key
    assert len(told["objectives"]) == len(status["objectives"]) > 0
    for objective in told["objectives"]:
        (same,) = [each for each in status["objectives"] if each["sli"] == objective["sli"]]
        assert objective | {"budget": 0} == {key: same[key] for key in objective} | {"budget": 0}
    (mine,) = [each for each in slo["subjects"] if each["subject"] == "model"]
    for sli in (each for each in mine["slis"] if not each["prompt_tokens"]):
        (shown,) = [each for each in told["objectives"] if each["sli"] == sli["sli"]]
        windows = {each["window"]: each for each in sli["windows"]}
        for window in ("5m", "1h", "6h"):
            same = windows[window]
            assert (shown["good"][window], shown["bad"][window], shown["burn"][window]) == (
                same["good"],
                same["bad"],
                same["burn"],
            )
        pages = {each["long_window"]: each["factor"] for each in sli["alerts"] if each["severity"] == "page"}
        assert shown["pages_above"] == pages
    (backend,), (same,) = told["backends"], status["backends"]
    varying = {"predicted_ttft_seconds", "observed_ttft_seconds", "good_seconds"}
    assert {key: value for key, value in backend.items() if key not in varying} == {
        key: same[key] for key in backend.keys() - varying
    }
    (candidate,) = explained["versions"][0]["candidates"]
    assert backend["predicted_ttft_seconds"] == pytest.approx(candidate["predicted_ttft_seconds"], rel=0.5)


async def test_a_fault_and_who_burns_the_budget_come_with_the_next_snapshot(tmp_path: Path) -> None:
    async with backends(broken) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        async with watching(running.admin) as seen:
            before = await seen.until(1)
            assert {each["state"] for each in before["objectives"]} == {"too few data"}
            for _ in range(6):
                await ask(running.port, chat())
            await running.settled(6)

            def availability() -> dict[str, Any]:
                (found,) = [each for each in seen.got[-1]["objectives"] if each["sli"] == "availability"]
                return dict(found)

            await eventually(lambda: availability()["bad"]["1h"] == 6)
            assert availability()["state"] == "at risk"
            assert "at this rate a whole 28-day budget is gone" in availability()["outlook"]
            by = {each["kind"]: each for each in availability()["burners"]}
            assert by["backend"]["name"] == running.backend().id
            assert by["backend"]["bad"] >= by["version"]["bad"] == by["prompt"]["bad"] == 6


async def test_no_task_and_no_work_is_left_behind_when_a_viewer_goes(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        before = len(asyncio.all_tasks())
        for _ in range(2):  # it heals: the next stream goes on
            async with watching(running.admin) as first, watching(running.admin) as second:
                assert (await first.until(2))["at"] in {each["at"] for each in second.got}
                assert viewers(running) == 2
            await eventually(lambda: viewers(running) == 0)
            made = running.app._admin.feed.made
            await eventually(lambda: len(asyncio.all_tasks()) <= before)
            assert running.app._admin.feed.made == made


async def test_a_viewer_that_reads_nothing_is_dropped(tmp_path: Path) -> None:
    clock = HandClock()
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url), now=clock) as running:
        client = await connect(int(running.admin.rpartition(":")[2]))
        await client.send(b"GET /admin/stream HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        await eventually(lambda: viewers(running) == 1)
        await clock.passes(AdminLimits().request_seconds + 1, lambda: viewers(running) == 0)
        client.close()


async def test_fifty_viewers_leave_room_for_probes_and_commands(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running, patient_client() as web:
        async with AsyncExitStack() as all_of_them:
            open_ones = [await all_of_them.enter_async_context(watching(running.admin)) for _ in range(MOST_VIEWERS)]
            await eventually(lambda: all(each.got for each in open_ones))
            refused = await web.get(f"{running.admin}/admin/stream")
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
            assert (await web.get(f"{running.admin}/health")).status_code == 200
            assert (await web.get(f"{running.admin}/admin/status")).status_code == 200
            told = {each["at"] for viewer in open_ones for each in viewer.got}
            assert len(told) <= running.app._admin.feed.made, "made once for all"
        await eventually(lambda: viewers(running) == 0)


async def test_it_shows_the_drain_and_ends_with_the_gateway(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        async with watching(running.admin) as seen:
            await seen.until(1)
            running.app.stop()
            await eventually(lambda: seen.ended)
        async with asyncio.timeout(DEADLINE):
            await running.task


async def test_sixty_four_backends_fit_into_fifty_kilobytes(tmp_path: Path) -> None:
    urls = [f"http://127.0.0.1:{port}" for port in range(2, 66)]
    async with gateway(tmp_path, routes(*urls), wait_ready=False) as running, patient_client() as web:
        told = await web.get(f"{running.admin}/admin/snapshot")
        assert len(told.json()["backends"]) == 64
        assert len(told.content) < 50_000


async def test_of_very_many_backends_those_that_are_worst_off_are_told(tmp_path: Path) -> None:
    urls = [f"http://127.0.0.1:{port}" for port in range(2, 122)]
    async with backends(good) as (fake,):
        async with gateway(tmp_path, routes(fake.url, *urls), wait_ready=False) as running, patient_client() as web:
            await running.ready(0)
            told = (await web.get(f"{running.admin}/admin/snapshot")).json()
    assert len(told["backends"]) == 100
    assert told["left_out"]["backends"] == 21
    assert "ready" not in {each["state"] for each in told["backends"]}


async def test_workers_are_shown_as_one(tmp_path: Path) -> None:
    async with (
        backends(good) as (fake,),
        machine(tmp_path, [fake.url]) as served,
        patient_client(trust_env=False) as web,
    ):
        for path in ("/", "/docs", "/dashboard/app.js"):
            assert "default-src 'none'" in (await web.get(served.admin + path)).headers["content-security-policy"]
        async with watching(served.admin) as seen:
            told = await seen.until(2)
            status = (await web.get(f"{served.admin}/admin/status")).json()
            assert told["models"] == status["models"]
            assert [each["id"] for each in told["backends"]] == [each["id"] for each in status["backends"]]
            workers = {each["pid"] for each in status["workers"]}
            await eventually(lambda: {each["worker"] for each in seen.got[-1]["events"]} >= workers | {None})
            served.process.process.terminate()
            await eventually(lambda: seen.ended)
        assert await served.process.ended() == 0


async def test_an_open_dashboard_holds_up_no_upgrade_and_goes_on_after_it(tmp_path: Path) -> None:
    async with backends(good) as (fake,), machine(tmp_path, [fake.url], workers=1) as served:
        async with watching(served.admin) as before:
            await before.until(1)
            await served.upgraded()
            await eventually(lambda: before.ended)
        async with watching(served.admin) as after:
            await after.until(1)
