"""Messages between the supervisor and a worker, however the bytes come."""

import asyncio
import socket

import pytest

from gateway.workers.channel import Channel, Message
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_messages_arrive_whole_and_in_order_and_the_end_is_told() -> None:
    ours, theirs = socket.socketpair()
    came: list[tuple[Message, bytes]] = []
    gone = asyncio.Event()
    receiver = await Channel.over(ours, lambda *message: came.append(message), gone.set)
    sender = await Channel.over(theirs, lambda *_: None, lambda: None)
    large = bytes(range(256)) * 20_000
    sender.send({"do": "routes", "number": 1}, large)
    sender.send({"do": "stop"})
    await sender.sent()
    await eventually(lambda: len(came) == 2)
    assert came == [({"do": "routes", "number": 1}, large), ({"do": "stop"}, b"")]
    assert receiver.is_quiet
    assert sender.is_quiet
    sender.close()
    await gone.wait()
    receiver.send({"is": "lost"})


async def test_half_a_message_is_not_quiet() -> None:
    ours, theirs = socket.socketpair()
    came: list[Message] = []
    receiver = await Channel.over(ours, lambda message, _: came.append(message), lambda: None)
    whole = b"\0\0\0\x0b\0\0\0\0" + b'{"do":"up"}'
    with theirs:
        for each in whole[:-1]:
            theirs.send(bytes([each]))
        await eventually(lambda: not receiver.is_quiet)
        assert not came
        theirs.send(whole[-1:])
        await eventually(lambda: came == [{"do": "up"}])
        assert receiver.is_quiet
    receiver.close()
