"""Copies of requests are in nobody's way: whatever becomes of them, the client's own request is as it was."""

import asyncio
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.exchange import Outcome
from gateway.policy.canary.rollout import MIRRORING, Phase
from gateway.proxy.mirroring import MOST
from tests.e2e.fakes import STREAM_HEAD, Script, backends, chunked, event, good, whole
from tests.e2e.harness import Running, ask, chat, gateway, post
from tests.e2e.raw_client import connect
from tests.e2e.test_canary import OBJECTIVE, failing, now
from tests.e2e.test_silence import pass_slowly
from tests.waiting import HandClock, eventually

pytestmark = pytest.mark.anyio
KEY = "0c7e4f1d6b1b4fb1a3d1d0c1f3a6f6b7"


def routes(stable: str, candidate: str, mirror: float = 100, digest: str = "", **limits: Any) -> str:
    tenants = {"acme": {"key_sha256": digest, "limits": limits, "debug": True}} if digest else {}
    return json.dumps(
        {
            "pools": {
                "blue": {"backends": [stable]},
                "green": {"backends": [{"url": candidate, "max_concurrency": 8}]},
            },
            "objectives": {"o": OBJECTIVE},
            "tenants": tenants,
            "models": {
                "m": {
                    "objective": "o",
                    "versions": {"v1": {"pools": ["blue"]}, "v2": {"pools": ["green"]}},
                    "canary": {
                        "stable": "v1",
                        "candidate": "v2",
                        "mirror": mirror,
                        "hold": "300ms",
                        "min_requests": 10,
                        "margin": 100,
                        "steps": [1, 5, 25, 50, 95],
                        "warm_up": 0,  # nobody else asks the candidate
                    },
                }
            },
        }
    )


async def mirroring(running: Running) -> None:
    """Wait until copies are sent."""
    await eventually(lambda: now(running).rollout.step == MIRRORING and now(running).rollout.phase is Phase.STEP)


def copies(running: Running, outcome: Outcome | None = None) -> int:
    counted = running.app.data.mirroring.outcomes
    return sum(count for (_, _, ended), count in counted.items() if outcome in {None, ended})


async def quiet(running: Running) -> None:
    await running.quiet()
    assert not running.app.data.mirroring.copies


async def silent(call: Any) -> None:
    await call.until_gone()


async def cut(call: Any) -> None:
    call.reset()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("candidate", [good, failing, cut], ids=["good", "failing", "cut"])
async def test_a_client_gets_what_stable_says_whatever_becomes_of_the_copy(
    tmp_path: Path, candidate: Script, *, stream: bool
) -> None:
    async with backends(good) as (alone,):
        plain = json.dumps({"models": {"m": {"backends": [alone.url]}}})
        async with gateway(tmp_path, plain) as running:
            expected = (await ask(running.port, chat(stream))).body
    async with backends(good, candidate) as (old, new):
        async with gateway(tmp_path, routes(old.url, new.url)) as running:
            await mirroring(running)
            answer = await ask(running.port, chat(stream))
            assert (answer.status, answer.body, answer.headers["x-gateway-version"]) == (200, expected, "v1")
            await eventually(lambda: copies(running) == 1)
            assert len(running.records.exchanges) == 1, "a copy settles for nobody"
            assert len(running.records.attempts) == 1
            assert old.calls[-1].json == {**new.calls[-1].json, "model": "m"}
            await quiet(running)


@pytest.mark.parametrize("header", ["", "x-request-id: mine\r\n"], ids=["an id made here", "the client's id"])
async def test_a_copy_has_an_id_of_its_own(tmp_path: Path, header: str) -> None:
    """One engine may serve both versions, and mixes up requests of one id."""

    def id_of(call: Any) -> str:
        (line,) = [line for line in call.head.split(b"\r\n") if line.startswith(b"x-request-id: ")]
        return str(line[14:].decode())

    async with backends(good, good) as (old, new):
        async with gateway(tmp_path, routes(old.url, new.url)) as running:
            await mirroring(running)
            for _ in range(2):
                answer = await ask(running.port, chat(), headers=header)
                await eventually(lambda: len(new.calls) == len(old.calls))
                assert id_of(old.calls[-1]) == answer.headers["x-request-id"]
                assert id_of(new.calls[-1]) == f"{id_of(old.calls[-1])}-copy"
                await quiet(running)
            assert len(running.app.data.gateway.ids) == 0, "each is given back"


async def test_a_copy_that_hangs_delays_nobody_and_ends_with_the_gateway(tmp_path: Path) -> None:
    async with backends(good, silent) as (old, new):
        patient = '"timeouts": {"first_token": "10m", "stall": "10m", "total": "20m"}'
        text = routes(old.url, new.url).replace('"objective": "o"', f'"objective": "o", {patient}')
        async with gateway(tmp_path, text) as running:
            await mirroring(running)
            for _ in range(10):
                assert (await ask(running.port, chat())).status == 200
            copied = list(running.app.data.mirroring.copies)
            assert len(copied) == 4, "a backend is never filled with copies beyond its half"
            await eventually(lambda: len(new.calls) == 4)
            assert now(running).rollout.step == MIRRORING
        assert not running.app.data.mirroring.copies
        assert running.in_flight == 0


async def test_copies_that_hang_are_given_up_at_their_deadlines(tmp_path: Path) -> None:
    async with backends(good, silent) as (old, new):
        limit, clock = '"timeouts": {"first_token": "5s"}', HandClock()
        text = routes(old.url, new.url).replace('"objective": "o"', f'"objective": "o", {limit}')
        async with gateway(tmp_path, text, now=clock) as running:
            await mirroring(running)
            assert (await ask(running.port, chat())).status == 200
            await eventually(lambda: bool(new.calls))
            await pass_slowly(clock, running, 6.0)
            await eventually(lambda: copies(running, Outcome.TIMEOUT) == 1)
            await quiet(running)


