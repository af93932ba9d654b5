"""Where the top-level values of a JSON body stand, however deep and long they are."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.wire.rope import Rope
from gateway.wire.scan import MAX_KEY, WINDOW, check_depth, items_in, top_level
from gateway.wire.slices import finish
from gateway.wire.walk import MAX_DEPTH, Walk
from tests.wire.ropes import cuts, rope


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet='{}[]",:\\ tn1a', max_size=40), cuts, st.booleans())
def test_what_a_parser_accepts_is_located_as_it_would(text: str, points: list[int], by_bytes: bool) -> None:
    raw = b'{"model":"m","x":%b,"y":1}' % text.encode()
    try:
        value = json.loads(raw)
    except ValueError:
        return
    if len(value) == 3:
        spans = finish(top_level(rope(raw, *points), Walk(by_bytes)))
        assert {key: json.loads(raw[start:end]) for key, (start, end) in spans.items()} == value


@given(st.lists(st.text(max_size=8), max_size=6) | st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=6), cuts)
def test_items_of_a_list_of_texts_or_of_token_ids_are_counted(prompts: list[object], points: list[int]) -> None:
    raw = json.dumps(prompts).encode()
    assert finish(items_in(rope(raw, *points), (0, len(raw)))) == len(prompts)


@pytest.mark.parametrize(("raw", "items"), [(b'""', 0), (b"null", 0), (b'"hi"', 1), (b"[1, 2, 3]", 1), (b"[ ]", 0)])
def test_what_is_no_list_of_prompts_is_one_or_none(raw: bytes, items: int) -> None:
    assert finish(items_in(Rope((raw,)), (0, len(raw)))) == items


def test_a_long_list_of_texts_is_counted_across_windows() -> None:
    raw = json.dumps(['a, "b"'] * WINDOW).encode()
    assert finish(items_in(Rope((raw,)), (0, len(raw)))) == WINDOW


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("by_bytes", [False, True])
def test_the_depth_of_a_short_body_has_a_bound(opening: bytes, closing: bytes, by_bytes: bool) -> None:
    check_depth(opening * MAX_DEPTH + b"1" + closing * MAX_DEPTH, by_bytes)
    with pytest.raises(InvalidRequest, match="deeper than 64"):
        check_depth(opening * (MAX_DEPTH + 1) + b"1" + closing * (MAX_DEPTH + 1), by_bytes)


@pytest.mark.parametrize("by_bytes", [False, True])
def test_brackets_side_by_side_and_in_strings_are_not_deep(by_bytes: bool) -> None:
    check_depth(b"[%b]" % b",".join([b"[]"] * 1000), by_bytes)
    check_depth(b'["%b", "\\\\", "\\"%b"]' % (b"[" * 1000, b"{" * 1000), by_bytes)


def test_a_key_has_a_bound() -> None:
    key = b"k" * (MAX_KEY - 2)
    assert finish(top_level(Rope((b'{"%b":1}' % key,)), Walk())) == {key.decode(): (len(key) + 4, len(key) + 5)}
    with pytest.raises(InvalidRequest, match="over 1024 bytes"):
        finish(top_level(Rope((b'{"%bk":1}' % key,)), Walk()))
