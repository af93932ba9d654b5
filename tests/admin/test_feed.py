"""The dashboard's stream: made once for all viewers, never for none, and never kept for a slow one."""

import asyncio
import logging
from typing import Any

import pytest
from starlette.responses import JSONResponse
from starlette.types import Message

from gateway.admin import feed as feeds
from gateway.admin.connection import AdminLimits
from gateway.admin.feed import LASTS, MOST_VIEWERS, Feed
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


class Viewer:
    """Reads a stream as fast as it `reads`, until it is `gone`."""

    def __init__(self, feed: Feed) -> None:
        self.got: list[bytes] = []
        self.status = 0
        self.reads, self.gone = asyncio.Event(), asyncio.Event()
        self.reads.set()
        self.task = asyncio.create_task(feed.response()({"type": "http"}, self._receive, self._send))

    async def _receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["body"]:
            self.got.append(message["body"])

    async def leave(self) -> None:
        self.gone.set()
        await self.task


class Counting:
    """Makes snapshots, each with its number."""

    def __init__(self) -> None:
        self.made = 0

    async def __call__(self) -> dict[str, Any] | None:
        self.made += 1
        return {"number": self.made}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "INTERVAL", 0.01)


async def test_fifty_viewers_cost_one_snapshot_each_time_and_get_the_same() -> None:
    make = Counting()
    viewers = [Viewer(feed := Feed(make))] + [Viewer(feed) for _ in range(MOST_VIEWERS - 1)]
    await eventually(lambda: all(len(each.got) >= 3 for each in viewers))
    feed.close()
    await asyncio.gather(*(each.task for each in viewers))
    assert max(len(each.got) for each in viewers) <= make.made
    assert viewers[0].got[0] == b'data: {"number":1}\n\n'
    assert all(set(each.got) <= set(viewers[0].got) for each in viewers)


async def test_after_a_whole_snapshot_a_viewer_gets_what_has_changed_and_all_again_where_it_missed_one() -> None:
    made = 0

    async def make() -> dict[str, Any]:
        nonlocal made
        made += 1
        return {"same": list(range(100)), "backends": [{"id": "a", "weight": 1}, {"id": "b", "weight": made}]}

    first, slow = Viewer(feed := Feed(make)), Viewer(feed)
    await eventually(lambda: len(first.got) >= 3 and len(slow.got) >= 2)
    slow.reads.clear()
    had = len(first.got)
    await eventually(lambda: len(first.got) > had + 5)
    slow.reads.set()
    count = len(slow.got)
    await eventually(lambda: len(slow.got) > count + 2)
    feed.close()
    await asyncio.gather(first.task, slow.task)
    assert first.got[0].startswith(b'data: {"same":[0,')
    assert b'event: changes\ndata: [[["backends",1,"weight"],3]]\n\n' in first.got
    assert [each[:6] for each in slow.got[count:]].count(b"data: ") >= 1


async def test_nothing_is_made_while_nobody_looks_and_no_task_stays() -> None:
    before = len(asyncio.all_tasks())
    make = Counting()
    feed = Feed(make)
    viewer = Viewer(feed)
    await eventually(lambda: bool(viewer.got))
    await viewer.leave()
    made = make.made
    await eventually(lambda: len(asyncio.all_tasks()) == before)
    assert (feed.viewers, make.made) == (0, made)
    again = Viewer(feed)
    await eventually(lambda: bool(again.got))
    await again.leave()
    assert make.made > made


async def test_a_slow_viewer_misses_snapshots_and_keeps_none_waiting() -> None:
    feed = Feed(Counting())
    slow, fast = Viewer(feed), Viewer(feed)
    await eventually(lambda: len(slow.got) > 0)
    slow.reads.clear()
    had = len(slow.got)
    await eventually(lambda: len(fast.got) > had + 10)
    slow.reads.set()
    await eventually(lambda: len(slow.got) > had + 1)
    assert len(slow.got) < len(fast.got), "it goes on with the latest"
    feed.close()
    await asyncio.gather(slow.task, fast.task)


async def test_a_stream_ends_before_the_listener_breaks_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert AdminLimits().request_seconds - 2 * 2 > LASTS
    monkeypatch.setattr(feeds, "LASTS", 0.05)
    viewer = Viewer(feed := Feed(Counting()))
    await viewer.task
    assert viewer.got
    assert feed.viewers == 0


async def test_one_more_than_fifty_is_refused_as_is_everyone_at_the_end() -> None:
    feed = Feed(Counting())
    viewers = [Viewer(feed) for _ in range(MOST_VIEWERS)]
    await eventually(lambda: feed.viewers == MOST_VIEWERS)
    refused = feed.response()
    assert isinstance(refused, JSONResponse)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
    feed.close()
    await asyncio.gather(*(each.task for each in viewers))
    assert feed.response().status_code == 503
    feed.open()
    assert feed.response().status_code == 200


async def test_a_snapshot_that_fails_is_logged_once_and_the_next_one_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    answers: list[Any] = [ValueError("broken"), ValueError("broken"), None, {"number": 4}]

    async def make() -> dict[str, Any] | None:
        told = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(told, ValueError):
            raise told
        return told  # type: ignore[no-any-return]

    with caplog.at_level(logging.ERROR):
        viewer = Viewer(Feed(make))
        await eventually(lambda: len(viewer.got) >= 4)
        await viewer.leave()
    assert {each[:1] for each in viewer.got} == {b":", b"d"}
    assert viewer.got[-1] == b'data: {"number":4}\n\n'
    assert [each.message for each in caplog.records] == ["the dashboard's snapshot could not be made"]
