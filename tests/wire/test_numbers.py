"""Numbers are read as the engine reads them, and what is no text is not taken for it."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from gateway.errors import InvalidRequest
from gateway.exchange import Dialect
from gateway.wire.body import read_json
from gateway.wire.numbers import LARGEST, whole_number

engine = TypeAdapter(int | None)


def read(raw: bytes) -> Any:
    try:
        return whole_number("n", msgspec.Raw(raw))
    except InvalidRequest:
        return "400"


def as_vllm(raw: bytes) -> Any:
    try:
        number = engine.validate_json(raw)
    except ValidationError:
        return "400"
    return "400" if number is not None and abs(number) > LARGEST else number


@given(
    st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.none()
    | st.text(max_size=5)
    | st.integers().map(str)
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=2), st.integers(), max_size=2)
)
def test_a_number_is_what_the_engine_would_read(value: Any) -> None:
    try:
        raw = json.dumps(value).encode()
    except UnicodeEncodeError:
        return
    assert read(raw) == as_vllm(raw)


@pytest.mark.parametrize("raw", [b"9", b'"9"', b"9.0", b"9e0", b'" 9 "', b'"9.0"'])
def test_every_way_of_writing_nine(raw: bytes) -> None:
    assert read(raw) == 9
    body = read_json(b'{"model":"m","max_tokens":%b}' % raw)
    assert body.max_tokens == 9
    with pytest.raises(InvalidRequest, match="at most 8"):
        read_json(b'{"model":"m","n":%b}' % raw)


@pytest.mark.parametrize("raw", [b"9" * 400, b'"' + b"9" * 400 + b'"', b"1e400", b"[9]", b'{"a":9}', b'"nine"', b"9.5"])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of"])
def test_what_is_no_whole_number_is_refused_by_name(raw: bytes, name: str) -> None:
    dialect = Dialect.RESPONSES if name == "max_output_tokens" else Dialect.CHAT
    with pytest.raises(InvalidRequest) as refused:
        read_json(b'{"model":"m","%b":%b}' % (name.encode(), raw), dialect)
    assert refused.value.param == name


@pytest.mark.parametrize("name", ["n", "best_of", "logprobs", "top_logprobs"])
@pytest.mark.parametrize("dialect", Dialect)
def test_what_multiplies_work_is_bounded_in_every_dialect(dialect: Dialect, name: str) -> None:
    with pytest.raises(InvalidRequest, match="at most"):
        read_json(b'{"model":"m","%b":21}' % name.encode(), dialect)


@pytest.mark.parametrize(
    ("raw", "found"), [(b"null", None), (b"0", None), (b"-5", None), (b"true", 1), (b"false", None)]
)
def test_a_limit_that_bounds_nothing_is_none(raw: bytes, found: int | None) -> None:
    assert read_json(b'{"model":"m","max_tokens":%b}' % raw).max_tokens == found


@pytest.mark.parametrize("raw", [b"true", b"false", b"null", b"20", b'"20"', b'"yes"'])
def test_logprobs_are_a_flag_in_one_dialect_and_a_number_in_another(raw: bytes) -> None:
    read_json(b'{"model":"m","logprobs":%b}' % raw)
    with pytest.raises(InvalidRequest, match="at most 20"):
        read_json(b'{"model":"m","logprobs":"21"}')


@pytest.mark.parametrize("raw", ["true", '"true"', '"True"', "1", "1.0", '"1"', '"yes"', '"on"', '"t"'])
def test_every_way_of_saying_yes(raw: str) -> None:
    body = read_json(b'{"model":"m","stream":%b,"stream_options":{"include_usage":%b}}' % (raw.encode(), raw.encode()))
    assert body.stream
    assert body.rewritten(None, add_usage=True) is body.raw
    assert not body.usage_added


@pytest.mark.parametrize("raw", ["false", '"false"', "0", '"no"', "null"])
def test_every_way_of_saying_no(raw: str) -> None:
    assert not read_json(b'{"model":"m","stream":%b}' % raw.encode()).stream
    body = read_json(b'{"model":"m","stream":1,"stream_options":{"include_usage":%b}}' % raw.encode())
    out = body.rewritten(None, add_usage=True)
    assert isinstance(out, bytes)
    assert json.loads(out)["stream_options"] == {"include_usage": True}
    assert body.usage_added


@pytest.mark.parametrize("raw", ["2", '"maybe"', "[]", "{}", "1.5", '""'])
def test_flags_that_are_none_are_left_to_the_engine(raw: str) -> None:
    assert not read_json(b'{"model":"m","stream":%b}' % raw.encode()).stream
    body = read_json(b'{"model":"m","stream":true,"stream_options":{"include_usage":%b}}' % raw.encode())
    assert body.rewritten(None, add_usage=True) is body.raw
    assert not body.usage_added
