"""Names that are asked of a real server on loopback, which answers, fails or keeps silent."""

from collections.abc import Collection
from functools import partial

import dns.name
import dns.resolver
import pytest

from gateway.config.origins import DnsOrigin
from gateway.discovery.dns_source import DnsSource, system_resolver
from gateway.discovery.target import Target
from tests.discovery.dns_server import DnsServer, Mode, dns_server
from tests.waiting import HandClock

pytestmark = pytest.mark.anyio


class Published(list[list[str]]):
    """What a source published, as sorted addresses."""

    def __call__(self, targets: Collection[Target]) -> None:
        self.append(sorted(f"{target.host} {target.port}" for target in targets))


def resolver(server: DnsServer, *, search: tuple[str, ...] = (), seconds: float = 5.0) -> dns.resolver.Resolver:
    made = system_resolver(server.where)
    made.search = [dns.name.from_text(each) for each in search]
    made.lifetime = seconds
    return made


def source(server: DnsServer, origin: DnsOrigin, clock: HandClock, **options: float) -> DnsSource:
    return DnsSource(origin, clock, partial(resolver, server, **options))  # type: ignore[arg-type]


NAME = DnsOrigin("vllm.svc", 8000)
TWO = {("A", "vllm.svc"): ["10.0.0.1", "10.0.0.2"]}


async def test_every_address_is_a_target_for_as_long_as_the_ttl() -> None:
    published = Published()
    async with dns_server(records=dict(TWO), ttl=30) as server:
        asked = source(server, NAME, HandClock())
        assert await asked.ask(published) == 30.0
        server.ttl = 0
        assert await asked.ask(published) == 1.0, "not more often than once a second"
        server.ttl = 3600
        assert await asked.ask(published) == 60.0, "nor more seldom than once a minute"
    assert published == [["10.0.0.1 8000", "10.0.0.2 8000"]] * 3
    assert repr(asked) == "<DnsSource dns vllm.svc:8000>"


async def test_addresses_of_the_sixth_version_count_where_there_are_no_others() -> None:
    published = Published()
    async with dns_server(records={("AAAA", "vllm.svc"): ["fd00::1"]}) as server:
        await source(server, NAME, HandClock()).ask(published)
        server.records[("A", "vllm.svc")] = ["10.0.0.1"]
        await source(server, NAME, HandClock()).ask(published)
    assert published == [["fd00::1 8000"], ["10.0.0.1 8000"]]


async def test_srv_records_have_ports_and_the_first_priority_counts() -> None:
    published = Published()
    records = ["10 0 8001 a.svc.", "10 5 8002 B.svc.", "20 0 8003 c.svc.", "5 0 0 ."]
    async with dns_server(records={("SRV", "_http._tcp.vllm.svc"): records}) as server:
        await source(server, DnsOrigin("_http._tcp.vllm.svc"), HandClock()).ask(published)
    assert published == [["a.svc 8001", "b.svc 8002"]]


async def test_a_name_is_looked_for_in_the_search_list_unless_it_ends_in_a_dot() -> None:
    published = Published()
    search = ("serving.svc.cluster.local", "svc.cluster.local")
    async with dns_server(records={("A", "vllm.svc.cluster.local"): ["10.0.0.1"]}) as server:
        make = partial(resolver, server, search=search)
        await DnsSource(DnsOrigin("vllm", 8000), HandClock(), make).ask(published)
        assert published == [["10.0.0.1 8000"]]
        asked = DnsSource(DnsOrigin("vllm.", 8000), HandClock(), make)
        await asked.ask(published)
        assert (asked.problem, len(published)) == ("the name does not exist (NXDOMAIN)", 1)
        assert server.asked[-1] == ("A", "vllm")


async def test_an_answer_too_long_for_a_datagram_is_asked_for_again() -> None:
    published = Published()
    many = [f"10.0.{number // 250}.{number % 250 + 1}" for number in range(500)]
    async with dns_server(records={("A", "vllm.svc"): many}) as server:
        await source(server, NAME, HandClock()).ask(published)
    assert len(published[0]) == 500


@pytest.mark.parametrize("mode", ["SERVFAIL", "REFUSED", "silent"])
async def test_a_server_that_fails_or_keeps_silent_changes_nothing(mode: Mode) -> None:
    published, clock = Published(), HandClock()
    async with dns_server(records=dict(TWO)) as server:
        asked = source(server, NAME, clock, seconds=0.3)
        await asked.ask(published)
        server.mode = mode
        pauses = []
        for _ in range(4):
            pauses.append(await asked.ask(published))
            clock.advance(60.0)
        assert (published, pauses) == ([["10.0.0.1 8000", "10.0.0.2 8000"]], [1.0, 2.0, 4.0, 5.0])
        assert asked.errors == 4
        assert ("no answer in" if mode == "silent" else mode) in asked.problem
        assert mode == "silent" or asked.problem == f"name server 127.0.0.1:{server.port}: {mode}"
        server.mode = "answers"
        await asked.ask(published)
        assert (len(published), asked.problem) == (2, "")


@pytest.mark.parametrize("mode", ["NXDOMAIN", "no data"])
async def test_a_name_without_addresses_is_believed_after_three_answers_in_thirty_seconds(mode: Mode) -> None:
    published, clock = Published(), HandClock()
    async with dns_server(records=dict(TWO)) as server:
        asked = source(server, NAME, clock)
        await asked.ask(published)
        server.mode = mode
        for _ in range(3):
            await asked.ask(published)
        assert len(published) == 1, "three times, but at once"
        assert asked.problem
        clock.advance(29.0)
        await asked.ask(published)
        assert len(published) == 1
        clock.advance(1.0)
        await asked.ask(published)
        assert published[1:] == [[]]
        assert asked.errors == 0, "the server has told"


async def test_addresses_that_no_engine_can_have_are_none() -> None:
    published = Published()
    async with dns_server(records={("A", "vllm.svc"): ["0.0.0.0", "224.0.0.1"]}) as server:
        asked = source(server, NAME, HandClock())
        await asked.ask(published)
    assert (published, asked.problem) == ([], "the name has no A or AAAA record of use")


async def test_without_a_server_of_names_that_is_what_is_wrong() -> None:
    def none() -> dns.resolver.Resolver:
        raise dns.resolver.NoResolverConfiguration

    asked = DnsSource(NAME, HandClock(), none)
    assert await asked.ask(Published()) == 1.0
    assert asked.problem
