"""A request is understood, and answered here or sent on its way; whatever is wrong with it, its client is told."""

import pytest

from gateway.exchange import Outcome
from gateway.wire.edge import Edge
from tests.control.tables import models, versions
from tests.proxy.front import ANSWER, CHAT, Opened, whole

ROUTES = models("http://127.0.0.1:8001")


def test_a_request_goes_to_an_engine_and_its_answer_to_the_client(opened: Opened) -> None:
    front = opened(ROUTES)
    asked = front.asks(CHAT, ("x-request-id", "r1"), ("authorization", "Bearer s3cret"), ("x-mine", "1"))
    (side,) = front.connects()
    sent = side.read
    assert sent.startswith(b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:8001\r\n")
    assert b"\r\nx-request-id: r1\r\n" in sent
    assert b"\r\nx-mine: 1\r\n" in sent
    assert b"s3cret" not in sent
    assert b"\r\nx-gateway-hops: %b\r\n" % front.gateway.hops.name in sent
    front.says(ANSWER)
    assert (asked.status, asked.body["model"], asked.page.ended) == (200, "m", "finished")
    (exchange,) = front.notes.settled
    assert (exchange.outcome, exchange.request_id, exchange.model) == (Outcome.OK, "r1", "m")


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense", 400),
        (b"[]", 400),
        (b'{"messages":[]}', 400),
        (b'{"model":"other","messages":[]}', 404),
        (b'{"model":"m","n":"many"}', 400),
    ],
)
def test_one_that_cannot_be_understood_is_refused_and_no_engine_asked(opened: Opened, raw: bytes, status: int) -> None:
    front = opened(ROUTES)
    asked = front.asks(raw=raw)
    assert (asked.status, asked.responder) == (status, None)
    assert front.connects() == []
    (exchange,) = front.notes.settled
    assert exchange.outcome is Outcome.CLIENT_ERROR


def test_one_that_breaks_the_gateway_is_answered_all_the_same(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    front = opened(versions("http://127.0.0.1:8001", "http://127.0.0.1:8002", start="manual"))
    model = front.current.table.model("m")
    model.traffic = model.divided([("v1", 1.0), ("v2", 1.0)])
    monkeypatch.setattr(front.rng, "random", lambda: 1 / 0)
    asked = front.asks()
    assert asked.status == 500
    assert asked.body["error"]["message"] == "the gateway failed on this request; its log says why"
    assert "a request broke the gateway" in caplog.text


def test_the_models_are_listed_by_name_and_alias(opened: Opened) -> None:
    front = opened(models("http://127.0.0.1:8001", aliases=["gpt"]))
    asked = front.asks("/v1/models", method="GET")
    assert sorted(card["id"] for card in asked.body["data"]) == ["gpt", "m"]
    assert front.asks("/v1/models/gpt", method="GET").body["root"] == "m"
    assert front.asks("/v1/models/other", method="GET").status == 404
    assert front.notes.settled == [], "these count in no SLI"


def test_readiness_follows_the_engines_and_the_end_of_the_process(opened: Opened) -> None:
    front = opened(ROUTES)
    assert front.asks("/health", method="GET").body == {"status": "ok"}
    assert front.asks("/ready", method="GET").body == {"status": "ready"}
    front.gateway.draining = True
    ready = front.asks("/ready", method="GET")
    assert (ready.status, ready.body) == (503, {"status": "draining"})


def test_two_requests_of_one_id_reach_engines_under_two(opened: Opened) -> None:
    front = opened(ROUTES)
    for _ in range(2):
        front.asks(CHAT, ("x-request-id", "same"))
    sent = b"".join(side.read for side in front.connects())
    assert b"x-request-id: same\r\n" in sent
    assert b"x-request-id: same-2\r\n" in sent
    front.answers()
    assert [each.request_id for each in front.notes.settled] == ["same", "same"]
    assert len(front.gateway.ids) == 0


def test_a_request_that_comes_back_is_refused(opened: Opened) -> None:
    front = opened(ROUTES)
    with pytest.raises(Exception, match="has come back"):
        front.asks(CHAT, ("x-gateway-hops", front.gateway.hops.name.decode()))


def test_a_page_of_an_allowed_origin_may_read_the_answer(opened: Opened) -> None:
    front = opened(ROUTES, Edge(cors_origins=frozenset((b"https://app.example",))))
    asked = front.asks(CHAT, ("origin", "https://app.example"))
    front.answers()
    assert b"access-control-allow-origin: https://app.example\r\n" in asked.page.out


def test_the_client_reads_the_name_that_it_asked_for(opened: Opened) -> None:
    front = opened(models("http://127.0.0.1:8001", aliases=["gpt"], served_model="org/m"))
    asked = front.asks(model="gpt")
    (side,) = front.connects()
    assert b'"model": "org/m"' in side.read
    front.says(whole(200, {"model": "org/m", "choices": []}))
    assert asked.body["model"] == "gpt"
