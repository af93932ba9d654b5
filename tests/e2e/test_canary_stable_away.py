"""While stable has no ready backend its requests have somewhere to go, whatever the rollout has decided."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.policy.canary.rollout import Phase
from tests.e2e.fakes import Call, FakeBackend, backends, good
from tests.e2e.harness import Running, ask, chat, gateway
from tests.e2e.test_admission import Gate
from tests.e2e.test_canary import after, crowd, failing, get, in_phase, now, post, rolling, routes
from tests.e2e.test_reload_waiting import reload, waiter
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


class Mending:
    """An engine that fails every request until it is `mended`."""

    mended = False

    async def __call__(self, call: Call) -> None:
        await (good if self.mended else failing)(call)


async def away(running: Running, fake: FakeBackend, index: int = 0, *, silent: bool = False) -> None:
    """Let a backend fail its probes, or leave them unanswered."""
    fake.health, fake.silent = (b"200 OK", True) if silent else (b"503 Service Unavailable", False)
    await eventually(lambda: not running.backend(index).readiness.eligible)


async def said(running: Running) -> dict[str, str]:
    """Return which version serves in whose stead, as `tidegate status` reads it."""
    (model,) = (await get(running, "/admin/status"))["models"]
    return {each["name"]: each["instead"] for each in model["versions"]}


async def rolled_back_for_failing(running: Running) -> None:
    async with crowd(running.port):
        done = await in_phase(running, Phase.ROLLED_BACK)
    assert done.rollout.actor == "tidegate"
    assert (await ask(running.port, chat())).headers["x-gateway-version"] == "v1"


async def test_a_candidate_that_was_rolled_back_serves_while_stable_cannot(tmp_path: Path) -> None:
    """Every request got 503 although the candidate's engines served."""
    engine = Mending()
    async with rolling(tmp_path, good, engine) as (running, fakes, _):
        await rolled_back_for_failing(running)
        assert await said(running) == {"v1": "", "v2": ""}
        await away(running, fakes[0])
        assert await said(running) == {"v1": "v2", "v2": ""}
        assert (await ask(running.port, chat())).status == 500, "there is nothing to lose"
        engine.mended = True
        for _ in range(3):
            answer = await ask(running.port, chat())
            assert (answer.status, answer.headers["x-gateway-version"]) == (200, "v2")
        assert now(running).rollout.phase is Phase.ROLLED_BACK
        assert all(each.stands_in for each in running.records.exchanges[-3:])
        fakes[0].health = b"200 OK"
        await running.ready(0)
        assert (await ask(running.port, chat())).headers["x-gateway-version"] == "v1"


@pytest.mark.parametrize("how", ["slow", "drained"])
async def test_a_candidate_that_fails_every_request_takes_none_from_one_that_is_slow_or_drained(
    tmp_path: Path, how: str
) -> None:
    engine = Mending()
    async with rolling(tmp_path, good, engine) as (running, fakes, found):
        await rolled_back_for_failing(running)
        await eventually(lambda: found.fails)
        status = await drained_or_slow(running, fakes[0], how)
        assert await said(running) == {"v1": "", "v2": ""}
        for _ in range(8):
            answer = await ask(running.port, chat())
            assert answer.status == status
        engine.mended = True
        assert (await post(running, "start", "it is mended")).status_code == 200
        answer = await ask(running.port, chat())
        assert answer.status == 200
        assert how == "slow" or answer.headers["x-gateway-version"] == "v2", "what works keeps its share"


async def test_a_candidate_that_begins_to_fail_goes_back_to_a_stable_that_is_only_slow(tmp_path: Path) -> None:
    engine = Mending()
    engine.mended = True
    async with rolling(tmp_path, good, engine) as (running, fakes, _):
        await in_phase(running, Phase.STEP)
        await away(running, fakes[0], silent=True)
        engine.mended = False
        async with crowd(running.port):
            done = await in_phase(running, Phase.ROLLED_BACK)
        assert done.rollout.reason.endswith("requests all failed")
        for _ in range(3):
            answer = await ask(running.port, chat())
            assert (answer.status, answer.headers["x-gateway-version"]) == (200, "v1")


