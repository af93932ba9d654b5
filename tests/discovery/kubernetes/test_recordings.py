"""Sources that follow recordings of what rarely happens: moves, unknown conditions, other selectors, lost servers."""

import asyncio
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from gateway.discovery.kubernetes.resources import EndpointSlice, Page, Pod
from gateway.discovery.target import TargetState
from tests.discovery.kubernetes.following import PACE, Followed, pool, service
from tests.discovery.kubernetes.replay import (
    Cut,
    Said,
    as_go,
    as_older_go,
    at_once,
    at_random,
    head_and_body,
    in_a_row,
    last_version,
    replaying,
)
from tests.waiting import HandClock, eventually

pytestmark = pytest.mark.anyio

PATIENT = replace(PACE, hold=600.0)
"""Lists again in no test: what vanishes stays, since the clock stands still, however long the machine takes."""

some_cuts = pytest.mark.parametrize(
    "cut",
    [as_go, in_a_row, as_older_go, at_once, at_random(1)],
    ids=["as Go", "in a row", "as older Go", "at once", "at random"],
)


def quiet(name: str) -> Said:
    """Return a watch, with the head that is in a file, that nothing is told in."""
    return Said(name, lambda _: iter(()), holds=True)


def addresses(*numbers: int) -> set[str]:
    return {f"10.1.0.{number}:8000" for number in numbers}


def ready(following: Followed) -> list[set[str]]:
    """Return the engines that are ready in each set that was published."""
    return [
        {f"{each.host}:{each.port}" for each in targets.values() if each.state is TargetState.READY}
        for targets in following.sets
    ]


class TestMoves:
    @some_cuts
    @pytest.mark.parametrize(
        ("name", "steady", "last"),
        [
            ("ports", addresses(1, 2, 3, 4, 5), addresses(1, 2, 3, 4, 5)),
            ("moves", addresses(1, 2, 3), addresses(1, 2, 3, 4)),
        ],
    )
    async def test_no_engine_leaves_on_its_way(
        self, tmp_path: Path, cut: Cut, name: str, steady: set[str], last: set[str]
    ) -> None:
        """A Service gets another port, or another controller moves endpoints."""
        lists, watches = [Said(f"{name}_list", cut)], [Said(f"{name}_watch", cut), quiet(f"{name}_watch")]
        async with (
            replaying(list_endpointslices=lists, watch_endpointslices=watches) as server,
            service(server, tmp_path, "http", PATIENT, HandClock()) as following,
        ):
            await eventually(lambda: len(server.asked) == 3)
            assert all(steady <= each for each in ready(following))
            assert (following.ready, following.draining) == (last, set())
            assert f"resourceVersion={last_version(f'{name}_watch')}&" in server.asked[-1]
            assert following.source.errors == 0


async def test_conditions_that_are_not_known(tmp_path: Path) -> None:
    async with (
        replaying(list_endpointslices=[Said("odd_list")], watch_endpointslices=[quiet("moves_watch")]) as server,
        service(server, tmp_path, "http", PATIENT, HandClock()) as following,
    ):
        await following.has(*addresses(1, 2, 3, 5, 20), "fd00:1::21:8000", draining=addresses(6, 7))
        await eventually(lambda: len(server.asked) == 2)
        assert following.source.errors == 0


async def test_a_pool_that_gets_another_selector_and_is_made_again(tmp_path: Path) -> None:
    many = 50
    async with (
        replaying(
            list_inferencepools=[Said("pool_list_later"), *[Said("pool_list_again")] * many],
            watch_inferencepools=[Said("pool_changes_watch"), *[quiet("pool_watch")] * many],
            list_pods=[Said("pods_list_other")] * many,
            watch_pods=[quiet("pods_watch")] * many,
        ) as server,
        pool(server, tmp_path) as following,
    ):
        await following.has("10.2.0.3:8000")
        assert any("labelSelector=app%3Dqwen" in target for target in server.asked)
        assert following.source.errors == 0


