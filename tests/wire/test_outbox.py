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


async def test_what_is_long_is_written_at_once_behind_what_waits() -> None:
    outbox, one, other = Outbox(), Transport(), Transport()
    outbox.write(cast(asyncio.Transport, one), b"a")
    assert one.written == b""
    outbox.write(cast(asyncio.Transport, one), b"b" * 4096)
    outbox.write(cast(asyncio.Transport, other), b"c")
    assert (one.written, other.written) == (b"a" + b"b" * 4096, b"")
    await asyncio.sleep(0)
    assert (one.written, other.written) == (b"a" + b"b" * 4096, b"c")
