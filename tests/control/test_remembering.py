"""Which backend keeps which stored response holds over a restart, in the time of the wall."""

from hashlib import sha256

from gateway.control.remembering import Remembering
from gateway.proxy.stored import Made, StoredResponses
from gateway.state.store import Response

STARTED = 1_700_000_000.0
MADE = Made("gpu/a:1", "m", "v1", "acme", b'"alias"', 5.0)


def test_what_was_noted_is_handed_to_the_store_once_by_digest_and_in_seconds_since_the_epoch() -> None:
    stored = StoredResponses()
    stored.note("resp_1", MADE)
    remembering = Remembering(stored, STARTED)
    digest = sha256(b"resp_1").hexdigest()
    (response,) = remembering.unsaved()
    assert digest.startswith(response.id) or response.id == digest
    assert response == Response(STARTED + 5.0, response.id, "gpu/a:1", "m", "v1", "acme", '"alias"')
    assert remembering.unsaved() == []


def test_another_process_takes_it_back_by_a_clock_of_its_own() -> None:
    before, after = StoredResponses(), StoredResponses()
    before.note("resp_1", MADE)
    before.note("resp_2", MADE._replace(asked=None))
    Remembering(after, STARTED + 3600.0).restore(Remembering(before, STARTED).unsaved())
    again = Remembering(after, STARTED + 3600.0)
    assert again.unsaved() == [], "it is in the store already"
    after.note("resp_3", MADE)
    assert [response.asked for response in again.unsaved()] == ['"alias"']
