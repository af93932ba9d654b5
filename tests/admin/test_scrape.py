"""A scrape is made in slices: others pass in between, and it ends with the client that asked for it."""

import asyncio
import time
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from starlette.middleware.base import RequestResponseEndpoint
from starlette.types import Message

from gateway.admin.scrape import scrape
from gateway.telemetry.exposition import Exposition
from gateway.telemetry.families import Family, Piece
from gateway.wire.slices import Slices
from tests.waiting import DEADLINE, patient_client

pytestmark = pytest.mark.anyio


class Many:
    """A collector of so many pieces, None for as many as are asked for."""

    def __init__(self, pieces: int | None) -> None:
        self.pieces, self.made = pieces, 0

    def collect(self) -> Iterator[Piece]:
        while self.pieces is None or self.made < self.pieces:
            self.made += 1
            yield None
        family = Family("gauge", "tidegate_made", "Pieces.")
        family.add((), self.made)
        yield family


def request(*messages: Message) -> Request:
    waiting = list(messages)

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    return Request({"type": "http", "headers": []}, receive)


async def test_what_is_long_leaves_the_loop_to_others() -> None:
    collector = Many(20_000)
    exposition = Exposition([collector], Slices(time.monotonic))
    making = asyncio.create_task(scrape(request(), exposition, ""))
    turns = 0
    while not making.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 10
    assert making.result().status_code == 200
    assert int(making.result().headers["content-length"]) > 100


async def test_a_client_that_hangs_up_ends_it() -> None:
    collector = Many(None)
    gone: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]
    answer = await asyncio.wait_for(
        scrape(request(*gone), Exposition([collector], Slices(time.monotonic)), ""), DEADLINE
    )
    assert answer.status_code == 499
    made = collector.made
    for _ in range(10):
        await asyncio.sleep(0)
    assert collector.made == made


async def test_what_a_collector_raises_is_raised() -> None:
    class Broken(Many):
        def collect(self) -> Iterator[Piece]:
            yield None
            raise KeyError("gone")

    with pytest.raises(KeyError):
        await scrape(request(), Exposition([Broken(1)], Slices(time.monotonic)), "")


async def test_it_is_sent_whole_through_middleware() -> None:
    app = FastAPI()
    exposition = Exposition([Many(3)], Slices(time.monotonic))

    async def passed(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    app.middleware("http")(passed)

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        return await scrape(request, exposition, request.headers.get("accept", ""))

    async with patient_client(transport=httpx.ASGITransport(app), base_url="http://admin") as web:
        first, second = await asyncio.gather(web.get("/metrics"), web.get("/metrics"))
    assert first.headers["content-length"] == str(len(first.content))
    assert "tidegate_made 3.0" in first.text
    assert "process_cpu_seconds_total" in second.text
