"""Any history of a Service ends with the set that one plain list gives, and loses no endpoint that is ready throughout.

The histories are replayed by a real HTTP server. Endpoints move between slices by two writes in either order, with
whatever happens in between: disconnections, expired versions, bookmarks, an API server that goes and comes back.
"""

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.discovery.target import TargetState
from tests.discovery.kubernetes.api_server import ApiServer, api_server
from tests.discovery.kubernetes.following import PACE, Followed, pool, service
from tests.discovery.kubernetes.objects import Json, endpoint, endpoint_slice, inference_pool, pod, uid
from tests.waiting import HandClock, eventually

PODS = range(5)
SLICES = range(3)
STATES = {"ready": (True, False), "unready": (False, False), "terminating": (False, True)}

POD = st.sampled_from(PODS)
STEP = st.one_of(
    st.tuples(st.just("state"), POD, st.sampled_from(sorted(STATES))),
    st.tuples(st.just("place"), POD, st.sampled_from(SLICES)),
    st.tuples(st.just("remove"), POD, st.just(0)),
    st.tuples(st.just("move"), POD, st.sampled_from(SLICES)),
    st.tuples(st.just("arrive"), POD, st.just(0)),
    st.tuples(st.just("empty"), st.just(0), st.sampled_from(SLICES)),
    st.tuples(
        st.sampled_from(["bookmark", "cut", "half a line", "expire", "forget", "end", "away", "silent"]),
        st.just(0),
        st.just(0),
    ),
)


@dataclass
class Cluster:
    """What is true: where each pod is listed, and where it is on its way to."""

    server: ApiServer
    states: dict[int, str] = field(default_factory=lambda: dict.fromkeys(PODS, "ready"))
    places: dict[int, set[int]] = field(default_factory=lambda: {number: set() for number in PODS})
    moving: dict[int, int] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    """Pods that were not there, or not ready, at some moment."""

    def note(self) -> None:
        there = {number for number in PODS if self.places[number] or number in self.moving}
        self.gone |= {number for number in PODS if number not in there or self.states[number] != "ready"}

    def shown(self, number: int) -> Json:
        ready, terminating = STATES[self.states[number]]
        serving = ready or terminating
        return endpoint(f"p{number}", f"10.0.0.{number + 1}", ready=ready, serving=serving, terminating=terminating)

    def write(self, *slices: int) -> None:
        for part in slices:
            listed = [self.shown(number) for number in PODS if part in self.places[number]]
            self.server.put(endpoint_slice(f"s{part}", listed))

    def expected(self) -> dict[str, TargetState]:
        """The slow, obvious version of what one plain list gives."""
        found: dict[str, TargetState] = {}
        for number in PODS:
            state = self.states[number]
            if self.places[number] and state != "unready":
                drains = state == "terminating"
                found[f"{uid(f'p{number}')}:8000"] = TargetState.DRAINING if drains else TargetState.READY
        return found

    def do(self, what: str, number: int, which: int | str) -> None:
        """Take a step of a pod or a slice."""
        if what == "state" and isinstance(which, str):
            if self.states[number] != "terminating" and number not in self.moving:
                self.states[number] = which
                self.write(*self.places[number])
        elif what in {"place", "move"} and isinstance(which, int):
            if what == "move" and self.places[number] and number not in self.moving:
                self.moving[number] = which
                left = self.places[number]
                self.places[number] = set()
                self.write(*left)
            elif number not in self.moving:
                self.places[number].add(which)
                self.write(which)
        elif what == "remove" and number not in self.moving:
            left, self.places[number] = self.places[number], set()
            self.write(*left)
        elif what == "arrive" and number in self.moving:
            part = self.moving.pop(number)
            self.places[number].add(part)
            self.write(part)
        elif what == "empty" and f"s{which}" in self.empty():
            self.server.delete("endpointslices", f"s{which}")

    def empty(self) -> set[str]:
        """The slices without endpoints."""
        return {name for name, part in self.server.objects["endpointslices"].items() if not part["endpoints"]}

    async def disturb(self, what: str) -> None:
        """Let something happen to the connection."""
        server = self.server
        match what:
            case "away":
                await server.stop()
                await asyncio.sleep(0.005)
                await server.start()
            case "bookmark":
                server.bookmark()
            case "cut" | "half a line":
                server.cut(half_a_line=what == "half a line")
            case "expire":
                server.expire()
            case "forget":
                server.forget()
            case "silent":
                server.quiet = not server.quiet
                if not server.quiet:
                    server.cut()  # a watch may hang, but never leaves a change out
            case "end":
                for watch in server.watches:
                    watch.end()