async def drained_or_slow(running: Running, fake: FakeBackend, how: str) -> int:
    """Return the status of an answer from then on, without another version."""
    if how == "slow":
        await away(running, fake, silent=True)
        return 200
    running.backend(0).availability.drain(drained=True)
    return 503


async def test_a_candidate_that_a_person_rolled_back_serves_nobody(tmp_path: Path) -> None:
    async with rolling(tmp_path, good, good, start="manual") as (running, fakes, _):
        await away(running, fakes[0])
        assert (await ask(running.port, chat())).status == 503, "nobody has started it"
        await post(running, "start")
        assert (await ask(running.port, chat())).headers["x-gateway-version"] == "v2"
        await post(running, "rollback", "it says what it must not")
        assert (await ask(running.port, chat())).status == 503
        assert await said(running) == {"v1": "", "v2": ""}


async def test_a_candidate_that_waits_serves_while_stable_cannot(tmp_path: Path) -> None:
    async with backends(good, good) as (old, new):
        old.health = b"503 Service Unavailable"
        async with gateway(tmp_path, routes(old.url, new.url), wait_ready=False) as running:
            await running.ready(1)
            await eventually(lambda: running.backend(0).readiness.state == "not_ready")
            await eventually(lambda: now(running).decision.reason == "waits: stable v1 has no ready backend")
            assert now(running).rollout.share == 0.0
            assert (await ask(running.port, chat())).headers["x-gateway-version"] == "v2"


async def test_stable_serves_again_while_what_was_promoted_cannot(tmp_path: Path) -> None:
    async with rolling(tmp_path, good, good, start="manual") as (running, fakes, _):
        await post(running, "promote")
        assert (await ask(running.port, chat())).headers["x-gateway-version"] == "v2"
        await away(running, fakes[1], 1)
        assert (await ask(running.port, chat())).headers["x-gateway-version"] == "v1"
        assert await said(running) == {"v1": "", "v2": "v1"}


async def test_a_candidate_that_carries_all_is_not_blamed_for_being_slow(tmp_path: Path) -> None:
    """It was rolled back for the load that it took over, and every client got 503."""
    pause = [0.0]

    async def loaded(call: Call) -> None:
        await after(pause[0])(call)

    async with rolling(tmp_path, good, loaded, hold="30s", steps=[50, 95]) as (running, fakes, found):
        await in_phase(running, Phase.STEP)
        async with crowd(running.port, 20, fresh=True) as people:
            await eventually(lambda: found.evidence.answered > 40)
            await away(running, fakes[0])
            await eventually(lambda: not found.stable_ready)
            pause[0] = 0.25
            answered = len(running.records.exchanges)
            await eventually(lambda: len(running.records.exchanges) > answered + 200)
            pause[0] = 0.0
            assert found.rollout.phase is Phase.STEP
            fakes[0].health = b"200 OK"
            await eventually(lambda: found.stable_ready)
            known = found.evidence.answered
            await eventually(lambda: found.evidence.answered > known + 40)
            assert found.rollout.phase is Phase.STEP
        assert people.errors == []


def waits_for(stable: str, candidate: str, **canary: Any) -> str:
    """Return routes of one slot a version; by chance hardly any request is the candidate's."""
    spec = json.loads(routes(stable, candidate, start="manual", warm_up=0, steps=[0.01, 100], **canary))
    spec["pools"] = {
        "blue": {"backends": [{"url": stable, "max_concurrency": 1}]},
        "green": {"backends": [{"url": candidate, "max_concurrency": 1}]},
    }
    return json.dumps(spec)


async def test_who_waits_over_a_reload_is_served_in_stables_stead_and_is_no_sample(tmp_path: Path) -> None:
    gate, other = Gate(), Gate()
    async with backends(gate, other) as (old, new):
        async with gateway(tmp_path, waits_for(old.url, new.url)) as running:
            await post(running, "start")
            await in_phase(running, Phase.STEP)
            async with waiter(running, gate) as waiting:
                await away(running, old)
                await reload(running, tmp_path, waits_for(old.url, new.url, hold="31s"))
                await eventually(lambda: other.prompts == ["second"])
                other.open.release()
                assert (await waiting).headers["x-gateway-version"] == "v2"
            served = next(each for each in running.records.exchanges if each.version == "v2")
            assert served.stands_in
            assert now(running).evidence.answered == 0
