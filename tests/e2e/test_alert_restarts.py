"""What fires when a gateway ends is known to the next one, and its people are told neither twice nor too little."""

import time
from datetime import datetime
from pathlib import Path

import pytest

from gateway.config.load import load_routes
from gateway.control.alerts import Alerter
from gateway.control.incidents import SENT, Notice
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import Sli
from gateway.policy.slo.series import Kind
from gateway.state.sqlite import SqliteStore
from gateway.state.store import Batch
from gateway.telemetry.slo_recorder import follow
from tests.control.test_webhook import receiving
from tests.e2e.fakes import backends, good
from tests.e2e.harness import gateway, routes
from tests.waiting import eventually, patient_client

pytestmark = pytest.mark.anyio


def outage(state: Path, text: str, *, ended: float, delivered: str = SENT) -> float:
    """Write the state of a gateway that saw fifteen minutes of failures until so long ago; return when it paged."""
    path = state.with_name("before.yaml")
    path.write_text(text)
    now = time.time() - ended - 900.0
    ledger = SloLedger(now)
    follow(ledger, load_routes(path), now)
    told: list[Notice] = []
    alerter = Alerter(ledger, lambda: now, told.append)
    store = SqliteStore(state)
    token = store.lead("before", now, 5.0)
    (availability,) = [each for each in ledger.get(Kind.MODEL, "m") if each.sli == Sli.AVAILABILITY]
    for _ in range(90):
        now += 10.0
        ledger.count(availability, bad=20)
        ledger.advance(now)
        alerter.evaluate()
        if delivered:
            for notice in told:
                alerter.delivered(notice, delivered)
        documents = tuple(alerter.documents())
        store.save(Batch(now, tuple(ledger.unsaved()), documents=documents, token=token, incarnation="before"))
    store.resign("before")
    store.close()
    (notice,) = told
    return notice.started


async def test_a_page_goes_on_with_its_start_and_is_not_sent_again(tmp_path: Path) -> None:
    async with backends(good) as (fake,), receiving(200) as receiver, patient_client() as web:
        text = routes(fake.url)
        started = outage(tmp_path / "state.sqlite", text, ended=3.0)
        state = f"sqlite:///{tmp_path / 'state.sqlite'}"
        async with gateway(tmp_path, text, state=state, alert_webhook=receiver.url) as running:
            running.app.control.alerter.evaluate()
            (alert,) = (await web.get(f"{running.admin}/admin/status")).json()["alerts"]
            assert datetime.fromisoformat(alert["since"]).timestamp() == pytest.approx(started, abs=0.001)
            assert (alert["severity"], alert["notified"]) == ("page", "sent")
        assert receiver.messages == []


async def test_a_page_that_no_receiver_took_is_sent(tmp_path: Path) -> None:
    async with backends(good) as (fake,), receiving(200) as receiver:
        text = routes(fake.url)
        outage(tmp_path / "state.sqlite", text, ended=3.0, delivered="")
        state = f"sqlite:///{tmp_path / 'state.sqlite'}"
        async with gateway(tmp_path, text, state=state, alert_webhook=receiver.url):
            await eventually(lambda: bool(receiver.messages))
        assert [each["status"] for each in receiver.messages] == ["firing"]


async def test_a_page_that_ended_meanwhile_is_resolved(tmp_path: Path) -> None:
    async with backends(good) as (fake,), receiving(200) as receiver:
        text = routes(fake.url)
        started = outage(tmp_path / "state.sqlite", text, ended=9 * 3600.0)
        state = f"sqlite:///{tmp_path / 'state.sqlite'}"
        async with gateway(tmp_path, text, state=state, alert_webhook=receiver.url):
            await eventually(lambda: bool(receiver.messages))
        (message,) = receiver.messages
        (alert,) = message["alerts"]
        assert alert["status"] == "resolved"
        assert datetime.fromisoformat(alert["startsAt"]).timestamp() == pytest.approx(started, abs=0.001)
        assert alert["endsAt"] > alert["startsAt"]
