"""A Service as a source: what it publishes while slices change and the API server fails."""

from pathlib import Path

import pytest

from tests.discovery.kubernetes.api_server import api_server
from tests.discovery.kubernetes.following import service
from tests.discovery.kubernetes.objects import endpoint, endpoint_slice, port, uid
from tests.waiting import HandClock, eventually

pytestmark = pytest.mark.anyio

P, Q = endpoint("p", "10.0.0.1"), endpoint("q", "10.0.0.2")
P_GOES = endpoint("p", "10.0.0.1", ready=False, terminating=True)


async def test_endpoints_come_drain_and_go(tmp_path: Path) -> None:
    async with api_server() as server:
        server.put(endpoint_slice("a", [P]))
        async with service(server, tmp_path) as following:
            await following.has("10.0.0.1:8000")
            server.put(endpoint_slice("a", [P, Q]))
            await following.has("10.0.0.1:8000", "10.0.0.2:8000")
            server.put(endpoint_slice("a", [P_GOES, Q]))
            await following.has("10.0.0.2:8000", draining=["10.0.0.1:8000"])
            server.put(endpoint_slice("a", [Q]))
            await following.has("10.0.0.2:8000")
            assert server.lists == 1, "one that terminated has gone for good"


@pytest.mark.parametrize("removed_first", [True, False])
async def test_one_that_moves_between_slices_stays(tmp_path: Path, removed_first: bool) -> None:
    clock = HandClock()
    async with api_server() as server:
        server.put(endpoint_slice("a", [P, Q]), endpoint_slice("b", None))
        async with service(server, tmp_path, clock=clock) as following:
            await following.has("10.0.0.1:8000", "10.0.0.2:8000")
            await eventually(lambda: bool(server.watches))
            writes = [endpoint_slice("a", [Q]), endpoint_slice("b", [P])]
            for write in writes if removed_first else reversed(writes):
                published = len(following.sets)
                server.put(write)
                await eventually(lambda: len(following.sets) > published)  # noqa: B023 - it is waited for at once
            published = len(following.sets)
            server.bookmark()
            await eventually(lambda: len(following.sets) > published)
            assert all(len(each) == 2 for each in following.sets)
            assert following.ready == {"10.0.0.1:8000", "10.0.0.2:8000"}


async def test_a_list_amid_a_move_removes_nothing(tmp_path: Path) -> None:
    clock = HandClock()
    async with api_server() as server:
        server.put(endpoint_slice("a", [P, Q]), endpoint_slice("b", None))
        async with service(server, tmp_path, clock=clock) as following:
            await following.has("10.0.0.1:8000", "10.0.0.2:8000")
            server.put(endpoint_slice("a", [Q]))
            server.expire()
            await eventually(lambda: server.lists >= 4)  # it looks again, and again
            server.put(endpoint_slice("b", [P]))
            lists = server.lists
            clock.advance(10.0)
            await eventually(lambda: server.lists > lists)
            await following.has("10.0.0.1:8000", "10.0.0.2:8000")
            assert all(len(each) == 2 for each in following.sets)


async def test_one_that_vanished_goes_after_another_list(tmp_path: Path) -> None:
    async with api_server() as server:
        server.put(endpoint_slice("a", [P, Q]))
        async with service(server, tmp_path) as following:
            await following.has("10.0.0.1:8000", "10.0.0.2:8000")
            server.put(endpoint_slice("a", [Q]))
            await following.has("10.0.0.2:8000")
            assert server.lists >= 2


async def test_one_that_vanished_stays_while_the_api_server_is_away(tmp_path: Path) -> None:
    async with api_server() as server:
        server.put(endpoint_slice("a", [P, Q]))
        async with service(server, tmp_path) as following:
            await following.has("10.0.0.1:8000", "10.0.0.2:8000")
            await eventually(lambda: bool(server.watches))
            published = len(following.sets)
            server.put(endpoint_slice("a", [Q]))
            await eventually(lambda: len(following.sets) > published)
            server.status = 500
            await eventually(lambda: following.source.errors >= 5)
            assert following.ready == {"10.0.0.1:8000", "10.0.0.2:8000"}
            server.status = None
            await following.has("10.0.0.2:8000")


async def test_a_service_that_is_made_again_loses_nothing(tmp_path: Path) -> None:
    clock = HandClock()
    async with api_server() as server:
        server.put(endpoint_slice("a", [P, Q]))
        async with service(server, tmp_path, clock=clock) as following:
            await following.has("10.0.0.1:8000", "10.0.0.2:8000")
            server.delete("endpointslices", "a")
            await eventually(lambda: "no EndpointSlice" in following.source.problem)
            server.put(endpoint_slice("b", [P, Q]))
            await eventually(lambda: following.source.problem == "")
            assert all(len(each) == 2 for each in following.sets)


async def test_all_go_when_the_service_has_gone(tmp_path: Path) -> None:
    async with api_server() as server:
        server.put(endpoint_slice("a", [P, Q]))
        async with service(server, tmp_path) as following:
            await following.has("10.0.0.1:8000", "10.0.0.2:8000")
            server.delete("endpointslices", "a")
            await following.has()
            assert "kubernetes.io/service-name=vllm" in following.source.problem


async def test_nothing_is_published_before_the_api_server_has_answered(tmp_path: Path) -> None:
    async with api_server(status=503) as server, service(server, tmp_path) as following:
        await eventually(lambda: following.source.errors >= 5)
        assert following.sets == []
        assert "503" in following.source.problem


async def test_a_set_that_has_not_changed_is_confirmed_again(tmp_path: Path) -> None:
    async with api_server() as server:
        server.put(endpoint_slice("a", [P]))
        async with service(server, tmp_path) as following:
            await eventually(lambda: bool(server.watches))
            published = len(following.sets)
            server.bookmark()
            await eventually(lambda: len(following.sets) > published)
            assert following.sets[-1] == following.sets[0]


async def test_problems_with_the_port_are_told_until_they_are_solved(tmp_path: Path) -> None:
    async with api_server() as server:
        server.put(endpoint_slice("a", [P], ports=[port(8000, "api")]))
        async with service(server, tmp_path, port="http") as following:
            await following.has()
            assert following.source.problem == "there is no port http, but api (8000)"
            server.put(endpoint_slice("a", [P], ports=[port(8000, "http")]))
            await following.has("10.0.0.1:8000")
            assert following.source.problem == ""
            assert list(following.sets[-1]) == [f"{uid('p')}:8000"]
