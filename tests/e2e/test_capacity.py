"""What pools want, through the real admin listener: of one gateway, of several that share a store, and of workers."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from gateway.config.table import PoolSpec
from gateway.control.capacity import CapacityController
from gateway.policy.capacity.want import PoolLoad
from gateway.wire.slices import Work, finish
from tests.e2e.fakes import backends, good
from tests.e2e.grpc_client import call, scaler
from tests.e2e.harness import Running, ask, chat, gateway
from tests.e2e.keda import Keda, hpa
from tests.e2e.processes import Process, engine, running, serving
from tests.e2e.test_from_zero import engine_at, holds, stopped_engine
from tests.redis_server import redis_server
from tests.scaler.published import scaled_object
from tests.waiting import DEADLINE, eventually, patient_client

pytestmark = pytest.mark.anyio


def routes(*urls: str, **capacity: Any) -> str:
    pools = {"gpu": {"backends": list(urls), "cost_per_hour": 2.5, "capacity": {"max": 8, **capacity}}}
    return json.dumps({"pools": pools, "models": {"m": {"versions": {"v1": {"pools": ["gpu"]}}}}})


@asynccontextmanager
async def admin(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with patient_client(base_url=running.admin, headers={"x-gateway-actor": "ops"}) as client:
        yield client


def capacity_of(running: Running) -> CapacityController:
    return running.app.control.capacity


def is_known(running: Running) -> bool:
    found = capacity_of(running).get("gpu")
    return found is not None and found.want is not None


async def comes(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what has to be asked for."""
    async with asyncio.timeout(2 * DEADLINE):
        while not await condition():
            await asyncio.sleep(0.05)


async def told(process: Process) -> dict[str, Any]:
    async with patient_client() as web:
        found: dict[str, Any] = (await web.get(f"{process.urls[1]}/admin/capacity/gpu")).json()
        return found


async def knows(process: Process, **wanted: Any) -> dict[str, Any]:
    """Wait until a process shows these values."""
    found: dict[str, Any] = {}

    async def does() -> bool:
        found.clear()
        found.update(await told(process))
        return all(found.get(name) == value for name, value in wanted.items())

    await comes(does)
    return found


async def test_a_pool_wants_what_it_has_until_something_speaks_for_more(tmp_path: Path) -> None:
    async with backends(good, good) as (one, two):
        async with gateway(tmp_path, routes(one.url, two.url)) as running, admin(running) as client:
            await eventually(lambda: is_known(running))
            found = (await client.get("/admin/capacity/gpu")).json()
            assert (found["target"], found["replicas_now"], found["min"], found["max"]) == (2, 2, 1, 8)
            assert found["problem"] == ""
            assert found["valid_until"] > found["since"]
            assert [each["pool"] for each in (await client.get("/admin/capacity")).json()] == ["gpu"]
            assert (await client.get("/admin/capacity/gpu/keda")).json() == {"value": 2.0}
            records = (await client.get("/admin/audit")).json()
            assert [(each["actor"], each["action"], each["subject"]) for each in records] == [
                ("tidegate", "want", "capacity of pool gpu")
            ]


async def test_a_pool_whose_requests_wait_too_long_wants_more(tmp_path: Path) -> None:
    async with engine() as one:
        document = json.loads(routes(one.urls[0], approve_above=3))
        document["pools"]["gpu"]["backends"] = [{"url": one.urls[0], "max_concurrency": 1}]
        async with gateway(tmp_path, json.dumps(document)) as running, admin(running) as client:
            await eventually(lambda: is_known(running))
            stopped = asyncio.Event()

            async def user() -> None:
                while not stopped.is_set():
                    await ask(running.port, chat(stream=False, max_tokens=40))

            users = [asyncio.create_task(user()) for _ in range(8)]

            async def wants_more() -> bool:
                found = (await client.get("/admin/capacity/gpu")).json()
                return bool(found["target"] > 1 and found["cost_per_hour"] == 2.5 * found["target"])

            await comes(wants_more)
            stopped.set()
            await asyncio.gather(*users)
            changes = [each["reason"] for each in (await client.get("/admin/audit")).json() if each["action"] == "want"]
            assert changes[-1].startswith("1 replicas: ")
            assert changes[-2].startswith("1 -> ")
            assert "queued" in changes[-2], "it says what it follows from"
            scraped = (await client.get("/metrics")).text
            assert "tidegate_capacity_changes_total{" in scraped
            await running.quiet()


