"""The dashboard in a real browser: it shows the admin API's numbers, heals, and loads nothing from elsewhere."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from gateway.wire.slices import finish
from tests.e2e.browser import Page, browser, needs_browser
from tests.e2e.fakes import Call, backends, good
from tests.e2e.harness import ask, chat, gateway, routes
from tests.waiting import patient_client

pytestmark = [pytest.mark.anyio, needs_browser]
AXE = resources.files("axe_core_python").joinpath("axe.min.js").read_text()
SHOWN = "document.documentElement.dataset.at"
CARDS = """Object.fromEntries([...document.querySelectorAll("#models .card")].map((card) => [
  card.querySelector("h4").firstChild.textContent,
  Object.fromEntries(
    [...card.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part.value ?? part.textContent])),
]))"""
ROW = '[...document.querySelector("#backends tbody tr").cells]'
NAMES = {"availability": "Availability", "ttft": "TTFT", "tpot": "TPOT"}


async def broken(call: Call) -> None:
    await call.send(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n")


def canary(stable: str, candidate: str) -> str:
    pools = {"blue": {"backends": [stable]}, "green": {"backends": [candidate]}}
    versions = {"v1": {"pools": ["blue"]}, "v2": {"pools": ["green"]}}
    plan = {"stable": "v1", "candidate": "v2", "steps": [10, 50, 100], "hold": "10m"}
    return json.dumps({"pools": pools, "models": {"m": {"versions": versions, "canary": plan}}})


def about(value: Any) -> str:
    """Return a number as a `data` element holds it."""
    return "" if value is None else f"{value:g}" if value != 1 else "1"


async def test_it_shows_the_numbers_of_the_admin_api_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        for _ in range(4):
            assert (await ask(running.port, chat())).status == 200
        await running.settled(4)
        finish(running.app._admin.history.taking())  # the charts begin with what was before the page was opened
        async with browser(tmp_path / "profile") as page, patient_client() as web:
            await page.screen(360)
            await page.open(running.admin)
            await page.until(SHOWN)
            status = (await web.get(f"{running.admin}/admin/status")).json()
            cards = await page.run(CARDS)
            for objective in status["objectives"]:
                card = cards[NAMES[objective["sli"]]]
                good_share = objective["good"]["5m"] / max(1, objective["good"]["5m"] + objective["bad"]["5m"])
                assert card["state"] == objective["state"]
                assert float(card["now"]) == good_share
                assert float(card["target"]) == objective["target"]
                assert card["fast"] == about(objective["burn"]["1h"])
                assert card["slow"] == about(objective["burn"]["6h"])
                assert card["budget"].lower() == f"{objective['budget']['words']}.".lower()
            row = await page.run(f"{ROW}.map((cell) => cell.textContent)")
            (backend,) = status["backends"]
            assert row[:2] == [backend["id"], backend["state"]]
            assert (row[4], backend["share"]) == ("100 %, 4 attempts", 1.0)
            assert row[5] == f"{backend['in_flight']} of {backend['limit']}"
            assert (await page.run('document.querySelector(".model p").textContent')).startswith("4 requests")
            assert await page.run('document.querySelectorAll(".waiting").length') == 0
            assert await page.run("document.documentElement.scrollWidth <= innerWidth"), "it fits a small screen"
            assert await page.until('document.querySelectorAll(".chart canvas").length')
            await page.run(f"{AXE}; undefined")
            for scheme in ("light", "dark"):
                await page.screen(360, scheme=scheme)
                assert await page.run("axe.run().then((found) => found.violations.map((each) => each.id))") == []
        assert page.console == []
        assert page.requests
        assert [each for each in page.requests if not each.startswith(running.admin)] == []


async def test_a_fault_is_shown_and_a_lost_connection_heals(tmp_path: Path) -> None:
    async with backends(broken) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        async with browser(tmp_path / "profile") as page:
            await page.open(running.admin)
            await page.until(SHOWN)
            for _ in range(6):
                await ask(running.port, chat())
            await page.until(f'{CARDS}.Availability.state === "at risk"')
            bars = await page.run('document.querySelector("[data-part=burners]").innerText')
            assert running.backend().id in bars
            assert "m/" in bars
            assert "below 4,096 tokens\n100 %: 6 of its 6" in bars
            await offline(page, is_offline=True)
            await page.until('document.getElementById("connection").textContent.startsWith("Not live")')
            last = await page.run(SHOWN)
            await offline(page, is_offline=False)
            await page.until(f'document.getElementById("connection").textContent === "Live" && {SHOWN} > "{last}"')


async def offline(page: Page, *, is_offline: bool) -> None:
    """Cut the page off from the gateway, or no more."""
    speed = 0 if is_offline else -1
    await page.call(
        "Network.emulateNetworkConditions",
        offline=is_offline,
        latency=0,
        downloadThroughput=speed,
        uploadThroughput=speed,
    )


async def test_it_asks_for_the_token_and_a_rollout_obeys_only_with_it(tmp_path: Path) -> None:
    async with backends(good, good) as (stable, candidate):
        async with gateway(tmp_path, canary(stable.url, candidate.url), token="t0k") as running:
            async with browser(tmp_path / "profile") as page:
                await page.screen(1280, 3000)
                await page.open(running.admin)
                for typed in ("wrong", "t0k"):
                    await page.until('!document.getElementById("token-form").hidden')
                    await page.run(
                        f'document.getElementById("token").value = "{typed}";'
                        'document.querySelector("#token-form button").click()'
                    )
                await page.until('document.querySelector("[data-action=pause]:not([hidden])") !== null')
                assert await page.run("localStorage.length + sessionStorage.length + document.cookie.length") == 0
                await page.run('document.querySelector("[data-action=pause]").click()')
                assert await page.run('document.getElementById("confirm").open')
                rollout = running.app.control.rollouts.get("m")
                assert rollout is not None
                assert rollout.rollout.phase == "step", "nothing happens before it is confirmed"
                await page.run(
                    'document.getElementById("confirm-reason").value = "lunch";'
                    'document.getElementById("confirm-yes").click()'
                )
                await page.until('document.querySelector("[data-action=resume]:not([hidden])") !== null')
                await page.until('document.getElementById("event-list").textContent.includes("dashboard: pause")')
                assert rollout.rollout.phase == "paused"
                assert (await ask(running.port, chat())).status == 200  # charts begin with the first request
                told = await page.until('document.querySelector(".pins .told")?.textContent')
                assert "dashboard: pause rollout of m: lunch" in told, "charts mark what happened"


async def test_the_description_of_the_api_works_without_another_host(tmp_path: Path) -> None:
    async with backends(good) as (fake,), gateway(tmp_path, routes(fake.url)) as running:
        async with browser(tmp_path / "profile") as page:
            await page.open(f"{running.admin}/docs")
            await page.until('document.getElementById("paths").textContent.includes("GET /admin/status")')
        assert page.console == []
        assert [each for each in page.requests if not each.startswith(running.admin)] == []
