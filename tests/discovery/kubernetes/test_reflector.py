"""A copy of a collection that follows an API server through whatever that one does."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from gateway.clock import monotonic
from gateway.discovery.kubernetes.cluster import Cluster
from gateway.discovery.kubernetes.reflector import Pace, Reflector
from gateway.discovery.kubernetes.resources import EndpointSlice, slices_of
from tests.background import in_background
from tests.discovery.kubernetes.api_server import ApiServer, api_server
from tests.discovery.kubernetes.objects import endpoint, endpoint_slice
from tests.waiting import eventually

pytestmark = pytest.mark.anyio

PACE = Pace(first=0.01, most=0.02, brief=0.0)
TOKEN = "s3cret"


@dataclass
class Copy:
    """A reflector that runs, and the names of what it had each time that it heard from the API server."""

    reflector: Reflector[EndpointSlice]
    heard: list[set[str]] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        return set(self.reflector.objects)

    async def has(self, *names: str) -> None:
        await eventually(lambda: self.names == set(names))


@asynccontextmanager
async def copied(server: ApiServer, folder: Path, pace: Pace = PACE) -> AsyncIterator[Copy]:
    token = folder / "token"
    token.write_text(TOKEN + "\n")
    cluster = Cluster(server.url, token, folder / "ca.pem" if server.tls else None, "serving")
    collection = slices_of("vllm", "serving")
    copy: Copy
    reflector: Reflector[EndpointSlice] = Reflector(
        cluster, collection, lambda: copy.heard.append(copy.names), monotonic, pace
    )
    copy = Copy(reflector)
    async with in_background(reflector.run()):
        yield copy


def part(name: str, *addresses: str, service: str = "vllm"):  # type: ignore[no-untyped-def]
    return endpoint_slice(name, [endpoint(f"pod-{address}", address) for address in addresses], service=service)


async def watched(server: ApiServer, count: int = 1) -> None:
    await eventually(lambda: server.watched >= count and len(server.watches) == 1)


class TestFollowing:
    async def test_it_has_what_is_listed_and_what_is_watched(self, tmp_path: Path) -> None:
        async with api_server() as server:
            server.put(part("a", "10.0.0.1"), part("other", "10.0.0.9", service="other"))
            async with copied(server, tmp_path) as copy:
                await copy.has("a")
                await watched(server)
                server.put(part("b", "10.0.0.2"))
                await copy.has("a", "b")
                server.put(part("b", "10.0.0.3"))
                await eventually(lambda: (copy.reflector.objects["b"].endpoints or [])[0].addresses == ["10.0.0.3"])
                server.delete("endpointslices", "a")
                await copy.has("b")
                assert (server.lists, server.watched) == (1, 1)
                assert copy.reflector.problem == ""

    async def test_one_whose_label_is_gone_has_gone(self, tmp_path: Path) -> None:
        async with api_server() as server, copied(server, tmp_path) as copy:
            await watched(server)
            server.put(part("a", "10.0.0.1"))
            await copy.has("a")
            server.put(part("a", "10.0.0.1", service="other"))
            await copy.has()

    async def test_long_lists_come_in_pages(self, tmp_path: Path) -> None:
        async with api_server(page=2) as server:
            names = [f"slice-{number}" for number in range(5)]
            server.put(*(part(name, "10.0.0.1") for name in names))
            async with copied(server, tmp_path) as copy:
                await copy.has(*names)
                assert server.lists == 3
                assert copy.heard[0] == set(names), "a part of the list is no set"

    async def test_a_list_whose_next_page_has_expired_begins_anew(self, tmp_path: Path) -> None:
        async with api_server(page=1) as server:
            server.put(part("a", "10.0.0.1"), part("b", "10.0.0.2"))
            first = server.requests

            class Forgetful(list[str]):
                def append(self, target: str) -> None:
                    super().append(target)
                    if len(self) == 2:
                        server.forget()

            server.requests = Forgetful(first)
            async with copied(server, tmp_path) as copy:
                await copy.has("a", "b")
                assert {"a"} not in copy.heard

    async def test_watches_go_on_where_the_last_one_ended(self, tmp_path: Path) -> None:
        async with api_server() as server:
            server.put(part("a", "10.0.0.1"))
            async with copied(server, tmp_path, replace(PACE, watch=1)) as copy:
                await watched(server)
                server.put(part("b", "10.0.0.1"))
                await copy.has("a", "b")
                await eventually(lambda: server.watched >= 2)
                assert server.lists == 1
                assert f"resourceVersion={server.version}&" in server.requests[-1]
                assert copy.reflector.errors == 0

    async def test_a_bookmark_moves_the_version_on(self, tmp_path: Path) -> None:
        async with api_server() as server, copied(server, tmp_path) as copy:
            await watched(server)
            server.put(part("z", "10.0.0.1", service="other"))
            heard = len(copy.heard)
            server.bookmark()
            await eventually(lambda: len(copy.heard) > heard)
            server.cut()
            await watched(server, 2)
            assert f"resourceVersion={server.version}&" in server.requests[-1]
            assert "allowWatchBookmarks=true" in server.requests[-1]

    async def test_an_unknown_kind_of_event_is_no_matter(self, tmp_path: Path) -> None:
        async with api_server() as server, copied(server, tmp_path) as copy:
            await watched(server)
            server.watches[0].send("PONDERED", part("a", "10.0.0.1"))
            server.put(part("b", "10.0.0.1"))
            await copy.has("b")


class TestExpired:
    @pytest.mark.parametrize("as_event", [True, False])
    async def test_a_version_that_is_too_old_leads_to_a_list(self, tmp_path: Path, as_event: bool) -> None:
        async with api_server(gone_as_event=as_event) as server:
            server.put(part("a", "10.0.0.1"), part("b", "10.0.0.2"))
            async with copied(server, tmp_path) as copy:
                await watched(server)
                server.cut()
                server.delete("endpointslices", "a")
                server.put(part("c", "10.0.0.3"))
                server.forget()
                await copy.has("b", "c")
                assert {"b"} not in copy.heard
                assert "too old" not in copy.reflector.problem

    async def test_so_does_one_that_expires_during_a_watch(self, tmp_path: Path) -> None:
        async with api_server() as server, copied(server, tmp_path) as copy:
            await watched(server)
            server.quiet = True
            server.put(part("a", "10.0.0.1"))
            server.expire()
            await copy.has("a")
            assert copy.reflector.problem == ""


class TestFaults:
    """Whatever the API server does: what is known stays, what is wrong is told, and all is well afterwards."""

    @asynccontextmanager
    async def known(self, folder: Path, pace: Pace = PACE) -> AsyncIterator[tuple[ApiServer, Copy]]:
        """Yield a server and a copy of its one slice, which is to stay; and then whether the copy follows again."""
        async with api_server(retry_after="0") as server:
            server.put(part("a", "10.0.0.1"))
            async with copied(server, folder, pace) as copy:
                await copy.has("a")
                await watched(server)
                yield server, copy
                assert copy.names == {"a"}
                assert {frozenset(each) for each in copy.heard} == {frozenset({"a"})}
                server.status, server.hangs, server.quiet, server.token = None, False, False, TOKEN
                server.put(part("b", "10.0.0.2"))
                await copy.has("a", "b")
                await eventually(lambda: copy.reflector.problem == "")

    async def problem(self, copy: Copy, words: str) -> None:
        await eventually(lambda: words in copy.reflector.problem)
        assert copy.reflector.errors >= 1
        assert TOKEN not in copy.reflector.problem

    async def test_it_goes_away(self, tmp_path: Path) -> None:
        async with self.known(tmp_path) as (server, copy):
            await server.stop()
            await self.problem(copy, "cannot be reached")
            await server.start()

    @pytest.mark.parametrize(
        ("status", "words"),
        [
            (401, "refuses the token in"),
            (403, 'apiGroups ["discovery.k8s.io"], resources ["endpointslices"], verbs [get, list, watch]'),
            (404, "Kubernetes 1.21 or newer is needed"),
            (429, "answered 429"),
            (500, "answered 500 when asked to list endpointslices in namespace serving: it is told to answer 500"),
            (302, "answered 302"),
        ],
    )
    async def test_it_refuses(self, tmp_path: Path, status: int, words: str) -> None:
        async with self.known(tmp_path) as (server, copy):
            server.status = status
            server.cut()
            await self.problem(copy, words)

    async def test_it_hangs(self, tmp_path: Path) -> None:
        async with self.known(tmp_path, replace(PACE, answer=0.05)) as (server, copy):
            server.hangs = True
            server.cut()
            await self.problem(copy, "did not answer in time")

    async def test_a_watch_falls_silent(self, tmp_path: Path) -> None:
        async with self.known(tmp_path, replace(PACE, watch=1, slack=0.05)) as (server, copy):
            server.quiet = True
            await self.problem(copy, "was silent for 1 s")

    @pytest.mark.parametrize("half_a_line", [True, False])
    async def test_a_watch_breaks(self, tmp_path: Path, half_a_line: bool) -> None:
        async with self.known(tmp_path) as (server, copy):
            server.cut(half_a_line=half_a_line)
            await watched(server, 2)
            assert server.lists == 1
            await eventually(lambda: copy.reflector.errors == 1)

    async def test_a_watch_ends_at_once_again_and_again(self, tmp_path: Path) -> None:
        async with self.known(tmp_path, replace(PACE, brief=0.5)) as (server, copy):
            while "ended a watch at once" not in copy.reflector.problem:
                for watch in server.watches:
                    watch.end()
                await asyncio.sleep(0.01)

    @pytest.mark.parametrize(
        "line", [b"<html>\n", b'{"type":"ADDED","object":{"metadata":3}}\n', b'{"type":"ADDED"}\n', b"\xff\xfe\n"]
    )
    async def test_a_line_cannot_be_read(self, tmp_path: Path, line: bytes) -> None:
        async with self.known(tmp_path) as (server, copy):
            server.watches[0].raw(line)
            await eventually(lambda: server.lists == 2)
            assert copy.reflector.errors == 1

    async def test_it_tells_of_an_error_in_the_watch(self, tmp_path: Path) -> None:
        async with self.known(tmp_path) as (server, copy):
            status = {"kind": "Status", "status": "Failure", "code": 500, "message": "etcdserver: leader changed"}
            server.watches[0].send("ERROR", status)
            await eventually(lambda: server.lists == 2)
            assert copy.reflector.errors == 1

    async def test_the_token_has_expired_and_is_renewed(self, tmp_path: Path) -> None:
        async with self.known(tmp_path) as (server, copy):
            server.token = "renewed"
            server.cut()
            await self.problem(copy, "(401)")
            (tmp_path / "token").write_text("renewed")
            await eventually(lambda: copy.reflector.problem == "")
            (tmp_path / "token").write_text(TOKEN)

    async def test_the_token_is_not_there(self, tmp_path: Path) -> None:
        async with self.known(tmp_path) as (server, copy):
            (tmp_path / "token").unlink()
            server.cut()
            await self.problem(copy, "automountServiceAccountToken")
            (tmp_path / "token").write_text(TOKEN)

    async def test_what_it_says_is_told_in_one_line(self, tmp_path: Path) -> None:
        async with self.known(tmp_path) as (server, copy):
            status = {"kind": "Status", "code": 500, "message": "a\nb\x1b[31m" + "c" * 1000}
            server.watches[0].raw(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
            await eventually(lambda: server.lists == 2)
            assert "\n" not in copy.reflector.problem


class TestListingAgain:
    async def test_it_is_done_when_it_is_due(self, tmp_path: Path) -> None:
        async with api_server() as server, copied(server, tmp_path) as copy:
            await watched(server)
            before = copy.reflector.listed
            copy.reflector.list_again(0.05)
            copy.reflector.list_again(100.0)
            await eventually(lambda: server.lists == 2)
            await watched(server, 2)
            assert copy.reflector.listed != before
            assert copy.reflector.errors == 0

    async def test_it_is_not_forgotten_where_the_watch_ends_first(self, tmp_path: Path) -> None:
        async with api_server() as server, copied(server, tmp_path) as copy:
            await watched(server)
            copy.reflector.list_again(0.3)
            server.cut()
            await eventually(lambda: server.lists == 2)
