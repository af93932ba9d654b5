"""Alerts as people are told of them: in the log with numbers, and by a webhook, in order, whatever becomes of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.config.table import BackendSpec, ModelSpec, PoolSpec, RouteTable, VersionSpec
from gateway.control.alerting import Alerter, Notice
from gateway.control.webhook import WAITING, Webhook, payload
from gateway.exchange import Exchange, Outcome
from gateway.policy.slo.alerts import AlertState
from gateway.telemetry.slo import Kind, SloBook
from tests.e2e.harness import eventually

pytestmark = pytest.mark.anyio


def table(*models: str) -> RouteTable:
    specs = {name: ModelSpec(name, {"v1": VersionSpec("v1", ("p",), name)}, (("v1", 1.0),)) for name in models}
    pool = PoolSpec("p", (BackendSpec("p", "http://e:1", "e", 1),))
    return RouteTable(pools={"p": pool}, models=specs, names=specs)


class Town:
    """A book and its alerts on a clock that is set by hand."""

    def __init__(self, notify: Callable[[Notice], None]) -> None:
        self.now = 1_700_000_000.0
        self.book = SloBook(lambda: self.now)
        self.book.follow(table("m"))
        self.alerter = Alerter(self.book, lambda: self.now, notify)

    def live(self, seconds: int, outcome: Outcome) -> None:
        """Settle twenty requests a second, all of one outcome."""
        for _ in range(seconds):
            self.now += 1.0
            for _ in range(20):
                exchange = Exchange("r", "/v1/chat/completions", self.now)
                exchange.model, exchange.version, exchange.outcome = "m", "v1", outcome
                exchange.ended = self.now
                self.book.settled(exchange)
            self.book.advance()
            self.alerter.evaluate()


def test_an_outage_is_told_once_with_its_numbers_and_resolves(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Notice] = []
    town = Town(told.append)
    town.live(60, Outcome.OK)
    town.live(60, Outcome.BACKEND_ERROR)
    fired = [(notice.tracked.kind, notice.pair.severity, notice.alert.state) for notice in told]
    assert fired.count((Kind.MODEL, "page", AlertState.FIRING)) == 1
    assert {(notice.model, notice.version) for notice in told} == {("m", ""), ("m", "v1")}
    record = next(each for each in caplog.records if each.getMessage() == "alert firing")
    assert vars(record)["sli"] == "availability"
    assert vars(record)["burn_long"] > vars(record)["factor"] > 13
    assert vars(record)["bad"] > 1
    town.live(700, Outcome.OK)
    fast = [notice.alert.state for notice in told if notice.pair.short == 300.0 and notice.version]
    assert fast == [AlertState.FIRING, AlertState.RESOLVED]
    (availability, *_) = town.book.get(Kind.MODEL, "m")
    assert {alert.state for _, alert in town.alerter.of(availability)} <= set(AlertState)


def test_what_the_routes_no_longer_name_resolves() -> None:
    told: list[Notice] = []
    town = Town(told.append)
    town.live(60, Outcome.BACKEND_ERROR)
    firing = sum(notice.alert.state is AlertState.FIRING for notice in told)
    town.book.follow(table("other"))
    town.alerter.evaluate()
    assert sum(notice.alert.state is AlertState.RESOLVED for notice in told) == firing
    assert {tracked.model for tracked, _, _ in town.alerter} == {"other"}


def notices() -> list[Notice]:
    told: list[Notice] = []
    town = Town(told.append)
    town.live(60, Outcome.BACKEND_ERROR)
    town.live(700, Outcome.OK)
    return [notice for notice in told if notice.pair.short == 300.0 and not notice.version]


@dataclass
class Receiver:
    """What posts messages to it, and what it answers: statuses in turn, the last one for good; 0 hangs, -1 drips."""

    statuses: list[int]
    url: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)


@asynccontextmanager
async def receiving(*statuses: int) -> AsyncIterator[Receiver]:
    receiver = Receiver(list(statuses))
    open_: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
                )
                message = json.loads(await reader.readexactly(length))
                status = receiver.statuses.pop(0) if len(receiver.statuses) > 1 else receiver.statuses[0]
                if not status:
                    await asyncio.Event().wait()
                while status < 0:
                    writer.write(b"HTTP/1.1 200 OK\r\nx-y: " if status == -1 else b"z")
                    status -= 1
                    await writer.drain()
                    await asyncio.sleep(0.02)
                receiver.messages.append({"answered": status, **message})
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % status)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?token=s3cret"
    try:
        yield receiver
    finally:
        server.close()
        for writer in open_:
            writer.close()


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
            await eventually(lambda: webhook.results["sent"] == 2, 30)
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
        "long_window": "1h",
        "short_window": "5m",
    }
    assert alert["startsAt"].startswith("2023-11-14T22:14:")
    assert alert["endsAt"] == "0001-01-01T00:00:00Z"
    assert taken[1]["alerts"][0]["endsAt"] > alert["startsAt"] == taken[1]["alerts"][0]["startsAt"]
    assert taken[1]["alerts"][0]["fingerprint"] == alert["fingerprint"]
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("url", ["", "example.com/hook?token=s3cret", "ftp://example.com/s3cret", "http://"])
def test_what_is_no_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValueError, match="must begin with http") as caught:
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
