"""What is remembered of responses that engines keep."""

import json

import pytest

from gateway.errors import InvalidRequest, NotFound
from gateway.exchange import Exchange
from gateway.proxy.stored import LIFETIME, MOST, Made, Noting, StoredResponses
from tests.sim.captured import captured


def made(tenant: str = "acme", at: float = 0.0, backend: str = "b") -> Made:
    return Made(backend, "m", "v1", tenant, None, at)


def test_a_response_is_known_to_whoever_made_it() -> None:
    stored = StoredResponses()
    stored.note("resp_1", made())
    assert stored.find("resp_1", "acme", 1.0) == made()
    with pytest.raises(NotFound):
        stored.find("resp_1", "other", 1.0)
    assert stored.find("resp_2", "acme", 1.0) is None


def test_the_latest_are_known_for_a_day() -> None:
    stored = StoredResponses()
    for number in range(MOST + 1):
        stored.note(f"resp_{number}", made())
    assert stored.find("resp_0", "acme", 1.0) is None
    assert stored.find(f"resp_{MOST}", "acme", LIFETIME)
    assert stored.find(f"resp_{MOST}", "acme", LIFETIME + 1) is None


def test_a_name_stays_with_whoever_had_it_first() -> None:
    stored = StoredResponses()
    stored.note("mine", made(backend="first"))
    stored.note("mine", made("other", 1.0, "second"))
    assert stored.find("mine", "acme", 2.0) == made(backend="first")
    stored.note("mine", made(at=2.0, backend="third"))
    assert stored.find("mine", "acme", 2.0) == made(at=2.0, backend="third")
    stored.note("mine", made("other", 3.0 + LIFETIME))
    assert stored.find("mine", "other", 3.0 + LIFETIME)


@pytest.mark.parametrize("name", [b'"mine"', rb'"m\u0069ne"'])
def test_no_other_tenant_may_give_its_response_a_name_that_is_taken(name: bytes) -> None:
    stored = StoredResponses()
    stored.note("mine", made(at=1.0))
    stored.name(name, "acme", 2.0)
    stored.name(b'"other"', "other", 2.0)
    stored.name(b"7", "other", 2.0)
    stored.name(name, "other", 2.0 + LIFETIME)
    with pytest.raises(InvalidRequest, match="choose another request_id"):
        stored.name(name, "other", 2.0)
    stored.name(name, "other", 2.0, keeps=False)
    making = stored.begin("mine", "acme")
    with pytest.raises(InvalidRequest, match="choose another request_id"):
        stored.name(name, "other", 2.0, keeps=False)
    making.end()


def test_what_was_kept_over_a_restart_is_known_by_its_digest() -> None:
    before, stored = StoredResponses(), StoredResponses()
    before.note("resp_1", made())
    kept = before.unsaved()
    assert before.unsaved() == [], "each is given once"
    assert "resp_1" not in str(kept), "who reads the state file learns no id"
    stored.restore(kept)
    assert stored.find("resp_1", "acme", 1.0) == made()
    assert stored.find("resp_2", "acme", 1.0) is None
    with pytest.raises(NotFound):
        stored.find("resp_1", "other", 1.0)
    stored.note("resp_1", made("other", 1.0, "second"))
    assert stored.find("resp_1", "acme", 1.0) == made(), "a name stays with its owner over a restart, too"
    stored.note("resp_1", made(at=2.0, backend="third"))
    assert stored.find("resp_1", "acme", 2.0) == made(at=2.0, backend="third")
    assert stored.find("\udc80", "acme", 1.0) is None


def test_no_more_wait_to_be_saved_than_are_known() -> None:
    stored = StoredResponses()
    for number in range(MOST + 5):
        stored.note(f"resp_{number}", made())
    assert len(stored.unsaved()) == MOST


def noted(beginning: bytes, *, stream: bool) -> list[str]:
    stored, exchange = StoredResponses(), Exchange("r", "/v1/responses", 0.0)
    exchange.stream = stream
    Noting(stored, exchange, None, None).renaming(beginning)
    return list(stored._made)  # noqa: SLF001 - what is forgotten is shown nowhere else


@pytest.mark.parametrize(
    ("document", "ids"),
    [
        (b'{"id":"resp_1","output":[{"id":"msg_1"}]}', ["resp_1"]),
        (b' {\n "id" : "resp_1", "output": [ cut short', ["resp_1"]),
        (b'{"metadata":{"id":"resp_of_another"},"output":[{"id":"msg"}],"id":"resp_1"}', ["resp_1"]),
        (b'{"metadata":{"id":"resp_of_another"}, cut short', []),
        (b'{"id":7}', []),
        (b"[]", []),
        (b"\xff", []),
    ],
)
def test_the_id_of_a_document_is_its_own(document: bytes, ids: list[str]) -> None:
    assert noted(document, stream=False) == ids


@pytest.mark.parametrize(
    ("events", "ids"),
    [
        (b'event: response.created\ndata: {"response":{"id":"resp_1"},"type":"response.created"}\n\n', ["resp_1"]),
        (
            b'data: {"tools":[{"response":{"id":"x"}}],"response":{"object":"o","id":"resp_1"}}\n\ndata: {}\n\n',
            ["resp_1"],
        ),
        (b'data: {"item":{"id":"msg_1"}}\n\n', []),
        (b": comment\n\n", []),
        (b"data: \xff\n\n", []),
    ],
)
def test_the_id_of_a_stream_is_in_its_first_event(events: bytes, ids: list[str]) -> None:
    assert noted(events, stream=True) == ids


@pytest.mark.parametrize("name", ["responses_nonstream", "responses_stream"])
def test_what_vllm_sends_is_noted(name: str) -> None:
    answer = captured(f"vllm/{name}")
    (response,) = noted(answer.body, stream=name.endswith("_stream"))
    assert response.startswith("resp_")


def test_the_name_that_was_asked_for_is_kept() -> None:
    stored, exchange = StoredResponses(), Exchange("r", "/v1/responses", 5.0)
    exchange.backend, exchange.model, exchange.version, exchange.tenant = "b", "m", "v1", "acme"
    Noting(stored, exchange, None, b'"alias"').renaming(json.dumps({"id": "resp_1"}).encode())
    assert stored.find("resp_1", "acme", 6.0) == Made("b", "m", "v1", "acme", b'"alias"', 5.0)
