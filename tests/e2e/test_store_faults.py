"""Two gateways whose server is slow, silent, or forbids scripts: no request waits or fails, and all is back after."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from loadtest.store_faults.link import Owed, SlowLink, slow_link
from tests.e2e.harness import ask, chat
from tests.e2e.processes import Process, engine, running, serving
from tests.e2e.test_fleet import answered, comes, status
from tests.redis_server import RedisServer, redis_server
from tests.waiting import eventually, patient_client

pytestmark = pytest.mark.anyio
TOGETHER = 5


@dataclass
class Pair:
    """Two gateways on one server, each over a link of its own, and how many requests they have answered."""

    server: RedisServer
    gateways: list[Process] = field(default_factory=list)
    links: list[SlowLink] = field(default_factory=list)
    asked: int = 0

    async def ask(self, times: int = TOGETHER, at: int = 0) -> None:
        """Send requests one after another; each has to be answered."""
        port = int(self.gateways[at].urls[0].rsplit(":", 1)[1])
        for _ in range(times):
            assert (await ask(port, chat(stream=False, max_tokens=1))).status == 200
            self.asked += 1

    async def all_is_well(self) -> None:
        """Wait until both know of all requests, and save again."""

        async def holds() -> bool:
            states = [(await status(each))["state"] for each in self.gateways]
            counted = [await answered(each) for each in self.gateways]
            return counted == [self.asked] * 2 and not any(each["not_saved"] for each in states)

        await comes(holds)

    async def all_say(self, words: str) -> None:
        """Wait until both say why they cannot save."""

        async def holds() -> bool:
            return all([words in (await status(each))["state"]["not_saved"] for each in self.gateways])

        await comes(holds)

    async def answers_while_the_server_owes_one(self) -> bool:
        """Whether both answered requests while the same answer of the server was awaited all along."""
        waited = []
        for at, link in enumerate(self.links):
            link.hold()
            owed = await owing(link)
            await self.ask(at=at)
            waited.append(owed.pending)
            link.go_on()
        return all(waited)

    async def told(self, at: int = 0) -> tuple[int, str]:
        """Return the exit code of `tidegate status`, and what it prints."""
        async with running("gateway.cli", "status", "--admin", self.gateways[at].urls[1]) as asked:
            code = await asked.ended()
            return code, "\n".join(asked.out)


async def owing(link: SlowLink) -> Owed:
    """Wait until an answer is on its way, and return it."""
    await eventually(lambda: bool(link.owed))
    return next(iter(link.owed))


@asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[Pair]:
    with redis_server(folder / "redis") as server:
        async with AsyncExitStack() as stack:
            backend = await stack.enter_async_context(engine())
            both = Pair(server)
            for name in ("a", "b"):
                (folder / name).mkdir()
                both.links.append(link := await stack.enter_async_context(slow_link(server.port)))
                gateway = serving(folder / name, backend.urls, "--state", link.url)
                both.gateways.append(await stack.enter_async_context(gateway))
            await both.ask()
            await both.all_is_well()
            yield both


async def gauges(gateway: Process) -> dict[str, float]:
    """Return the gauges of the fleet, without their prefix."""
    async with patient_client() as web:
        lines = (await web.get(f"{gateway.urls[1]}/metrics")).text.splitlines()
    pairs = (each.split(" ") for each in lines if each.startswith("tidegate_fleet_"))
    return {name.removeprefix("tidegate_fleet_"): float(value) for name, value in pairs}


async def test_no_request_waits_for_a_server_whose_every_answer_is_late(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        for link in both.links:
            link.delay = 0.2

        async def is_slow() -> bool:
            return all([(await gauges(each))["save_duration_seconds"] >= 0.2 for each in both.gateways])

        await comes(is_slow)
        await both.ask(at=0)
        await both.ask(at=1)
        await both.all_is_well()
        await comes(both.answers_while_the_server_owes_one)
        for link in both.links:
            link.delay = 0.0
        await both.all_is_well()


@pytest.mark.parametrize(
    ("forbid", "permit", "words"),
    [
        (
            lambda server: server.client().execute_command("ACL", "SETUSER", "default", "-eval"),
            lambda server: server.client().execute_command("ACL", "SETUSER", "default", "+eval"),
            "allow this user EVAL",
        ),
        (
            lambda server: (server.stop(), server.start("--rename-command", "EVAL", "NOEVAL")),
            lambda server: (server.stop(), server.start()),
            "EVAL may be renamed or forbidden there",
        ),
    ],
    ids=["by an access list", "by another name, and started empty twice"],
)
async def test_scripts_that_are_forbidden_meanwhile_stop_no_request(
    forbid: Callable[[RedisServer], Any], permit: Callable[[RedisServer], Any], words: str, tmp_path: Path
) -> None:
    async with pair(tmp_path) as both:
        forbid(both.server)
        await both.all_say(words)
        await both.ask(at=0)
        await both.ask(at=1)
        await comes(both.answers_while_the_server_owes_one)
        code, told = await both.told()
        assert code == 1
        assert "! the state cannot be saved, and counts wait in memory" in told
        permit(both.server)
        await both.all_is_well()
        assert (await both.told())[0] == 0


async def test_status_and_metrics_tell_who_is_alive_who_leads_and_how_old_counts_are(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:

        def known(alive: int) -> Callable[[], Awaitable[bool]]:
            async def holds() -> bool:
                found = [await gauges(each) for each in both.gateways]
                alike = all(each.get("members") == alive for each in found)
                return alike and sum(each["leader"] for each in found) == 1

            return holds

        await comes(known(2))
        for each in both.gateways:
            shown = await gauges(each)
            assert shown["recovering"] == 0
            assert min(shown["save_age_seconds"], shown["read_age_seconds"], shown["save_duration_seconds"]) >= 0
        fleets = [(await status(each))["state"]["fleet"] for each in both.gateways]
        names = {each["name"] for each in fleets}
        assert len(names) == 2
        assert len({each["store"] for each in fleets}) == 1
        assert [{member["name"] for member in each["members"]} for each in fleets] == [names, names]
        (leader,) = {each["leader"] for each in fleets}
        assert leader in names
        code, told = await both.told()
        assert code == 0
        assert "2 processes alive" in told
        assert "(this one)" in told
        first = both.gateways.pop(0)
        first.process.kill()
        await first.ended()
        await comes(known(1))
        assert "1 process alive, this one leads" in (await both.told())[1]