def agrees(following: Followed, expected: dict[str, TargetState]) -> bool:
    return bool(following.sets) and {key: each.state for key, each in following.sets[-1].items()} == expected


@pytest.mark.parametrize("gone_as_event", [True, False])
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(STEP, max_size=25), yields=st.lists(st.integers(0, 3), min_size=25, max_size=25))
def test_slices(gone_as_event: bool, steps: list[tuple[str, int, int | str]], yields: list[int]) -> None:
    async def replay() -> None:
        clock = HandClock()
        with tempfile.TemporaryDirectory() as folder:
            async with api_server(gone_as_event=gone_as_event) as server:
                cluster = Cluster(server)
                for number in PODS[:3]:
                    cluster.do("place", number, number % 2)
                cluster.note()
                async with service(server, Path(folder), clock=clock) as following:
                    await eventually(lambda: bool(following.sets))
                    for (what, number, which), turns in zip(steps, yields, strict=False):
                        if what in {"state", "place", "remove", "move", "arrive", "empty"}:
                            cluster.do(what, number, which)
                        else:
                            await cluster.disturb(what)
                        cluster.note()
                        for _ in range(turns):
                            await asyncio.sleep(0.001)
                    for number in PODS:
                        cluster.do("arrive", number, 0)
                    steady = {f"{uid(f'p{number}')}:8000" for number in set(PODS) - cluster.gone}
                    assert all(steady <= each.keys() for each in following.sets)
                    assert all(each[key].state is TargetState.READY for each in following.sets for key in steady)
                    server.quiet = False
                    server.cut()  # a silent watch would be noticed after a minute and a half

                    def settled() -> bool:
                        clock.advance(PACE.hold)
                        return agrees(following, cluster.expected())

                    await eventually(settled)
                    assert all(steady <= each.keys() for each in following.sets)

    uvloop.run(replay())


POD_STEP = st.one_of(
    st.tuples(st.just("state"), POD, st.sampled_from(sorted(STATES))),
    st.tuples(st.sampled_from(["put", "delete", "relabel"]), POD, st.just("")),
    st.tuples(st.just("ports"), st.sampled_from([1, 2, 8]), st.just("")),
    st.tuples(st.just("selector"), st.just(0), st.sampled_from(["vllm", "sglang"])),
    st.tuples(
        st.sampled_from(["bookmark", "cut", "half a line", "expire", "forget", "end", "away"]), st.just(0), st.just("")
    ),
)


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(POD_STEP, max_size=20), yields=st.lists(st.integers(0, 3), min_size=20, max_size=20))
def test_pools(steps: list[tuple[str, int, str]], yields: list[int]) -> None:
    async def replay() -> None:
        pods: dict[int, tuple[str, str]] = {0: ("vllm", "ready"), 1: ("vllm", "ready")}
        ports, selector = 1, "vllm"
        with tempfile.TemporaryDirectory() as folder:
            async with api_server() as server:

                def write(number: int) -> None:
                    app, state = pods[number]
                    address, going = f"10.0.0.{number + 1}", state == "terminating"
                    ready = state != "unready"
                    server.put(pod(f"p{number}", address, ready=ready, terminating=going, labels={"app": app}))

                write(0)
                write(1)
                server.put(inference_pool())
                cluster = Cluster(server)
                async with pool(server, Path(folder)) as following:
                    await eventually(lambda: bool(following.sets))
                    for (what, number, word), turns in zip(steps, yields, strict=False):
                        if what == "state" and number in pods and pods[number][1] != "terminating":
                            pods[number] = (pods[number][0], word)
                            write(number)
                        elif what == "put" and number not in pods:
                            pods[number] = ("vllm", "ready")
                            write(number)
                        elif what == "delete" and number in pods:
                            del pods[number]
                            server.delete("pods", f"p{number}")
                        elif what == "relabel" and number in pods:
                            app, state = pods[number]
                            pods[number] = ("sglang" if app == "vllm" else "vllm", state)
                            write(number)
                        elif what in {"ports", "selector"}:
                            ports, selector = (number, selector) if what == "ports" else (ports, word)
                            numbers = [8000 + extra for extra in range(ports)]
                            server.put(inference_pool("llama", *numbers, labels={"app": selector}))
                        elif what not in {"state", "put", "delete", "relabel"}:
                            await cluster.disturb(what)
                        for _ in range(turns):
                            await asyncio.sleep(0.001)
                    expected = {
                        f"{uid(f'p{number}')}:{8000 + extra}": TargetState.DRAINING
                        if state == "terminating"
                        else TargetState.READY
                        for number, (app, state) in pods.items()
                        for extra in range(ports)
                        if app == selector and state != "unready"
                    }
                    await eventually(lambda: agrees(following, expected))

    uvloop.run(replay())
