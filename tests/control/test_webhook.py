"""A webhook is told of alerts as Alertmanager tells it, in order, whatever becomes of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.control.incidents import Notice
from gateway.control.webhook import WAITING, Webhook, payload
from loadtest.bench.listening import listening
from tests.control.test_alerts import Town
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


def notices() -> list[Notice]:
    told: list[Notice] = []
    town = Town(told.append)
    town.live(60, 1.0)
    town.live(2 * 3600)
    return told


@dataclass
class Receiver:
    """What posts messages to it, and what it answers: statuses in turn, the last one for good; 0 hangs, -1 drips."""

    statuses: list[int]
    url: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)


@asynccontextmanager
async def receiving(*statuses: int) -> AsyncIterator[Receiver]:
    receiver = Receiver(list(statuses))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            message = json.loads(await reader.readexactly(length))
            status = receiver.statuses.pop(0) if len(receiver.statuses) > 1 else receiver.statuses[0]
            if not status:
                await asyncio.Event().wait()
            while status < 0:
                if writer.is_closing():  # the sender has lost patience
                    return
                writer.write(b"HTTP/1.1 200 OK\r\nx-y: " if status == -1 else b"z")
                status -= 1
                await writer.drain()
                await asyncio.sleep(0.02)
            receiver.messages.append({"answered": status, **message})
            if not writer.is_closing():
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % status)

    async with listening(serve) as url:
        receiver.url = f"{url}/hook?token=s3cret"
        yield receiver


@asynccontextmanager
async def sending(webhook: Webhook) -> AsyncIterator[None]:
    task = asyncio.create_task(webhook.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_receiver_gets_what_alertmanager_would_send(caplog: pytest.LogCaptureFixture) -> None:
    firing, resolved = notices()
    async with receiving(503, 429, 200) as receiver:
        webhook = Webhook(receiver.url)
        async with sending(webhook):
            webhook.notify(firing)
            webhook.notify(resolved)
            await eventually(lambda: webhook.results["sent"] == 2)
    taken = [message for message in receiver.messages if message["answered"] == 200]
    assert [message["status"] for message in taken] == ["firing", "resolved"]
    (alert,) = taken[0]["alerts"]
    assert taken[0]["version"] == "4"
    assert alert["labels"] == {
        "alertname": "TidegateErrorBudgetBurn",
        "severity": "page",
        "model": "m",
        "objective": "default",
        "sli": "availability",
    }
    assert alert["startsAt"].startswith("2023-11-14T22:14:")
    assert alert["endsAt"] == "0001-01-01T00:00:00Z"
    assert taken[1]["alerts"][0]["endsAt"] > alert["startsAt"] == taken[1]["alerts"][0]["startsAt"]
    assert taken[1]["alerts"][0]["fingerprint"] == alert["fingerprint"]
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/hook?token=s3cret",
        "ftp://example.com/s3cret",
        "http://",
        "https://:80/s3cret",
        "https://example.com:99999/s3cret",
        "https://example.com/s3cret with spaces",
    ],
)
def test_what_is_no_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValueError, match=r"the webhook's URL \(--alert-webhook\) (is|has|does) .*: .") as caught:
        Webhook(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("status", [-1, 0, 404, 500])
async def test_a_receiver_that_does_not_take_it_is_given_up_on_and_never_named(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving(status) as receiver:
        webhook = Webhook(receiver.url, patience=0.3, timeout=0.1)
        async with sending(webhook):
            webhook.notify(notices()[0])
            await eventually(lambda: webhook.results["failed"] == 1)
    assert "s3cret" not in caplog.text
    assert "could not be sent" in caplog.text


async def test_the_oldest_go_when_too_many_wait() -> None:
    webhook = Webhook("http://127.0.0.1:9/")
    firing = notices()[0]
    for _ in range(WAITING + 5):
        webhook.notify(firing)
    assert webhook.results["dropped"] == 5
    assert payload(firing)["receiver"] == "tidegate"
