"""A long body goes out one block in each turn of the loop, as fast as the engine takes it."""

import asyncio

import pytest

from gateway.wire.body_writer import BodyWriter
from gateway.wire.rope import Rope
from tests.wire.playbook import Wire

pytestmark = pytest.mark.anyio


class Refusing(Wire):
    """A transport that breaks on what is written to it."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        raise RuntimeError(f"no {len(data)} bytes")


def body(*blocks: bytes) -> Rope:
    return Rope(blocks)


async def test_a_block_goes_out_in_each_turn_of_the_loop() -> None:
    writer, wire = BodyWriter(), Wire()
    for _ in range(2):
        writer.start(wire, body(b"one", b"two"), pytest.fail)
        assert (wire.took(), writer.sending) == (b"one", True)
        await asyncio.sleep(0)
        assert wire.took() == b"two"
        await asyncio.sleep(0)
        assert (wire.took(), writer.sending) == (b"", False)


async def test_it_waits_while_the_engine_takes_nothing() -> None:
    writer, wire = BodyWriter(), Wire()
    writer.pause()
    writer.start(wire, body(b"one", b"two"), pytest.fail)
    assert (wire.took(), repr(writer)) == (b"", "<BodyWriter waiting>")
    writer.resume()
    assert (wire.took(), repr(writer)) == (b"one", "<BodyWriter sending>")


async def test_nothing_is_sent_after_the_end() -> None:
    writer, wire = BodyWriter(), Wire()
    writer.start(wire, body(b"one", b"two"), pytest.fail)
    writer.stop()
    await asyncio.sleep(0)
    assert (wire.took(), writer.sending, repr(writer)) == (b"one", False, "<BodyWriter idle>")
    writer.start(wire, body(b"one", b"two"), pytest.fail)
    wire.close()
    await asyncio.sleep(0)
    assert wire.took() == b"one"


async def test_what_cannot_be_sent_is_told() -> None:
    writer, told = BodyWriter(), list[str]()
    writer.start(Refusing(), body(b"one"), lambda: told.append("failed"))
    assert told == ["failed"]
