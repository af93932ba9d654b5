"""The gateway and what a real API server said of five hundred pods that came, went and flapped, under load.

The engines are at addresses of this machine instead of those in the recordings; all else is as it was sent.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.discovery.kubernetes.cluster import ClusterSettings
from gateway.discovery.kubernetes.endpoints import of_pods, of_slices
from gateway.discovery.kubernetes.resources import EndpointSlice, InferencePool, Page, Pod, T
from gateway.discovery.target import TargetState
from tests.discovery.kubernetes.replay import Cut, Said, as_go, head_and_body, replaying
from tests.e2e.harness import gateway
from tests.e2e.loaded import loaded
from tests.e2e.test_kubernetes import engines, serving
from tests.waiting import eventually

pytestmark = pytest.mark.anyio

PORT = 8000
"""Of the engines in the recordings."""
STEADY = {f"127.1.0.{number}" for number in range(1, 101)}
"""Where those are that the recordings let stay."""


def here(text: bytes, port: int) -> bytes:
    """Return a recording with engines on this machine."""
    moved = text.replace(b'"10.1.', b'"127.1.').replace(b'"port":%d' % PORT, b'"port":%d' % port)
    return moved.replace(b'"number":%d' % PORT, b'"number":%d' % port)


def moved_to(port: int) -> Cut:
    """Return what cuts a recording as Go does, with engines on this machine."""

    def cut(body: bytes) -> Iterator[bytes]:
        return as_go(here(body, port))

    return cut


def ready_at_last(kind: str, port: int) -> set[tuple[str, int]]:
    """Return the engines that are ready in the list that was recorded after the watch."""
    if kind == "slices":
        targets = of_slices(items("many_slices_list_later", EndpointSlice, port), "vllm", "http").targets
    else:
        pods = [each for name in ("list_later", "list_later_rest") for each in items(f"many_pods_{name}", Pod, port)]
        targets = of_pods(items("pool_list", InferencePool, port)[0], pods).targets
    return {(each.host, each.port) for each in targets.values() if each.state is TargetState.READY}


def items(name: str, kind: type[T], port: int) -> list[T]:
    """Return the objects of a list that was recorded."""
    page = msgspec.json.decode(here(head_and_body(name)[1], port), type=Page[kind])  # type: ignore[valid-type]
    return page.items or []


@pytest.mark.parametrize("kind", ["slices", "pods"])
async def test_engines_of_a_recording_come_go_and_flap(tmp_path: Path, kind: str) -> None:
    (tmp_path / "token").write_text("s3cret")
    async with engines() as there:
        port = there.ports[0]
        cut = moved_to(port)
        watch = Said(f"many_{kind}_watch", cut, holds=True, pause=0.01)
        answers = {
            "list_inferencepools": [Said("pool_list", cut)],
            "watch_inferencepools": [Said("pool_watch", lambda _: iter(()), holds=True)],
            "list_pods": [Said("many_pods_list", cut)],
            "list_endpointslices": [Said("many_slices_list", cut)],
            "watch_pods" if kind == "pods" else "watch_endpointslices": [watch],
        }
        entry: dict[str, Any] = {"kubernetes": {"service": "vllm", "namespace": "serving", "port": "http"}}
        if kind == "pods":
            entry = {"inference_pool": "llama", "namespace": "serving"}
        expected = ready_at_last(kind, port)
        async with replaying(**answers) as server:
            settings = ClusterSettings(server.url, tmp_path / "token")
            routes = json.dumps({"models": {"m": {"backends": [entry]}}})
            async with gateway(tmp_path, routes, wait_ready=False, kubernetes=settings) as running:
                steady = {each for each in expected if each[0] in STEADY}
                await eventually(lambda: steady <= serving(running))
                async with loaded(running, there, steady) as load:
                    await load.only_asks(expected)
                registry = running.app.data.registry
                await running.quiet()
                await eventually(lambda: not any(each.pool.idle for each in registry if each.leaving))
            await eventually(lambda: not there.connected)
