"""A candidate that is as good walks every step, a bad one is back at nothing by itself, and nobody sees an error."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import clock
from gateway.control.rollout_progress import RolloutProgress
from gateway.exchange import Outcome
from gateway.policy.canary.rollout import Phase
from tests.e2e.fakes import FakeBackend, Script, backends, good, whole
from tests.e2e.harness import Running, ask, chat, gateway
from tests.e2e.processes import Process, serving
from tests.waiting import DEADLINE, eventually, patient_client

pytestmark = pytest.mark.anyio
FAST = {
    "steps": [10, 50, 95],
    "hold": "200ms",
    "last_hold": "200ms",
    "min_requests": 10,
    "max_hold": "60s",
    "warm_up": 2,
    "warm_up_time": "1ms",
    "margin": 100,
}
OBJECTIVE = {"availability": {"target": 99.9}, "ttft": {"target": 95, "under": "100ms"}}
PATIENT = {**OBJECTIVE, "ttft": {"target": 95, "under": "3s"}}
"""Kept by whoever answers at once, however busy the machine; a candidate that is `LATE` never keeps it."""
LATE = 3.2
"""Seconds to the first token."""


def routes(stable: str, candidate: str, objective: dict[str, Any] | None = None, **canary: Any) -> str:
    return json.dumps(
        {
            "pools": {"blue": {"backends": [stable]}, "green": {"backends": [candidate]}},
            "objectives": {"o": objective or OBJECTIVE},
            "models": {
                "m": {
                    "objective": "o",
                    "timeouts": {"first_token": "10m", "stall": "10m", "total": "20m"},
                    "versions": {"v1": {"pools": ["blue"]}, "v2": {"pools": ["green"]}},
                    "canary": {"stable": "v1", "candidate": "v2", **FAST, **canary},
                    "version_header": True,
                }
            },
        }
    )


class Crowd:
    """Clients with sessions, one request after the other each; `seen` are the versions of every session, in order."""

    def __init__(self, port: int, sessions: int = 40, *, fresh: bool = False) -> None:
        """With `fresh` every request is a session of its own: a few sessions cannot tell versions apart."""
        self.seen: defaultdict[str, list[str]] = defaultdict(list)
        self.errors: list[tuple[int, bytes]] = []
        self._port = port
        self._fresh = fresh
        self._leaving = asyncio.Event()
        self._tasks = [asyncio.create_task(self._client(f"s{number}")) for number in range(sessions)]

    async def _client(self, session: str) -> None:
        while not self._leaving.is_set():
            number = f"-{len(self.seen[session])}" if self._fresh else ""
            answer = await ask(self._port, chat(), headers=f"x-session-id: {session}{number}\r\n")
            self.seen[session].append(answer.headers.get("x-gateway-version", ""))
            if answer.status != 200 or not answer.complete or b"error" in answer.body:
                self.errors.append((answer.status, answer.body))
            await asyncio.sleep(0.01)

    async def leave(self) -> None:
        self._leaving.set()
        await asyncio.gather(*self._tasks)

    @property
    def moves(self) -> list[tuple[str, str]]:
        """Every change of version that a session lived through."""
        return [
            (before, after)
            for versions in self.seen.values()
            for before, after in pairwise(versions)
            if before != after
        ]


@asynccontextmanager
async def crowd(port: int, sessions: int = 40, *, fresh: bool = False) -> AsyncIterator[Crowd]:
    people = Crowd(port, sessions, fresh=fresh)
    try:
        yield people
    finally:
        await people.leave()


@asynccontextmanager
async def rolling(
    folder: Path, stable: Script, candidate: Script, **canary: Any
) -> AsyncIterator[tuple[Running, list[FakeBackend], RolloutProgress]]:
    async with backends(stable, candidate) as fakes:
        async with gateway(folder, routes(fakes[0].url, fakes[1].url, **canary)) as running:
            found = running.app.control.rollouts.get("m")
            assert found is not None
            yield running, fakes, found
            await running.quiet()


def now(running: Running) -> RolloutProgress:
    found = running.app.control.rollouts.get("m")
    assert found is not None
    return found


async def in_phase(running: Running, phase: Phase) -> RolloutProgress:
    await eventually(lambda: now(running).rollout.phase is phase)
    return now(running)


def after(seconds: float) -> Script:
    async def script(call: Any) -> None:
        await asyncio.sleep(seconds)
        await good(call)

    return script


async def failing(call: Any) -> None:
    await call.send(whole(b"500 Internal Server Error", b'{"error": {"message": "no"}}'))


async def test_a_good_candidate_walks_every_step_and_no_session_goes_back(tmp_path: Path) -> None:
    async with rolling(tmp_path, good, good) as (running, _, _):
        async with crowd(running.port) as people:
            done = await in_phase(running, Phase.PROMOTED)
            promoted = {session: len(versions) for session, versions in people.seen.items()}
            await eventually(lambda: all(len(people.seen[each]) > count + 3 for each, count in promoted.items()))
    assert [(each.phase, each.share) for each in done.history] == [
        (Phase.IDLE, 0.0),
        (Phase.WAITING, 0.0),
        (Phase.STEP, 10.0),
        (Phase.STEP, 50.0),
        (Phase.STEP, 95.0),
        (Phase.PROMOTED, 100.0),
    ]
    assert people.errors == []
    assert set(people.moves) <= {("v1", "v2")}, "a session changes its version by the rollout alone"
    assert {versions[-1] for versions in people.seen.values()} == {"v2"}
    words = [(record.action, record.reason) for record in running.app.control.audit]
    assert [action for action, _ in words] == ["start", "ready", "advance", "advance", "finish"]
    assert "requests, no SLI is worse; v2 now has 50 % of requests" in words[2][1]


async def test_a_slow_candidate_goes_back_by_itself_and_no_client_sees_an_error(tmp_path: Path) -> None:
    async with rolling(tmp_path, good, after(LATE), objective=PATIENT) as (running, _, _):
        async with crowd(running.port, fresh=True) as people:
            done = await in_phase(running, Phase.ROLLED_BACK)
            moved = clock.monotonic()
            await eventually(lambda: sum(each.received > moved for each in running.records.exchanges) > 100)
            later = [each for each in running.records.exchanges if each.received > moved]
    assert "ttft is worse than stable's: e-value" in done.rollout.reason
    assert people.errors == []
    assert {each.version for each in later} == {"v1"}
    report = done.tallies["v2"]
    assert report.requests < 100, "most requests never met it"


async def test_a_candidate_that_fails_every_request_is_out_within_five(tmp_path: Path) -> None:
    async with rolling(tmp_path, good, failing) as (running, fakes, _):
        async with crowd(running.port):
            done = await in_phase(running, Phase.ROLLED_BACK)
        assert done.evidence.answered <= 5, done.rollout.reason
        bad = [each for each in running.records.exchanges if each.outcome is Outcome.BACKEND_ERROR]
        assert len(bad) <= 5 + 40, "those in flight at the time may fail too"
        assert sum(each.version == "v2" for each in bad) == len(bad)
        assert fakes[1].calls


async def test_a_candidate_that_is_not_ready_waits_and_costs_no_request(tmp_path: Path) -> None:
    async with backends(good, good) as (old, new):
        new.health = b"503 Service Unavailable"
        async with gateway(tmp_path, routes(old.url, new.url), wait_ready=False) as running:
            await running.ready(0)
            await in_phase(running, Phase.WAITING)
            await eventually(lambda: now(running).decision.reason == "no backend of v2 is ready")
            assert (await ask(running.port, chat())).headers["x-gateway-version"] == "v1"
            new.health = b"200 OK"
            await in_phase(running, Phase.STEP)


async def test_a_candidate_that_goes_away_costs_no_request(tmp_path: Path) -> None:
    async with rolling(tmp_path, good, good, hold="30s") as (running, fakes, _):
        await in_phase(running, Phase.STEP)
        fakes[1].health = b"503 Service Unavailable"
        await eventually(lambda: not running.backend(1).readiness.eligible)
        async with crowd(running.port, 20) as people:
            await eventually(lambda: len(running.records.exchanges) > 100)
        assert people.errors == []
        assert {each.version for each in running.records.exchanges} == {"v1"}


async def test_a_stable_that_goes_away_holds_the_rollout_and_costs_no_request(tmp_path: Path) -> None:
    async with rolling(tmp_path, good, good) as (running, fakes, found):
        await in_phase(running, Phase.STEP)
        fakes[0].health = b"503 Service Unavailable"
        await eventually(lambda: found.decision.reason == "waits: stable v1 has no ready backend")
        async with crowd(running.port, 20) as people:
            await eventually(lambda: len(running.records.exchanges) > 200)
            assert found.rollout.share == 10.0
            assert found.decision.reason == "waits: stable v1 has no ready backend"
            assert found.evidence.answered < 100 < sum(each.stands_in for each in running.records.exchanges)
            fakes[0].health = b"200 OK"
            await in_phase(running, Phase.PROMOTED)
        assert people.errors == []


async def post(running: Running, action: str, reason: str = "because", **more: bool) -> httpx.Response:
    async with patient_client(base_url=running.admin) as client:
        return await client.post(
            f"/admin/models/m/canary/{action}", json={"reason": reason, **more}, headers={"x-gateway-actor": "ann"}
        )


async def get(running: Running, path: str) -> Any:
    async with patient_client(base_url=running.admin) as client:
        return (await client.get(path)).json()


async def test_people_pause_resume_promote_and_roll_back_and_all_of_it_is_on_record(tmp_path: Path) -> None:
    async with rolling(tmp_path, good, good, start="manual", hold="30s") as (running, _, _):
        await eventually(lambda: now(running).decision.reason == "waits for `tidegate canary start m`")
        assert (await post(running, "start", "let us try")).json()["phase"] == "waiting"
        await in_phase(running, Phase.STEP)
        assert (await post(running, "pause", "lunch")).json()["weight"] == 10.0
        again = await post(running, "pause")
        assert (again.status_code, again.json()["notes"][0]) == (200, "already paused: nothing was changed")
        refused = await post(running, "start")
        assert refused.status_code == 409
        message = refused.json()["error"]["message"]
        assert message == "cannot start a rollout that is paused; possible: promote, resume, rollback"
        assert (await post(running, "resume")).json()["phase"] == "step"
        assert (await post(running, "promote", "it is fine")).json()["weight"] == 100.0
        assert (await ask(running.port, chat())).headers["x-gateway-version"] == "v2"
        assert (await post(running, "rollback", "it is not")).json()["phase"] == "rolled_back"
        assert (await ask(running.port, chat())).headers["x-gateway-version"] == "v1"
        assert (await post(running, "explode")).status_code == 404

        records = await get(running, "/admin/audit")
        told = [(each["actor"], each["action"], each["reason"].split(";")[0]) for each in records]
        assert told[:3] == [
            ("ann", "rollback", "it is not"),
            ("ann", "promote", "it is fine"),
            ("ann", "resume", "because"),
        ]
        assert told[3][1] == "start refused"
        assert "(asked: because)" in told[3][2] or "(asked: because)" in records[3]["reason"]
        status = await get(running, "/admin/models/m/canary")
        assert [each["phase"] for each in status["history"]][-2:] == ["promoted", "rolled_back"]


async def test_clients_force_a_version_where_they_may_and_are_no_sample(tmp_path: Path) -> None:
    async with rolling(tmp_path, good, good, start="manual") as (running, _, _):
        answer = await ask(running.port, chat(), headers="x-gateway-model-version: v2\r\n")
        assert answer.headers["x-gateway-version"] == "v2"
        unknown = await ask(running.port, chat(), headers="x-gateway-model-version: v9\r\n")
        assert unknown.status == 400
        assert unknown.json["error"]["message"] == "the model `m` has no version `v9`; there are v1, v2"
        await post(running, "start")
        await in_phase(running, Phase.STEP)
        for _ in range(5):
            await ask(running.port, chat(), headers="x-gateway-model-version: v2\r\n")
        assert now(running).evidence.answered == 0


async def test_a_version_may_not_be_forced_where_the_route_says_nothing(tmp_path: Path) -> None:
    async with backends(good) as (engine_,):
        text = json.dumps({"models": {"m": {"backends": [engine_.url]}}})
        async with gateway(tmp_path, text) as running:
            answer = await ask(running.port, chat(), headers="x-gateway-model-version: default\r\n")
            assert answer.status == 400
            assert answer.json["error"]["message"] == "the model `m` does not let clients choose a version"


async def test_a_rolled_back_candidate_stays_out_over_reloads_until_it_changes(tmp_path: Path) -> None:
    async with rolling(tmp_path, good, good, hold="30s") as (running, fakes, _):
        await in_phase(running, Phase.STEP)
        await post(running, "rollback")
        text = routes(fakes[0].url, fakes[1].url, hold="31s")
        (tmp_path / "routes.yaml").write_text(text)
        await running.app.control.reloader.reload()
        assert now(running).plan.hold == 31.0
        assert now(running).rollout.phase is Phase.ROLLED_BACK
        (tmp_path / "routes.yaml").write_text(text.replace('"v2": {', '"v2": {"served_model": "m", '))
        await running.app.control.reloader.reload()
        assert now(running).rollout.phase is Phase.ROLLED_BACK, "the same in other words"
        other = text.replace('"v2": {"pools": ["green"]}', '"v2": {"pools": ["green", "blue"]}')
        (tmp_path / "routes.yaml").write_text(other)
        await running.app.control.reloader.reload()
        await in_phase(running, Phase.STEP)


async def test_a_reload_under_way_keeps_share_and_evidence(tmp_path: Path) -> None:
    async with rolling(tmp_path, good, good, hold="30s") as (running, fakes, _):
        async with crowd(running.port) as people:
            await in_phase(running, Phase.STEP)
            await eventually(lambda: now(running).evidence.answered > 10)
            known = now(running).evidence.answered
            text = routes(fakes[0].url, fakes[1].url, hold="40s", steps=[5, 10, 80])
            (tmp_path / "routes.yaml").write_text(text)
            await running.app.control.reloader.reload()
            assert now(running).evidence.answered >= known
            assert now(running).rollout.share == 10.0
            record = list(running.app.control.audit)[-1]
            assert (record.actor, record.action) == ("reload", "change")
            assert "steps: 10, 50, 95 -> 5, 10, 80; hold: 30s -> 40s" in record.reason
            assert record.reason.endswith("v2 has 10 % of requests, as before")
        assert people.errors == []
        assert set(people.moves) <= {("v1", "v2")}


async def until(process: Process, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until the rollout of a gateway process is as wanted."""
    async with patient_client(base_url=process.urls[-1]) as client, asyncio.timeout(DEADLINE):
        while True:
            status: dict[str, Any] = (await client.get("/admin/models/m/canary")).json()
            if wanted(status):
                return status
            await asyncio.sleep(0.05)


