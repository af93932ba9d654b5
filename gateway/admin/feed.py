"""The stream that the dashboard reads: one snapshot a second, made once for all viewers, and none without any.

A viewer gets a whole snapshot first, and then what has changed since the one before.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
from fastapi import APIRouter
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gateway.admin.changes import Change, changes
from gateway.admin.protection import error

_log = logging.getLogger(__name__)
INTERVAL = 1.0
MOST_VIEWERS = 50
"""Of the 64 connections of the admin listener, some stay free for scrapes, probes and commands."""
LASTS = 25.0
"""Seconds after which a stream ends, and the page asks for the next: the admin listener breaks off what takes 30 s."""
_HEADERS = {"cache-control": "no-store", "content-type": "text/event-stream", "x-accel-buffering": "no"}
Make = Callable[[], Awaitable[dict[str, Any] | None]]


class _Event(NamedTuple):
    """What viewers are sent: all of the snapshot of this number, or what has changed since the one before."""

    number: int
    whole: bytes
    changes: bytes


_NOTHING = _Event(0, b": there is nothing to tell at the moment\n\n", b"")
_END = _Event(0, b"", b"")


class Feed:
    """Makes snapshots while there are viewers. Each waits for the next one, so that a slow one misses some."""

    def __init__(self, make: Make) -> None:
        """Take what makes a snapshot, None where there is nothing to tell at the moment."""
        self.make = make
        self._viewers: set[object] = set()
        self._making: asyncio.Task[None] | None = None
        self._upcoming: asyncio.Future[_Event] | None = None
        self._told: dict[str, Any] = {}
        self._closed = False
        self._failing = False
        self.made = 0

    def __repr__(self) -> str:
        return f"<Feed for {len(self._viewers)} viewers, {self.made} snapshots made>"

    @property
    def viewers(self) -> int:
        """How many look."""
        return len(self._viewers)

    def response(self) -> Response:
        """Return a stream for one viewer, or why there is none."""
        if self._closed:
            return error(503, "draining", "the gateway is stopping")
        if len(self._viewers) >= MOST_VIEWERS:
            refusal = error(503, "overloaded", f"{MOST_VIEWERS} dashboards are open already")
            refusal.headers["retry-after"] = "30"
            return refusal
        return _Stream(self)

    def open(self) -> None:
        """Take viewers, as from the beginning until it is closed."""
        self._closed = False

    def close(self) -> None:
        """End all streams, and refuse others."""
        self._closed = True
        if self._making is not None:
            self._making.cancel()
        if self._upcoming is not None and not self._upcoming.done():
            self._upcoming.set_result(_END)

    def enter(self, viewer: object) -> None:
        """Make snapshots for one more viewer."""
        self._viewers.add(viewer)
        if self._making is None and not self._closed:
            self._upcoming = asyncio.get_running_loop().create_future()
            self._making = asyncio.create_task(self._make_all())

    def leave(self, viewer: object) -> None:
        """Do without a viewer; without any, nothing is made."""
        self._viewers.discard(viewer)
        if not self._viewers and self._making is not None:
            self._making.cancel()
            self._making = None
            self._told = {}

    def upcoming(self) -> "asyncio.Future[_Event] | None":
        """Return the next event, an empty one for the end; None when there will be none."""
        return None if self._closed else self._upcoming

    async def _make_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + INTERVAL
            event = await self._event()
            this, self._upcoming = self._upcoming, loop.create_future()
            if this is not None:
                this.set_result(event)
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def _event(self) -> _Event:
        try:
            told = await self.make()
        except Exception as cause:  # noqa: BLE001 - logged, and the next one may be made
            if not self._failing:
                _log.error("the dashboard's snapshot could not be made", exc_info=cause)
            self._failing = True
            return _NOTHING
        self._failing = False
        if told is None:
            return _NOTHING
        found = await self._changed(told)
        self.made, self._told = self.made + 1, told
        whole = b"data: %b\n\n" % msgspec.json.encode(told)
        changed = b"event: changes\ndata: %b\n\n" % msgspec.json.encode(found)
        return _Event(self.made, whole, min(changed, whole, key=len))

    async def _changed(self, told: dict[str, Any]) -> list[Change]:
        """Return what is new; the loop has other turns meanwhile."""
        found: list[Change] = []
        for key, value in told.items():
            found += changes(self._told.get(key), value, key)
            await asyncio.sleep(0)
        return found


def feed_routes(feed: Feed) -> APIRouter:
    """Return the paths of what the dashboard shows."""
    router, turn = APIRouter(prefix="/admin"), asyncio.Lock()

    @router.get("/stream", response_class=Response)
    async def stream() -> Response:
        """Return what `/admin/snapshot` tells once a second, as server-sent events; ask again when it ends.

        The first is whole. Those called `changes` are lists of a path and the value that is there now.
        """
        return feed.response()

    @router.get("/snapshot", response_class=Response)
    async def snapshot() -> Response:
        """Return what the dashboard shows: parts of `/admin/status`, the worst first, with the latest events."""
        async with turn:
            return Response(msgspec.json.encode(await feed.make()), media_type="application/json")

    return router


class _Stream(Response):
    """Server-sent events for one viewer, until it goes, the feed is closed, or `LASTS` is over."""

    def __init__(self, feed: Feed) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's own
        """Send them."""
        gone = asyncio.create_task(_gone(receive))
        self._feed.enter(self)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._send_events(gone, send)
            await send(_body(b"", more=False))
        finally:
            self._feed.leave(self)
            gone.cancel()

    async def _send_events(self, gone: "asyncio.Task[None]", send: Send) -> None:
        loop = asyncio.get_running_loop()
        until, seen = loop.time() + LASTS, 0
        while (upcoming := self._feed.upcoming()) is not None:
            await asyncio.wait((gone, upcoming), timeout=until - loop.time(), return_when=asyncio.FIRST_COMPLETED)
            if gone.done() or not upcoming.done() or upcoming.result() is _END:
                return
            event = upcoming.result()
            await send(_body(event.changes if 0 < seen == event.number - 1 else event.whole, more=True))
            seen = event.number or seen


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _body(data: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}
