"""The allow-list: no path reaches an engine that is not written there, whatever its spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.exchange import BodyKind
from gateway.wire.endpoints import FORWARDED, LOCAL, is_stored_id, stored, stored_id


def test_each_path_leads_to_the_endpoint_of_that_name() -> None:
    assert all(endpoint.path.encode() == path == endpoint.target for path, endpoint in FORWARDED.items())
    assert FORWARDED.keys() & LOCAL == set()


@pytest.mark.parametrize("path", sorted(FORWARDED))
@pytest.mark.parametrize("spelling", [b"%b/", b"/%b", b"%b?x", b"%b%%20", b"/.%b"])
def test_a_path_is_compared_byte_by_byte(path: bytes, spelling: bytes) -> None:
    assert spelling % path not in FORWARDED
    assert path.upper() not in FORWARDED


@pytest.mark.parametrize("path", [b"/v1/load_lora_adapter", b"/metrics", b"/sleep", b"/v1/models", b"/reset_mm_cache"])
def test_what_changes_or_describes_an_engine_is_not_forwarded(path: bytes) -> None:
    assert path not in FORWARDED


def test_audio_and_pictures_come_as_forms() -> None:
    forms = {path for path, endpoint in FORWARDED.items() if endpoint.body is BodyKind.MULTIPART}
    assert forms == {
        b"/v1/audio/transcriptions",
        b"/v1/audio/translations",
        b"/v1/images/edits",
        b"/v1/images/variations",
    }


def test_a_stored_response_is_retrieved_and_cancelled_by_its_id() -> None:
    retrieve, cancel = stored(b"/v1/responses/resp_1", b""), stored(b"/v1/responses/resp_1/cancel", b"stream=1")
    assert retrieve is not None
    assert cancel is not None
    assert (retrieve.method, retrieve.target) == (b"GET", b"/v1/responses/resp_1")
    assert (cancel.method, cancel.target) == (b"POST", b"/v1/responses/resp_1/cancel")
    assert retrieve.path == "/v1/responses/{id}", "which is what metrics name"
    assert stored_id(retrieve.target) == stored_id(cancel.target) == "resp_1"


@pytest.mark.parametrize("path", [b"", b"/", b"/a/b", b"/a/cancel/", b"/../x", b"/%2e", b"/.a", b"/" + b"a" * 129])
def test_what_is_no_id_names_no_stored_response(path: bytes) -> None:
    assert stored(b"/v1/responses" + path, b"") is None


@given(st.text(max_size=140))
def test_an_id_is_one_that_a_path_can_name(text: str) -> None:
    found = stored(b"/v1/responses/" + text.encode(), b"") if not text.endswith("/cancel") else None
    assert is_stored_id(text) == (found is not None)


@pytest.mark.parametrize(
    ("query", "goes_on"),
    [
        (b"stream=true", b"?stream=true"),
        (b"stream=1&starting_after=007", b"?stream=true&starting_after=7"),
        (b"starting_after=7", b""),
        (b"stream=false&starting_after=7", b""),
        (b"stream=yes&include=x&starting_after=", b"?stream=true"),
    ],
)
def test_of_the_query_only_how_a_stream_goes_on_reaches_the_engine(query: bytes, goes_on: bytes) -> None:
    found = stored(b"/v1/responses/r", query)
    assert found is not None
    assert found.target == b"/v1/responses/r" + goes_on


@pytest.mark.parametrize("after", [b"-1", b"x", b"1%0d%0aHost:", b"9" * 19, "²".encode()])
def test_what_numbers_no_event_is_refused(after: bytes) -> None:
    with pytest.raises(InvalidRequest, match="starting_after"):
        stored(b"/v1/responses/r", b"stream=true&starting_after=" + after)
