"""Connecting to one of several addresses."""

import asyncio

import pytest

from gateway.wire import dial
from gateway.wire.dial import first_of
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


class Network:
    """Addresses that answer, refuse, or are silent."""

    def __init__(self, **ways: str) -> None:
        self.ways = ways
        self.dialled: list[str] = []
        self.given_up: list[str] = []
        self.discarded: list[str] = []

    async def dial(self, address: str) -> str:
        self.dialled.append(address)
        way = self.ways[address]
        if way == "refuses":
            raise ConnectionRefusedError(address)
        if way == "is silent":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.given_up.append(address)
                raise
        return address

    async def first(self) -> str:
        return await first_of(tuple(self.ways), self.dial, self.discarded.append)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "NEXT_AFTER", 0.01)


async def test_the_first_address_that_answers_is_taken() -> None:
    assert await Network(a="answers").first() == "a"
    network = Network(a="answers", b="answers")
    assert await network.first() == "a"
    assert network.dialled == ["a"]


async def test_one_that_refuses_is_passed_over_at_once() -> None:
    assert await Network(a="refuses", b="answers").first() == "b"


async def test_one_that_is_silent_is_passed_over_after_a_moment_and_given_up() -> None:
    network = Network(a="is silent", b="refuses", c="answers")
    assert await network.first() == "c"
    await asyncio.sleep(0)
    assert network.given_up == ["a"]


async def test_the_last_failure_is_told_when_all_fail() -> None:
    with pytest.raises(ConnectionRefusedError, match="b"):
        await Network(a="refuses", b="refuses").first()


async def test_giving_up_leaves_nothing_behind() -> None:
    network = Network(a="is silent", b="is silent")
    asking = asyncio.create_task(network.first())
    await eventually(lambda: network.dialled == ["a", "b"])
    asking.cancel()
    await asyncio.wait([asking])
    assert sorted(network.given_up) == ["a", "b"]