async def requests(process: Process, count: int) -> list[str]:
    """Send a request of every session, fifty at a time; return the version that each got."""
    port = int(process.urls[0].rsplit(":", 1)[1])
    gate = asyncio.Semaphore(50)

    async def one(number: int) -> str:
        async with gate:
            answer = await ask(port, chat(max_tokens=2), headers=f"x-session-id: s{number}\r\n")
            assert (answer.status, answer.complete) == (200, True), answer.body
            return answer.headers["x-gateway-version"]

    return list(await asyncio.gather(*(one(number) for number in range(count))))


SESSIONS = 250


async def test_a_gateway_that_is_killed_at_every_step_goes_on_where_it_was(tmp_path: Path) -> None:
    objective = {"availability": {"target": 99.9}, "ttft": {"target": 95, "under": "5s"}}
    steps = [1.0, 5.0, 25.0, 50.0, 95.0]
    async with backends(good, good) as (old, new):
        text = routes(old.url, new.url, objective=objective, hold="300ms", steps=steps, min_requests=5, warm_up=0)
        on_candidate: set[int] = set()
        saved = 0.0
        for weight in steps:
            async with serving(tmp_path, [], text=text) as process:
                status = await until(process, lambda seen: seen["phase"] in {"step", "promoted"})
                assert status["weight"] >= saved, "a restart begins nothing anew"
                while status["weight"] < weight:
                    await requests(process, SESSIONS)
                    status = await until(process, lambda _: True)
                before = (await status_of(process))["weight"]
                versions = await requests(process, SESSIONS)
                afterwards = (await status_of(process))["weight"]
                mine = {number for number, version in enumerate(versions) if version == "v2"}
                assert on_candidate <= mine, "whoever was on the candidate is on it after a restart"
                assert SESSIONS * before / 100 - 15 <= len(mine) <= SESSIONS * afterwards / 100 + 15
                on_candidate = mine
                saved = before  # what came after it may not have reached the disk
                process.process.kill()
                await process.ended()
        async with serving(tmp_path, [], text=text) as process:
            status = await until(process, lambda seen: seen["phase"] in {"step", "promoted"})
            while status["phase"] != "promoted":
                await requests(process, 50)
                status = await status_of(process)
            assert [each["weight"] for each in status["history"] if each["phase"] == "step"] == steps
            process.process.terminate()
            assert await process.ended() == 0
        async with serving(tmp_path, [], text=text) as process:
            assert set(await requests(process, 10)) == {"v2"}


async def status_of(process: Process) -> dict[str, Any]:
    return await until(process, lambda _: True)