class TestLostServers:
    @pytest.mark.parametrize("name", ["ended", "killed"])
    async def test_a_watch_that_is_cut_goes_on_where_it_was(self, tmp_path: Path, name: str) -> None:
        watches = [Said(f"{name}_watch", breaks=name == "killed"), quiet(f"{name}_watch")]
        async with (
            replaying(list_endpointslices=[Said(f"{name}_list")], watch_endpointslices=watches) as server,
            service(server, tmp_path, "http", PATIENT, HandClock()) as following,
        ):
            await eventually(lambda: len(server.asked) == 3 and following.source.problem == "")
            assert f"resourceVersion={last_version(f'{name}_watch')}&" in server.asked[-1]
            assert len(following.ready) == len(ready(following)[0]) + 1
            assert all(before <= after for before, after in pairwise(ready(following)))

    @pytest.mark.parametrize(
        ("refusal", "words"),
        [
            ("unauthorized", "refuses the token in"),
            ("forbidden", "the gateway may not list endpointslices in namespace serving (403)"),
        ],
    )
    async def test_a_refusal_changes_nothing_and_is_told(self, tmp_path: Path, refusal: str, words: str) -> None:
        problems = []
        async with (
            replaying(
                list_endpointslices=[Said("slices_list"), *[Said(refusal)] * 10_000],
                watch_endpointslices=[Said(refusal)],
            ) as server,
            service(server, tmp_path, "http", PATIENT, HandClock()) as following,
        ):

            def told() -> bool:
                problems.append(following.source.problem)
                return words in problems[-1]

            await eventually(told)
            assert following.ready == addresses(1, 2)
            assert server.token is not None
            assert server.token not in problems[-1]


class TestRefusals:
    """What is refused for a while: the problem is told, what is known stays, and all goes on when that is over."""

    async def test_an_api_server_that_starts_again_does_not_know_yet_who_may_list(self, tmp_path: Path) -> None:
        problems: list[str] = []
        lists = [Said("ended_list"), *[Said("starting_endpointslices_0")] * 5, Said("killed_list")]
        watches = [Said("ended_watch"), Said("gone_watch"), quiet("killed_watch")]
        async with (
            replaying(list_endpointslices=lists, watch_endpointslices=watches) as server,
            service(server, tmp_path, "http", PATIENT, HandClock()) as following,
        ):

            def is_back() -> bool:
                problems.append(following.source.problem)
                return len(server.asked) == 10

            await eventually(is_back)
            await eventually(lambda: following.source.problem == "")
            assert any("may not list endpointslices in namespace serving (403)" in each for each in problems)
            assert following.source.errors == 5
            assert all(before <= after for before, after in pairwise(ready(following)))
            assert following.ready == addresses(1, 2)
            assert f"resourceVersion={last_version('killed_list')}&" in server.asked[-1]

    async def test_an_api_server_that_starts_again_does_not_have_its_inferencepools_yet(self, tmp_path: Path) -> None:
        lists = [Said("pool_list"), Said("starting_inferencepools_1"), Said("pool_list")]
        pods = [Said("pods_list"), quiet("pods_watch")]
        problems = []
        async with (
            replaying(
                list_inferencepools=lists,
                watch_inferencepools=[Said("gone_watch"), quiet("pool_watch")],
                list_pods=pods[:1],
                watch_pods=pods[1:],
            ) as server,
            pool(server, tmp_path) as following,
        ):

            def is_back() -> bool:
                problems.append(following.source.problem)
                return sum("/inferencepools?" in each for each in server.asked) == 5

            began = asyncio.get_running_loop().time()
            await eventually(is_back)
            assert asyncio.get_running_loop().time() - began >= 1.0, "it asks to wait for a second"
            assert any("storage is (re)initializing" in each for each in problems)
            await eventually(lambda: following.source.problem == "")
            assert {frozenset(each) for each in ready(following)} == {frozenset({"10.2.0.1:8000"})}

    async def test_inferencepools_whose_crd_is_installed_later(self, tmp_path: Path) -> None:
        problems = []
        async with (
            replaying(
                list_inferencepools=[*[Said("crd_missing")] * 5, Said("pool_list")],
                watch_inferencepools=[quiet("pool_watch")],
                list_pods=[Said("pods_list")],
                watch_pods=[quiet("pods_watch")],
            ) as server,
            pool(server, tmp_path) as following,
        ):

            def is_told() -> bool:
                problems.append(following.source.problem)
                assert len(server.asked) > 5 or not following.sets, "nothing is known yet"
                return "install the CRDs of the Gateway API Inference Extension" in problems[-1]

            await eventually(is_told)
            await following.has("10.2.0.1:8000")
            await eventually(lambda: following.source.problem == "")
            assert following.source.errors == 5

    async def test_a_role_that_lets_the_gateway_list_and_not_watch(self, tmp_path: Path) -> None:
        problems = []
        async with (
            replaying(
                list_endpointslices=[Said("slices_list")] * 6,
                watch_endpointslices=[*[Said("forbidden_watch")] * 5, quiet("slices_watch")],
            ) as server,
            service(server, tmp_path, "http", PATIENT, HandClock()) as following,
        ):

            def is_over() -> bool:
                problems.append(following.source.problem)
                return len(server.asked) == 12 and problems[-1] == ""

            await eventually(is_over)
            assert any(
                "the gateway may not watch endpointslices in namespace serving (403)" in each for each in problems
            )
            assert all(each == addresses(1, 2) for each in ready(following))
            assert ["watch=true" in each for each in server.asked] == [False, True] * 6
            assert following.source.errors == 5


