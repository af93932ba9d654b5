"""Hundreds of engines that come, go and flap under load: no request fails, and nothing of those that left stays."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from tests.discovery.dns_server import Mode, dns_server
from tests.e2e.fakes import FakeBackend, backends, good
from tests.e2e.harness import Running, ask, chat, gateway
from tests.e2e.test_discovery import routes, serving, write
from tests.e2e.test_kubernetes import named, probe_seldom
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
ENGINES, TURNS, CLIENTS = 500, 6, 4


class Load:
    """Clients that ask one request after another until told to stop; counts how their answers ended."""

    def __init__(self, running: Running) -> None:
        self.statuses: Counter[int] = Counter()
        self._running = running
        self._stopped = False
        self._tasks = [asyncio.create_task(self._client()) for _ in range(CLIENTS)]

    async def more(self, requests: int) -> None:
        """Wait until so many more have been answered."""
        wanted = self.statuses.total() + requests
        await eventually(lambda: self.statuses.total() >= wanted)

    async def stop(self) -> None:
        self._stopped = True
        await asyncio.gather(*self._tasks)

    async def _client(self) -> None:
        while not self._stopped:
            self.statuses[(await ask(self._running.port, chat(stream=False))).status] += 1
            await asyncio.sleep(0.01)


async def served_by(running: Running, present: list[FakeBackend]) -> None:
    wanted = {fake.port for fake in present}
    await eventually(lambda: serving(running) == wanted)


async def told(running: Running, targets: int) -> None:
    await eventually(lambda: running.app.control.discovery.rows()[0].targets == targets)


async def without_a_usable_file(running: Running, folder: Path, fakes: list[FakeBackend], load: Load) -> None:
    """Break the file and take it away: that is told, and all engines stay."""
    file, source = folder / "targets.json", running.app.control.discovery
    for spoil in (lambda: file.write_text("[{"), file.unlink):
        spoil()
        await eventually(lambda: source.rows()[0].problem != "")
        await load.more(20)
        assert serving(running) == {fake.port for fake in fakes}
        write(folder, fakes)
        await eventually(lambda: source.rows()[0].problem == "")


async def nothing_more_to(gone: list[FakeBackend], load: Load) -> None:
    """See that engines that are gone get no request any more, and that all requests were answered."""
    before = [len(fake.calls) for fake in gone]
    await load.more(100)
    assert [len(fake.calls) for fake in gone] == before
    await load.stop()
    assert set(load.statuses) == {200}


async def test_engines_that_come_go_and_flap_under_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe_seldom(monkeypatch)
    monkeypatch.setattr("gateway.discovery.membership.LINGER", 0.0)
    rng = Random(7)
    async with backends(*[good] * ENGINES) as fakes:
        always, rest = fakes[:10], fakes[10:]
        write(tmp_path, always)
        async with gateway(tmp_path, routes({"file": "targets.json"}), wait_ready=False) as running:
            await served_by(running, always)
            load = Load(running)
            write(tmp_path, fakes)
            await served_by(running, fakes)
            await load.more(50)
            await without_a_usable_file(running, tmp_path, fakes, load)
            present = fakes
            for _ in range(TURNS):
                present = always + rng.sample(rest, rng.randrange(len(rest)))
                write(tmp_path, present)
                await told(running, len(present))
                await load.more(20)
            await served_by(running, present)
            registry = running.app.data.registry
            await eventually(lambda: len(registry.watched()) == len(present))  # the drains are over
            gone = [fake for fake in fakes if fake not in present]
            await nothing_more_to(gone, load)
            await running.quiet()
            await eventually(lambda: all(fake.open == 0 for fake in gone))
            assert len(registry) == len(registry.watched()) == len(registry.pools["m"].members) == len(present)


@asynccontextmanager
async def engines_at_one_port(count: int) -> AsyncIterator[list[FakeBackend]]:
    """Run engines at as many addresses of this machine and one port, as names of DNS lead to them."""
    fakes = [FakeBackend(good, host=f"127.0.{number // 250 + 1}.{number % 250 + 1}") for number in range(count)]
    try:
        for fake in fakes:
            fake.port = fakes[0].port
            await fake.start()
        yield fakes
    finally:
        for fake in fakes:
            await fake.stop()


async def test_engines_of_a_name_whose_servers_fail_and_forget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe_seldom(monkeypatch)
    monkeypatch.setattr("gateway.discovery.membership.LINGER", 0.0)
    monkeypatch.setattr("gateway.discovery.dns_source.PATIENCE", 0.3)
    monkeypatch.setattr("gateway.discovery.dns_answers.AGAIN", 0.2)
    key = ("A", "vllm.svc")
    async with engines_at_one_port(ENGINES) as fakes, dns_server() as names:
        names.records[key] = [fake.host for fake in fakes]
        entry = {"dns": "vllm.svc", "port": fakes[0].port}
        async with gateway(tmp_path, routes(entry), wait_ready=False, dns_server=names.where) as running:
            registry, source = running.app.data.registry, running.app.control.discovery

            def ready() -> int:
                return sum(backend.serves("m") for backend in registry)

            async def asked(times: int, mode: Mode) -> None:
                names.mode, wanted = mode, len(names.asked) + 2 * times
                await eventually(lambda: len(names.asked) >= wanted)

            await eventually(lambda: ready() == ENGINES)
            load = Load(running)
            for mode in ("SERVFAIL", "silent", "NXDOMAIN"):
                await asked(3, mode)
                assert source.rows()[0].problem
                assert ready() == ENGINES, "the pool is as it was"
            names.partly = lambda all_of_them: all_of_them[::2]
            await asked(1, "answers")
            await eventually(lambda: source.rows()[0].problem == "")
            assert ready() == ENGINES, "one answer may hold a part"
            await eventually(lambda: len(registry.watched()) == ENGINES // 2)
            gone = fakes[1::2]
            await nothing_more_to(gone, load)
            await eventually(lambda: all(fake.open == 0 for fake in gone))


async def test_engines_of_a_name_that_come_go_and_flap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer holds some of them; those that every answer holds are never missed."""
    probe_seldom(monkeypatch)
    monkeypatch.setattr("gateway.discovery.membership.LINGER", 0.0)
    monkeypatch.setattr("gateway.discovery.dns_answers.SHORTEST", 0.1)
    rng = Random(7)
    async with engines_at_one_port(ENGINES) as fakes, dns_server() as names:
        hosts = [fake.host for fake in fakes]
        always, kept = hosts[: ENGINES // 5], hosts[: ENGINES // 2]
        names.records["A", "vllm.svc"] = always
        entry = {"dns": "vllm.svc", "port": fakes[0].port}
        async with gateway(tmp_path, routes(entry), wait_ready=False, dns_server=names.where) as running:
            registry = running.app.data.registry

            def ready() -> set[str]:
                return {backend.spec.host for backend in registry if backend.serves("m")}

            async def answers(number: int) -> None:
                wanted = len(names.asked) + 2 * number
                await eventually(lambda: len(names.asked) >= wanted)

            await eventually(lambda: ready() == set(always))
            load = Load(running)
            names.records["A", "vllm.svc"] = hosts
            await eventually(lambda: ready() == set(hosts))
            for turn in range(TURNS // 2):
                names.partly = lambda every: [*always, *rng.sample(every[len(always) :], ENGINES // 10)]
                await answers(4)
                if turn == 0:
                    await eventually(lambda: len(named(running)) < ENGINES)
                assert set(always) <= {host for host, _ in named(running)}
                names.partly = None
                await answers(2)
            await eventually(lambda: ready() == set(hosts))
            names.records["A", "vllm.svc"] = kept
            await eventually(lambda: len(registry.watched()) == len(kept))  # the drains are over
            assert ready() == set(kept)
            gone = fakes[len(kept) :]
            await nothing_more_to(gone, load)
            await eventually(lambda: all(fake.open == 0 for fake in gone))
            assert len(registry) == len(registry.pools["m"].members) == len(kept)
