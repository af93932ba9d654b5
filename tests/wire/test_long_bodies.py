"""Long bodies are read in slices: the same is found as in short ones, and no slice is long whatever they hold."""

import json
import re
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError, InvalidJson, InvalidRequest
from gateway.wire.body import Body, read_json, read_long_json
from gateway.wire.multipart import MAX_PARTS, read_long_form
from gateway.wire.rope import SHORT, Rope
from gateway.wire.scan import MAX_KEYS, WINDOW
from gateway.wire.slices import finish
from gateway.wire.walk import MAX_DEPTH
from loadtest.bodies.shapes import documents, forms
from tests.wire.forms import FILE, MODEL, TYPE, form
from tests.wire.ropes import cuts, rope
from tests.wire.test_body import bodies, sound

MIB = 1024 * 1024


class Watched(bytes):
    """A rope's one piece, which counts how much of it is read."""

    seen = 0

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        self.seen += len(found)
        return found


def watch(work: Generator[None, None, Body], watched: Watched) -> tuple[int, int, object]:
    """Do all the work; return the most that was read between two yields, all that was read, and what came of it."""
    longest = before = 0
    result: object = None
    while True:
        try:
            next(work)
        except StopIteration as end:
            result = end.value
            break
        except GatewayError as error:
            result = error
            break
        longest, before = max(longest, watched.seen - before), watched.seen
    return max(longest, watched.seen - before), watched.seen, result


def told(result: object) -> object:
    """Return what was found in a body, or said of it."""
    if isinstance(result, Body):
        return result.model, result.media, result.has_images, dict(result.spans)
    return str(result)


@settings(max_examples=200, deadline=None)
@given(bodies(), cuts, st.text(max_size=20), st.booleans(), st.booleans())
def test_a_long_body_is_read_and_rewritten_as_a_short_one(
    made: tuple[dict[str, Any], bytes], points: list[int], to: str, usage: bool, by_bytes: bool
) -> None:
    raw = made[1]
    if not sound(raw) or not sound(to.encode(errors="surrogatepass")):
        return
    short, long = read_json(raw), finish(read_long_json(rope(raw, *points), by_bytes=by_bytes))
    for name in ("model", "stream", "choices", "max_tokens", "has_tools", "has_images", "keeps_state", "spans"):
        assert getattr(long, name) == getattr(short, name)
    for key in short.spans:
        assert long.value(key) == short.value(key)
    written = [body.rewritten(json.dumps(to).encode(), usage and body.stream, 5) for body in (short, long)]
    assert isinstance(written[1], Rope)
    assert b"".join(written[1].blocks()) == written[0]
    assert len(written[1]) == len(written[0])


HOSTILE, FORMS = documents(MIB), forms(MIB)


@pytest.mark.parametrize("case", HOSTILE)
def test_no_slice_is_long_and_the_whole_is_read_a_few_times_at_most(case: str) -> None:
    results = []
    for by_bytes in (False, True):
        watched = Watched(HOSTILE[case])
        longest, seen, result = watch(read_long_json(Rope((watched,)), by_bytes=by_bytes), watched)
        assert longest <= 2 * WINDOW
        assert 0 < seen <= 6 * len(watched)
        assert isinstance(result, Body | InvalidRequest | InvalidJson)
        results.append(told(result))
    assert results[0] == results[1]


@pytest.mark.parametrize("case", FORMS)
def test_forms_are_read_in_slices_too(case: str) -> None:
    watched = Watched(FORMS[case])
    longest, seen, result = watch(read_long_form(Rope((watched,)), TYPE), watched)
    assert longest <= 2 * WINDOW
    assert 0 < seen <= 10 * len(watched)
    assert isinstance(result, Body if case in {"carriage returns", "near boundaries", "audio"} else InvalidRequest)


TOKENS = [
    *(
        b"[",
        b"{",
        b"]",
        b"}",
        b'"',
        b"\\",
        b"\\\\",
        b",",
        b":",
        b" ",
        b"1",
        b'"a":',
        b'{"a":1},',
        b'"data":"',
        b";base64,",
    ),
    *(b"A" * 70, b'"type":"image",', b"\0", b"\r\n", b"\r\n--b0", b"\r\n--b0\r\n"),
    b'content-disposition: form-data; name="x"',
]
STRINGS = [
    b'"a\\nb"',
    b'"\\"[{"',
    b'"]\\\\"',
    b'"%b\\"data"' % (b"x" * 200),
    b'"type":"image_url"',
    b'"' + b'\\"' * 90 + b'"',
]
RUNS = st.lists(st.tuples(st.sampled_from(TOKENS), st.integers(1, 40_000)), max_size=6)


