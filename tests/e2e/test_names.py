"""Backends that the routes name by a name: requests wait for the resolver, whenever they come."""

import asyncio
import json
from pathlib import Path
from threading import Event

import pytest

from gateway.exchange import Outcome
from gateway.wire import names
from tests.e2e.fakes import backends, good
from tests.e2e.harness import ask, chat, gateway, post, routes
from tests.e2e.raw_client import connect
from tests.waiting import DEADLINE, eventually

pytestmark = pytest.mark.anyio
MANY = 200


class Resolver:
    """A resolver that answers when a test says so: every engine is on this machine."""

    def __init__(self) -> None:
        self.asked, self.speak = Event(), Event()

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.set()
        self.speak.wait(DEADLINE)
        return ["127.0.0.1"]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    slow = Resolver()
    monkeypatch.setattr(names, "look_up", slow)
    return slow


async def test_requests_that_come_while_a_name_is_looked_up_wait_for_the_answer(
    tmp_path: Path, resolver: Resolver
) -> None:
    """One comes in every turn of the loop, so also in the one in which the resolver answers."""
    async with backends(good) as (engine,):
        text = routes(engine.url.replace("127.0.0.1", "localhost"))
        async with gateway(tmp_path, text, wait_ready=False) as running:
            clients = [await connect(running.port) for _ in range(MANY)]
            await clients[0].send(post(chat()))
            await eventually(resolver.asked.is_set)
            resolver.speak.set()
            asked = 1
            while asked < MANY and not running.backend().pool.opened:
                await clients[asked].send(post(chat()))
                await asyncio.sleep(0)
                asked += 1
            answers = [await client.answer() for client in clients[:asked]]
            assert {answer.status for answer in answers} == {200}
            await running.settled(asked)
            assert {each.outcome for each in running.records.exchanges} == {Outcome.OK}
            assert not running.backend().readiness.failed_connects


async def test_a_reload_that_renews_a_backend_keeps_the_requests_that_wait_for_its_name(
    tmp_path: Path, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "another")
    async with backends(good) as (engine,):
        url = engine.url.replace("127.0.0.1", "localhost")
        async with gateway(tmp_path, routes(url), wait_ready=False) as running:
            asked = asyncio.create_task(ask(running.port, chat()))
            await eventually(resolver.asked.is_set)
            spec = {"url": url, "api_key": "${KEY}"}
            (tmp_path / "routes.yaml").write_text(json.dumps({"models": {"m": {"backends": [spec]}}}))
            await running.app.control.reloader.reload()
            resolver.speak.set()
            async with asyncio.timeout(DEADLINE):
                assert (await asked).status == 200
