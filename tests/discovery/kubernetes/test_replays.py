"""Sources that follow what real API servers say, wherever it is cut: into chunks, packets or connections."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.discovery.kubernetes.api import Lines
from gateway.discovery.kubernetes.cluster import Cluster
from gateway.discovery.target import TargetState
from tests.discovery.kubernetes.following import Followed, pool, service
from tests.discovery.kubernetes.replay import (
    Cut,
    Said,
    as_go,
    as_older_go,
    at_once,
    at_random,
    by_bytes,
    head_and_body,
    in_a_row,
    last_version,
    replaying,
)
from tests.waiting import HandClock, eventually

pytestmark = pytest.mark.anyio

CUTS = [as_go, in_a_row, as_older_go, at_once, by_bytes, *(at_random(seed) for seed in range(4))]
NAMES = ["as Go", "in a row", "as older Go", "at once", "by bytes", *(f"at random {seed}" for seed in range(4))]
every_cut = pytest.mark.parametrize("cut", CUTS, ids=NAMES)

ONE, TWO, THREE, FOUR = (f"10.1.0.{number}:8000" for number in (1, 2, 3, 4))
WATCHED = [
    ({ONE, TWO}, set()),
    ({ONE, TWO, THREE}, set()),
    ({TWO, THREE}, {ONE}),
    ({TWO, THREE}, set()),
    ({TWO}, {THREE}),
    ({TWO}, set()),
]
"""What is ready and what drains after the list, and after each event of `slices_watch` that changes that."""
AFTER = f"resourceVersion={last_version('slices_watch')}&"
"""Of its last bookmark."""
LATER = f"resourceVersion={last_version('slices_list_later')}&"
QUIET = Said("slices_watch", lambda _: iter(()), holds=True)


def then(cut: Cut, name: str) -> Cut:
    """Return what cuts a body with that of another file after it."""
    return lambda body: cut(body + head_and_body(name)[1])


def seen(following: Followed) -> list[tuple[set[str], set[str]]]:
    """Return what was published, as far as it differs from what was published before."""
    shown = [
        tuple(
            {f"{each.host}:{each.port}" for each in targets.values() if each.state is state}
            for state in (TargetState.READY, TargetState.DRAINING)
        )
        for targets in following.sets
    ]
    return [(now[0], now[1]) for before, now in pairwise([(), *shown]) if now != before]


def is_in_order(found: list[tuple[set[str], set[str]]], whole: list[tuple[set[str], set[str]]]) -> bool:
    """Whether all that was found is in a history, in its order; events that came together are one step."""
    rest: Iterator[tuple[set[str], set[str]]] = iter(whole)
    return all(step in rest for step in found)


class TestSlices:
    @every_cut
    async def test_a_watch_means_the_same_wherever_it_is_cut(self, tmp_path: Path, cut: Cut) -> None:
        await self.follows(tmp_path, Said("slices_watch", cut))

    async def test_frames_of_chunks_may_be_cut_too(self, tmp_path: Path) -> None:
        await self.follows(tmp_path, Said("slices_watch", as_go, in_bytes=True))

    async def follows(self, tmp_path: Path, watch: Said) -> None:
        async with replaying(
            list_endpointslices=[replace(watch, name="slices_list")], watch_endpointslices=[watch, QUIET]
        ) as server, service(server, tmp_path, "http", clock=HandClock()) as following:  # fmt: skip
            await eventually(lambda: len(server.asked) == 3)
            assert is_in_order(seen(following), WATCHED)
            assert seen(following)[-1] == WATCHED[-1]
            assert AFTER in server.asked[-1]
            assert (following.source.problem, following.source.errors) == ("", 0)
            assert dict(next(iter(following.sets[-1].values())).labels)["serving.example/besitzer"].endswith(
                "& 推論チーム"
            )

    async def test_each_event_of_its_own_chunk_is_published(self, tmp_path: Path) -> None:
        watch = Said("slices_watch", by_bytes)
        async with (
            replaying(list_endpointslices=[Said("slices_list")], watch_endpointslices=[watch]) as server,
            service(server, tmp_path, "http", clock=HandClock()) as following,
        ):
            await eventually(lambda: len(server.asked) >= 3)
            assert seen(following) == WATCHED

    @every_cut
    async def test_what_came_before_an_error_counts(self, tmp_path: Path, cut: Cut) -> None:
        watch = Said("slices_watch", then(cut, "gone_watch"))
        async with (
            replaying(list_endpointslices=[Said("slices_list")], watch_endpointslices=[watch]) as server,
            service(server, tmp_path, "http", clock=HandClock()) as following,
        ):
            await eventually(lambda: len(server.asked) >= 4)
            assert seen(following)[-1] == WATCHED[-1], "the API server is away after it, and this is what is known"

    @pytest.mark.parametrize("refusal", ["gone_watch", "gone", "too_large", "too_many"])
    @pytest.mark.parametrize("closes", [False, True], ids=["connection kept", "connection closed"])
    async def test_refusals_lead_to_a_list_or_another_watch(self, tmp_path: Path, refusal: str, closes: bool) -> None:
        lists = [Said("slices_list"), Said("slices_list_later")]
        watches = [Said("slices_watch"), Said(refusal, closes=closes), QUIET]
        async with (
            replaying(list_endpointslices=lists, watch_endpointslices=watches) as server,
            service(server, tmp_path, "http", clock=HandClock()) as following,
        ):
            await eventually(lambda: seen(following)[-1:] == [({TWO, FOUR}, set())])
            await eventually(lambda: following.source.problem == "" and LATER in server.asked[-1])
            assert is_in_order(seen(following), [*WATCHED, ({TWO, FOUR}, set())])

    @pytest.mark.parametrize("cut", [as_go, by_bytes], ids=["as Go", "by bytes"])
    async def test_a_list_in_pages_whose_version_is_forgotten_begins_anew(self, tmp_path: Path, cut: Cut) -> None:
        lists = [Said("slices_page", cut), Said("continue_gone", cut), Said("slices_list_later", cut)]
        async with (
            replaying(list_endpointslices=lists, watch_endpointslices=[QUIET]) as server,
            service(server, tmp_path, "http", clock=HandClock()) as following,
        ):
            await eventually(lambda: len(server.asked) == 4)
            assert ["continue=" in target for target in server.asked] == [False, True, False, False]
            assert seen(following) == [({TWO, FOUR}, set())], "half a list is no set"

    @pytest.mark.parametrize(
        "more", [b"connection: close\r\n", b"keep-alive: timeout=1\r\n", b""], ids=["told", "hinted", "silent"]
    )
    async def test_connections_that_end_between_two_answers(self, tmp_path: Path, more: bytes) -> None:
        """The API server shuts down, or a load balancer has had enough of an idle connection."""
        watches = [Said("slices_watch", more=more, closes=True), replace(QUIET, more=more)]
        async with (
            replaying(
                list_endpointslices=[Said("slices_list", more=more, closes=True)], watch_endpointslices=watches
            ) as server,
            service(server, tmp_path, "http", clock=HandClock()) as following,
        ):
            await eventually(lambda: AFTER in "".join(server.asked[-1:]) and following.source.problem == "")
            assert [target for target in server.asked if "watch=true" not in target] == server.asked[:1]
            assert seen(following)[-1] == WATCHED[-1]
            assert server.connections > 1

    def test_no_place_to_cut_a_line_in_two_makes_a_difference(self) -> None:
        _, body = head_and_body("slices_watch")
        whole = [event.type for event in Lines(Cluster("")).feed(body)]
        assert len(whole) == body.count(b"\n")
        for place in range(len(body)):
            lines = Lines(Cluster(""))
            assert [event.type for part in (body[:place], body[place:]) for event in lines.feed(part)] == whole


class TestPool:
    @every_cut
    async def test_pods_come_and_go_wherever_what_is_said_is_cut(self, tmp_path: Path, cut: Cut) -> None:
        first, second = ({f"10.2.0.{number}:{port}" for port in (8000, 8001)} for number in (1, 2))
        async with (
            replaying(
                list_inferencepools=[Said("pool_list", cut)],
                watch_inferencepools=[Said("pool_watch", cut), QUIET],
                list_pods=[Said("pods_list", cut)],
                watch_pods=[Said("pods_watch", cut), QUIET],
            ) as server,
            pool(server, tmp_path, clock=HandClock()) as following,
        ):
            await eventually(lambda: seen(following)[-1:] == [(second, set())])
            await eventually(lambda: len(server.asked) == 6)
            assert all(ready <= first | second and leaving <= first for ready, leaving in seen(following))
            for kind, watch in (("/inferencepools?", "pool_watch"), ("/pods?", "pods_watch")):
                last = f"resourceVersion={last_version(watch)}&"
                assert sum(kind in target and last in target for target in server.asked) == 1
            assert (following.source.problem, following.source.errors) == ("", 0)