async def test_what_is_not_known_is_an_error_and_no_number(tmp_path: Path) -> None:
    async with backends(good, good) as (one, two):
        two.health = b"503 Service Unavailable"
        async with gateway(tmp_path, routes(one.url, two.url), wait_ready=False) as running, admin(running) as client:
            await running.ready(0)
            answer = await client.get("/admin/capacity/gpu/keda")
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "want_unknown"
            found = (await client.get("/admin/capacity/gpu")).json()
            assert found["target"] is None
            assert found["problem"]
            keda = Keda(replicas=5, fallback=4)
            seen = [await keda.poll(client, "/admin/capacity/gpu/keda") for _ in range(3)]
            assert seen == [5, 5, 4], "it stays where it is, and then falls back"


async def test_other_pools_have_no_number(tmp_path: Path) -> None:
    async with backends(good) as (one,):
        async with gateway(tmp_path, routes(one.url)) as running, admin(running) as client:
            for path in ("cpu", "cpu/keda"):
                answer = await client.get(f"/admin/capacity/{path}")
                assert answer.status_code == 404
                assert "pools with a capacity: gpu" in answer.json()["error"]["message"]
            assert (await client.post("/admin/capacity/cpu/approve")).status_code == 404
            assert (await client.post("/admin/capacity/gpu/perhaps")).status_code == 422
            assert (await client.post("/admin/capacity/gpu/reject")).status_code == 409