@settings(max_examples=60, deadline=None)
@given(RUNS, st.sampled_from(["json", "form"]))
def test_no_bytes_at_all_make_a_long_slice(runs: list[tuple[bytes, int]], kind: str) -> None:
    middle = b"".join(token * count for token, count in runs)
    if kind == "json":
        watched = Watched(b'{"model":"m","messages":' + middle + b"}")
        longest, seen, _ = watch(read_long_json(Rope((watched,))), watched)
    else:
        watched = Watched(form(MODEL, FILE, end=False) + middle + b"\r\n--b0--\r\n")
        longest, seen, _ = watch(read_long_form(Rope((watched,)), TYPE), watched)
    assert longest <= 2 * WINDOW
    assert seen <= 10 * len(watched) + 2**20


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([*TOKENS, *STRINGS]), st.integers(1, 3))),
    st.integers(0, 20_000),
    cuts,
)
def test_byte_by_byte_the_same_is_found_as_by_whole_windows(
    runs: list[tuple[bytes, int]], padding: int, points: list[int]
) -> None:
    middle = b"".join(token * count for token, count in runs)
    if b"\\" in re.sub(rb'"(?:[^"\\]|\\.)*"', b"", middle, flags=re.DOTALL):
        return  # an escape outside of strings is no JSON
    raw = b'{"model":"m","x":"%b","messages":[%b]}' % (b" " * padding, middle)
    if b'""type":' in raw:
        return  # no JSON either: media in what is no string are only guessed at
    found = []
    for by_bytes in (False, True):
        try:
            found.append(told(finish(read_long_json(rope(raw, *points), by_bytes=by_bytes))))
        except GatewayError as error:
            found.append(str(error))
    assert found[0] == found[1]


def test_keys_and_parts_have_bounds() -> None:
    def keys(count: int) -> bytes:
        return b'{"model":"m"' + b"".join(b',"%d":1' % i for i in range(count - 1)) + b"}"

    assert read_json(keys(MAX_KEYS)).model == finish(read_long_json(Rope((keys(MAX_KEYS),)))).model == "m"
    for read in (read_json, lambda raw: finish(read_long_json(Rope((raw,))))):
        with pytest.raises(InvalidRequest, match="more than 256 keys"):
            read(keys(MAX_KEYS + 1))
    many = [MODEL, *(('name="x[]"', b"1") for _ in range(MAX_PARTS - 1))]
    assert finish(read_long_form(Rope((form(*many),)), TYPE)).model == "whisper"
    with pytest.raises(InvalidRequest, match="more than 1000 parts"):
        finish(read_long_form(Rope((form(*many, FILE),)), TYPE))


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("padding", [0, 500, WINDOW])
@pytest.mark.parametrize("by_bytes", [False, True])
def test_nesting_has_the_same_bound(opening: bytes, padding: int, by_bytes: bool) -> None:
    closing = b"]" if opening == b"[" else b"}"

    def nested(depth: int) -> Rope:
        inner = opening * (depth - 2) + b"1" + closing * (depth - 2)
        return Rope((b'{"model":"m","x":["%b",%b]}' % (b"x" * padding, inner),))

    assert finish(read_long_json(nested(MAX_DEPTH), by_bytes=by_bytes)).model == "m"
    with pytest.raises(InvalidRequest, match="deeper"):
        finish(read_long_json(nested(MAX_DEPTH + 1), by_bytes=by_bytes))


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", InvalidJson),
        (b"nope", InvalidRequest),
        (b"[]", InvalidRequest),
        (b"{", InvalidJson),
        (b'{"a":1', InvalidJson),
        (b'{"a":1}x', InvalidJson),
        (b'{"a":1,}', InvalidJson),
        (b'{"a":1.}', InvalidJson),
        (b'{"a":NaN}', InvalidJson),
        (b'{"a" 1}', InvalidJson),
        (b'{"\xff":1}', InvalidJson),
        (b'{"a":1}', InvalidRequest),
        (b'{"model":1}', InvalidRequest),
        (b'{"model":"a","mod\\u0065l":"b"}', InvalidRequest),
    ],
)
def test_what_is_no_request_is_told_so(raw: bytes, error: type[GatewayError]) -> None:
    with pytest.raises(error):
        finish(read_long_json(Rope((raw,))))


def test_what_says_something_about_the_request_is_short() -> None:
    for name in ("model", "n", "max_tokens", "stream"):
        with pytest.raises(InvalidRequest) as refused:
            finish(
                read_long_json(
                    Rope((b'{"model":"m","%b":"%b"}' % (name.encode(), b"9" * SHORT),)),
                )
            )
        assert refused.value.param in {name, None}