async def test_a_tenant_pays_for_its_request_and_not_for_the_copy(tmp_path: Path) -> None:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    async with backends(good, good) as (old, new):
        text = routes(old.url, new.url, digest=digest, requests_per_minute=10, concurrent=1)
        async with gateway(tmp_path, text) as running:
            await mirroring(running)
            answer = await ask(running.port, chat(), headers=f"authorization: Bearer {KEY}\r\n")
            assert answer.headers["x-ratelimit-remaining-requests"] == "9"
            await eventually(lambda: copies(running) == 1)
            await quiet(running)
            (tenant,) = running.app.data.current.tenants
            assert tenant.quota.requests is not None
            assert (tenant.quota.in_flight, int(tenant.quota.requests.level)) == (0, 9)
            assert KEY.encode() not in b"".join(call.head for call in new.calls)


async def test_a_client_that_hangs_up_does_not_end_the_copy_and_the_copy_does_not_keep_the_request(
    tmp_path: Path,
) -> None:
    async def slow(call: Any) -> None:
        await asyncio.sleep(0.3)
        await good(call)

    async with backends(silent, slow) as (old, new):
        async with gateway(tmp_path, routes(old.url, new.url)) as running:
            await mirroring(running)
            client = await connect(running.port)
            await client.send(post(chat()))
            await eventually(lambda: len(old.calls) == len(new.calls) == 1)
            client.reset()
            await eventually(lambda: [each.outcome for each in running.records.exchanges] == [Outcome.CLIENT_GONE])
            await eventually(lambda: copies(running, Outcome.OK) == 1)
            await quiet(running)


async def test_a_good_candidate_goes_from_copies_to_its_first_step(tmp_path: Path) -> None:
    async with backends(good, good) as (old, new):
        async with gateway(tmp_path, routes(old.url, new.url, 50)) as running:
            await mirroring(running)
            while now(running).rollout.step == MIRRORING:
                version = (await ask(running.port, chat())).headers["x-gateway-version"]
                assert version == "v1" or now(running).rollout.step != MIRRORING
            assert 10 <= copies(running) <= len(running.records.exchanges)
            assert now(running).rollout.share == 1.0
            await quiet(running)


async def test_a_candidate_that_fails_its_copies_never_meets_a_client(tmp_path: Path) -> None:
    async def broken(call: Any) -> None:
        await call.send(whole(b"503 Service Unavailable", b"{}"))

    async with backends(good, broken) as (old, new):
        async with gateway(tmp_path, routes(old.url, new.url)) as running:
            await mirroring(running)
            while now(running).rollout.phase is Phase.STEP:
                assert (await ask(running.port, chat())).headers["x-gateway-version"] == "v1"
            assert now(running).rollout.phase is Phase.ROLLED_BACK
            assert copies(running) <= 5
            await quiet(running)
            assert MOST >= 8


async def half(call: Any) -> None:
    """Begin a stream and cut it."""
    await call.send(STREAM_HEAD, chunked(event("a")))
    call.close()


async def garbage(call: Any) -> None:
    await call.send(b"220 smtp.example.org ESMTP\r\n\r\n")
    call.close()


async def busy(call: Any) -> None:
    await call.send(whole(b"429 Too Many Requests", b"{}", b"retry-after: 30\r\n"))


FATES: dict[str, Script] = {
    "good": good,
    "failing": failing,
    "cut": cut,
    "silent": silent,
    "half": half,
    "garbage": garbage,
    "busy": busy,
}


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(FATES)), st.booleans()), min_size=1, max_size=12))
def test_whatever_becomes_of_copies_clients_get_the_same_bytes_and_pay_once(fates: list[tuple[str, bool]]) -> None:
    """No behaviour of a candidate, in any order, changes an answer, a settlement, a quota or a slot of stable's."""
    with tempfile.TemporaryDirectory() as folder:
        uvloop.run(copied(Path(folder), fates))


async def copied(folder: Path, fates: list[tuple[str, bool]]) -> None:
    due = iter([fate for fate, _ in fates])

    async def candidate(call: Any) -> None:
        await FATES[next(due, "good")](call)

    digest = hashlib.sha256(KEY.encode()).hexdigest()
    async with backends(good, candidate) as (old, new):
        text = routes(old.url, new.url, digest=digest, requests_per_minute=1000)
        async with gateway(folder, text.replace('"min_requests": 10', '"min_requests": 10000')) as running:
            await mirroring(running)
            for _, stream in fates:
                answer = await ask(running.port, chat(stream), headers=f"authorization: Bearer {KEY}\r\n")
                assert (answer.status, answer.complete, answer.headers["x-gateway-version"]) == (200, True, "v1")
                assert b"error" not in answer.body
            assert [each.outcome for each in running.records.exchanges] == [Outcome.OK] * len(fates)
            assert {len(each.attempts) for each in running.records.exchanges} == {1}
            (tenant,) = running.app.data.current.tenants
            assert tenant.quota.requests is not None
            assert tenant.quota.requests.level >= 1000 - len(fates)
            slots = running.backend(0).health.slots
            await eventually(lambda: (slots.in_flight, slots.kv, tenant.quota.in_flight) == (0, 0, 0))
        assert running.held == 0
        assert not running.app.data.mirroring.copies