class TestMany:
    """Five hundred pods that came, went and flapped; the controller gathered changes for a second."""

    @some_cuts
    async def test_engines_of_a_service(self, tmp_path: Path, cut: Cut) -> None:
        page = msgspec.json.decode(head_and_body("many_slices_list_later")[1], type=Page[EndpointSlice])
        listed = [each for part in page.items or () for each in part.endpoints or ()]
        expected = {
            f"{(each.addresses or [''])[0]}:8000"
            for each in listed
            if each.conditions is not None and each.conditions.ready
        }
        assert len(expected) > 300
        lists, watches = [Said("many_slices_list", cut)], [Said("many_slices_watch", cut), quiet("many_slices_watch")]
        async with (
            replaying(list_endpointslices=lists, watch_endpointslices=watches) as server,
            service(server, tmp_path, "http", PATIENT, HandClock()) as following,
        ):
            await eventually(lambda: len(server.asked) == 3)
            assert following.ready == expected
            steady = ready(following)[0]
            assert len(steady) == 100
            assert all(steady <= each for each in ready(following))

    @some_cuts
    async def test_engines_of_a_pool(self, tmp_path: Path, cut: Cut) -> None:
        pods: list[Pod] = []
        for name in ("many_pods_list_later", "many_pods_list_later_rest"):
            pods += msgspec.json.decode(head_and_body(name)[1], type=Page[Pod]).items or []
        expected = {
            f"{each.status.pod_ip}:8000"
            for each in pods
            if each.status is not None
            and each.metadata.deletion_timestamp is None
            and any(one.type == "Ready" and one.status == "True" for one in each.status.conditions or ())
        }
        assert len(expected) > 75
        async with (
            replaying(
                list_inferencepools=[Said("pool_list", cut)],
                watch_inferencepools=[quiet("pool_watch")],
                list_pods=[Said("many_pods_list", cut)],
                watch_pods=[Said("many_pods_watch", cut), quiet("many_pods_watch")],
            ) as server,
            pool(server, tmp_path, PATIENT, HandClock()) as following,
        ):
            await eventually(lambda: len(server.asked) == 5)
            assert following.ready == expected
            steady = ready(following)[0]
            assert all(steady <= each for each in ready(following))
