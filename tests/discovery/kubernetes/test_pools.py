"""An InferencePool as a source: its pods, and changes of the pool itself."""

from pathlib import Path

import pytest

from tests.discovery.kubernetes.api_server import api_server
from tests.discovery.kubernetes.following import pool
from tests.discovery.kubernetes.objects import inference_pool, pod
from tests.waiting import HandClock, eventually

pytestmark = pytest.mark.anyio


async def test_pods_come_drain_and_go(tmp_path: Path) -> None:
    async with api_server() as server:
        server.put(inference_pool(), pod("p", "10.0.0.1"), pod("other", "10.0.0.9", labels={"app": "web"}))
        async with pool(server, tmp_path) as following:
            await following.has("10.0.0.1:8000")
            server.put(pod("q", None, ready=False))
            server.put(pod("q", "10.0.0.2", ready=False))
            server.put(pod("q", "10.0.0.2"))
            await following.has("10.0.0.1:8000", "10.0.0.2:8000")
            server.put(pod("p", "10.0.0.1", terminating=True))
            await following.has("10.0.0.2:8000", draining=["10.0.0.1:8000"])
            server.put(pod("p", "10.0.0.1", terminating=True, ready=False))
            await following.has("10.0.0.2:8000")
            server.delete("pods", "p")
            server.put(pod("r", "10.0.0.3"))
            await following.has("10.0.0.2:8000", "10.0.0.3:8000")
            assert following.source.problem == ""
            assert all(following.sets), "no set was empty"


async def test_its_ports_are_followed(tmp_path: Path) -> None:
    async with api_server() as server:
        server.put(inference_pool("llama", 8000), pod("p", "10.0.0.1"))
        async with pool(server, tmp_path) as following:
            await following.has("10.0.0.1:8000")
            server.put(inference_pool("llama", 8000, 8001, 8002))
            await following.has("10.0.0.1:8000", "10.0.0.1:8001", "10.0.0.1:8002")
            server.put(inference_pool("llama", 8001))
            await following.has("10.0.0.1:8001")


async def test_its_selector_is_followed(tmp_path: Path) -> None:
    async with api_server() as server:
        server.put(inference_pool(), pod("p", "10.0.0.1"), pod("q", "10.0.0.2", labels={"app": "sglang"}))
        async with pool(server, tmp_path) as following:
            await following.has("10.0.0.1:8000")
            server.put(inference_pool(labels={"app": "sglang"}))
            await following.has("10.0.0.2:8000")
            server.put(pod("q", "10.0.0.2", labels={"app": "sglang"}, terminating=True))
            await following.has(draining=["10.0.0.2:8000"])
            assert all(following.sets), "the pods of the old selector stayed until those of the new one were known"


async def test_pods_that_cannot_be_listed_leave_the_set_as_it_is(tmp_path: Path) -> None:
    async with api_server() as server:
        server.put(inference_pool(), pod("p", "10.0.0.1"))
        async with pool(server, tmp_path) as following:
            await following.has("10.0.0.1:8000")
            server.forbidden.add("pods")
            server.put(inference_pool(labels={"app": "sglang"}))
            await eventually(lambda: 'apiGroups [""], resources ["pods"]' in following.source.problem)
            published = len(following.sets)
            server.bookmark()
            server.put(inference_pool("llama", 8000, labels={"app": "sglang"}))
            await eventually(lambda: following.source.errors >= 5)
            assert following.ready == {"10.0.0.1:8000"}
            assert len(following.sets) == published, "what is not known is not confirmed"
            server.forbidden.clear()
            await following.has()


async def test_changes_of_pods_count_while_the_pool_cannot_be_read(tmp_path: Path) -> None:
    async with api_server() as server:
        server.put(inference_pool(), pod("p", "10.0.0.1"))
        async with pool(server, tmp_path) as following:
            await following.has("10.0.0.1:8000")
            server.forbidden.add("inferencepools")
            server.cut()
            await eventually(lambda: "inferencepools" in following.source.problem)
            server.put(pod("q", "10.0.0.2"))
            await following.has("10.0.0.1:8000", "10.0.0.2:8000")


async def test_a_pool_that_is_not_there_is_told(tmp_path: Path) -> None:
    async with api_server() as server:
        server.put(inference_pool("other"), pod("p", "10.0.0.1"))
        async with pool(server, tmp_path) as following:
            await following.has()
            assert following.source.problem == "there is no InferencePool llama in namespace serving"
            server.put(inference_pool())
            await following.has("10.0.0.1:8000")
            assert following.source.problem == ""


async def test_a_pool_that_is_made_again_loses_nothing(tmp_path: Path) -> None:
    async with api_server() as server:
        server.put(inference_pool(), pod("p", "10.0.0.1"))
        async with pool(server, tmp_path, clock=HandClock()) as following:
            await following.has("10.0.0.1:8000")
            server.delete("inferencepools", "llama")
            await eventually(lambda: "no InferencePool" in following.source.problem)
            server.put(inference_pool())
            await eventually(lambda: following.source.problem == "")
            assert all(following.sets)


async def test_a_pool_that_has_gone_has_no_endpoints(tmp_path: Path) -> None:
    async with api_server() as server:
        server.put(inference_pool(), pod("p", "10.0.0.1"))
        async with pool(server, tmp_path) as following:
            await following.has("10.0.0.1:8000")
            server.delete("inferencepools", "llama")
            await following.has()


async def test_a_selector_of_nothing_is_a_problem_not_all_pods(tmp_path: Path) -> None:
    async with api_server() as server:
        server.put(inference_pool(labels={}), pod("p", "10.0.0.1"))
        async with pool(server, tmp_path) as following:
            await following.has()
            assert "no matchLabels" in following.source.problem


async def test_a_cluster_without_the_extension_is_told(tmp_path: Path) -> None:
    async with api_server() as server:
        server.unknown.add("inferencepools")
        async with pool(server, tmp_path) as following:
            await eventually(lambda: "install the CRDs" in following.source.problem)
            assert following.sets == []