async def test_replicas_of_one_store_say_the_same_and_go_on_when_one_is_killed(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        async with engine() as one, engine() as two:
            text = routes(one.urls[0], two.urls[0])
            folders = [tmp_path / name for name in ("a", "b")]
            for folder in folders:
                folder.mkdir()
            more = ("--state", server.url)
            async with serving(folders[0], [], *more, text=text) as second:
                async with serving(folders[1], [], *more, text=text) as first, patient_client() as web:
                    for process in (first, second):
                        await knows(process, target=2, problem="")
                    both = [f"{each.urls[1]}/admin/capacity/gpu/keda" for each in (first, second)]
                    keda = Keda(replicas=2)
                    assert await keda.poll(web, *both) == 2, "each says the whole want: the sum would be 4"
                    for url in both:
                        assert await Keda(replicas=2).poll(web, url) == 2
                    intent = (await told(second))["intent"]
                    second.process.kill()
                    await second.ended()
                    assert await keda.poll(web, *both) == 2, "one that is away changes nothing"

                    async def first_leads() -> bool:
                        return bool((await web.get(f"{first.urls[1]}/admin/status")).json()["state"]["leads"])

                    await comes(first_leads)
                    before = (await told(first))["valid_until"]

                    async def goes_on() -> bool:
                        return bool((await told(first))["valid_until"] > before)

                    await comes(goes_on)
                    found = await told(first)
                    assert (found["target"], found["intent"]) == (2, intent), "it is the same want"
                    assert await keda.poll(web, *both) == 2


class Loads:
    """Tells a gateway that ten replicas have more to do than they can, and follows what KEDA makes of its wants."""

    def __init__(self, keda: Keda) -> None:
        self.keda = keda

    def reading(self, pools: Sequence[PoolSpec]) -> Work[dict[str, PoolLoad | None]]:
        ready = self.keda.replicas
        load = PoolLoad(
            "gpu", ready, burn=0.0, burn_now=0.0, in_flight=94.5, arrivals=94.5, holding=1.0, limit=10.0 * ready
        )
        yield
        return {pool.name: load for pool in pools}


@pytest.mark.parametrize("tolerance", [0.1, 0.0], ids=["with the usual tolerance", "with none"])
async def test_a_want_of_one_more_than_ten_is_reached_in_spite_of_the_tolerance(
    tmp_path: Path, tolerance: float
) -> None:
    keda = Keda(replicas=10, tolerance=tolerance)
    async with backends(good) as (one,):
        text = routes(one.url, max=20, hpa_tolerance=tolerance)
        async with gateway(tmp_path, text) as running, admin(running) as client:
            capacity_of(running)._reader = cast(Any, Loads(keda))
            await eventually(lambda: is_known(running))

            async def is_reached() -> bool:
                replicas = await keda.poll(client, "/admin/capacity/gpu/keda")
                want = (await client.get("/admin/capacity/gpu")).json()
                return bool(want["target"] >= 11 and replicas == want["target"])

            await comes(is_reached)
            assert keda.replicas == (11 if not tolerance else 12)
            await comes(is_reached)
            assert hpa(10, 11.0) == 10, "told as it is, it would not be"


async def test_a_first_replica_is_wanted_by_push_and_the_request_that_waits_is_served(tmp_path: Path) -> None:
    grpc = pytest.importorskip("grpc")
    engine_of = await stopped_engine()
    document = json.loads(routes(engine_of.url, min=0))
    document["pools"]["gpu"]["scale_from_zero"] = {"hold": "5m"}
    document["models"]["m"]["timeouts"] = {"connect": "20s", "first_token": "4m", "stall": "4m", "total": "10m"}
    async with serving(tmp_path, [], text=json.dumps(document)) as process:
        await knows(process, target=0, problem="")
        async with scaler(process) as address, grpc.aio.insecure_channel(address) as channel:
            stream = call(channel, "StreamIsActive", "IsActiveResponse", stream=True)(scaled_object("gpu"))
            assert (await stream.read()).result is False
            request = asyncio.create_task(ask(int(process.urls[0].rsplit(":", 1)[1]), chat(stream=False)))
            assert (await stream.read()).result is True, "it waits for no poll"
            async with engine_at(engine_of.port):
                assert (await request).status == 200
            stream.cancel()


async def test_requests_that_are_held_are_counted_once(tmp_path: Path) -> None:
    engine_of = await stopped_engine()
    document = json.loads(routes(engine_of.url, min=0))
    document["pools"]["gpu"]["scale_from_zero"] = {"hold": "5m"}
    document["models"]["m"]["timeouts"] = {"connect": "20s", "first_token": "4m", "stall": "4m", "total": "10m"}
    async with gateway(tmp_path, json.dumps(document), wait_ready=False) as running:
        await eventually(lambda: running.backend().readiness.state == "not_ready")
        waiting = [asyncio.create_task(ask(running.port, chat(stream=False))) for _ in range(3)]
        await holds(running, 3)
        pools = running.app.control.reloader.table.pools.values()
        load = finish(capacity_of(running)._reader.reading([*pools]))["gpu"]
        assert load is not None
        assert load.queued == 3
        async with engine_at(engine_of.port):
            assert {(await each).status for each in waiting} == {200}
            await running.quiet()


async def test_the_command_shows_wants_and_takes_a_persons_word(tmp_path: Path) -> None:
    async with engine() as one, serving(tmp_path, [], text=routes(one.urls[0], approve_above=4)) as process:
        await knows(process, target=1, problem="")
        admin = ("--admin", process.urls[1])
        for words, said, status in (
            ((), "gpu   1      1    1 to 8 replicas  2.5            hold", 0),
            (("approve", "gpu"), "no want of this pool waits for approval", 1),
            (("approve", "gpu", "--replicas", "6", "--reason", "launch"), "gpu may have up to 6 replicas", 0),
            ((), "gpu: up to 6 replicas are approved", 0),
            (("reject", "gpu"), "6 replicas are rejected for gpu; a want of more asks again", 0),
            (("reject", "cpu"), "the routes have no pool `cpu` with a `capacity`", 1),
        ):
            if said.startswith("gpu: up to"):
                await knows(process, approved=6)
            async with running("gateway.cli", "capacity", *words, *admin) as asked:
                assert await asked.ended() == status
            assert any(said in line for line in (*asked.out, *asked.err)), (asked.out, asked.err)
        async with running("gateway.cli", "audit", *admin) as asked:
            assert await asked.ended() == 0
        assert any("up to 6 replicas: launch" in line for line in asked.out)


async def test_workers_have_one_want(tmp_path: Path) -> None:
    async with engine() as one, serving(tmp_path, [], "--workers", "2", text=routes(one.urls[0])) as process:
        found = await knows(process, target=1, problem="")
        assert found["replicas_now"] == 1
        async with patient_client() as web:
            url = f"{process.urls[1]}/admin/capacity/gpu"
            assert (await web.get(f"{url}/keda")).json() == {"value": 1.0}
            asked = await web.post(f"{url}/approve", json={"replicas": 3, "reason": "a launch"})
            assert asked.status_code == 200, asked.text
            assert (await knows(process, approved=3))["target"] == 1
            misspelled = await web.post(f"{url}/approve", json={"replica": 1})
            assert misspelled.status_code == 422
            assert "replica" in misspelled.json()["error"]["message"]


async def test_two_pools_whose_requests_wait_too_long_share_a_budget(tmp_path: Path) -> None:
    async with engine() as one, engine() as two:
        pools = {
            name: {
                "backends": [{"url": each.urls[0], "max_concurrency": 1}],
                "capacity": {"max": 8, "budget": "gpus", "hpa_tolerance": 0},
            }
            for name, each in (("chat", one), ("code", two))
        }
        models = {name: {"versions": {"v1": {"pools": [name], "served_model": "m"}}} for name in pools}
        text = json.dumps({"budgets": {"gpus": {"replicas": 3}}, "pools": pools, "models": models})
        async with gateway(tmp_path, text) as running, admin(running) as client:
            stopped = asyncio.Event()

            async def user(model: str) -> None:
                while not stopped.is_set():
                    await ask(running.port, chat(model=model, stream=False, max_tokens=40))

            users = [asyncio.create_task(user(model)) for model in pools for _ in range(8)]

            async def is_short() -> bool:
                found = (await client.get("/admin/capacity")).json()
                targets = [each["target"] for each in found]
                assert sum(each or 0 for each in targets) <= 3
                alone = [each["inputs"].get("without_budget") or each["target"] or 0 for each in found]
                return sum(alone) > 3 and min(alone) > 1 and None not in targets and sum(targets) == 3

            await comes(is_short)
            stopped.set()
            await asyncio.gather(*users)
            await running.quiet()


class Overloads:
    """Tells a gateway that both of its pools have more to do than they can, and gives them what they want."""

    def __init__(self, **rates: float) -> None:
        self.rates, self.replicas = rates, dict.fromkeys(rates, 2)

    def reading(self, pools: Sequence[PoolSpec]) -> Work[dict[str, PoolLoad | None]]:
        yield
        return {pool.name: self.load(pool.name) for pool in pools}

    def load(self, pool: str) -> PoolLoad:
        ready, rate = self.replicas[pool], self.rates[pool]
        limit = 4.0 * ready
        return PoolLoad(
            pool,
            ready,
            burn=0.0,
            burn_now=0.0,
            in_flight=min(limit, rate),
            queued=20,
            queue_wait=5.0,
            patience=2.0,
            limit=limit,
            arrivals=rate,
            holding=1.0,
        )


async def test_two_overloaded_pools_want_no_more_than_their_budget(tmp_path: Path) -> None:
    async with backends(good, good) as (one, two):
        pools = {
            name: {"backends": [each.url], "capacity": {"max": 20, "budget": "gpus", "hpa_tolerance": 0}}
            for name, each in (("chat", one), ("code", two))
        }
        models = {name: {"versions": {"v1": {"pools": [name]}}} for name in pools}
        text = json.dumps({"budgets": {"gpus": {"replicas": 12}}, "pools": pools, "models": models})
        async with gateway(tmp_path, text) as running, admin(running) as client:
            loads = Overloads(chat=60.0, code=10.0)
            capacity_of(running)._reader = cast(Any, loads)

            async def shares() -> bool:
                found = (await client.get("/admin/capacity")).json()
                targets = {each["pool"]: each["target"] for each in found}
                if None in targets.values():
                    return False
                assert sum(targets.values()) <= 12
                loads.replicas = targets
                return (
                    all("budget" in each["rails"] for each in found if each["pool"] == "chat") and targets["chat"] > 6
                )

            await comes(shares)
            found = (await client.get("/admin/capacity/chat")).json()
            assert found["budget"] == "gpus"
            assert found["proposed"] >= 17
            assert found["inputs"]["without_budget"] >= 17
            assert f"the budget gpus (12 replicas) leaves {found['target']}" in found["reason"]
            keda = Keda(replicas=2)
            total = 0
            for name in pools:
                total += await keda.poll(client, f"/admin/capacity/{name}/keda")
            assert total == 12
            reasons = [each["reason"] for each in (await client.get("/admin/audit")).json()]
            assert any("bounded by budget" in each for each in reasons)
