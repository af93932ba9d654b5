"""Writes of one turn of the loop."""

import asyncio
from typing import cast

import pytest

from gateway.wire.outbox import Outbox

pytestmark = pytest.mark.anyio


class Transport:
    """A transport whose writes break, or are kept."""

    def __init__(self, *, breaks: bool = False) -> None:
        self._breaks = breaks
        self.written = b""
        self.aborted = False

    def write(self, data: bytes) -> None:
        if self._breaks:
            raise RuntimeError("no write")
        self.written += data

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


async def test_a_write_that_breaks_ends_its_connection_and_no_other() -> None:
    outbox, broken, well = Outbox(), Transport(breaks=True), Transport()
    for transport in (well, broken, broken, well):
        outbox.write(cast(asyncio.Transport, transport), b"x")
    await asyncio.sleep(0)
    assert (broken.aborted, well.aborted, well.written) == (True, False, b"xx")
