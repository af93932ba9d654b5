"""What a walk over single bytes finds in its windows, wherever they are cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.wire.walk import Walk, string_end, walk_over

LONG = "x" * 300
texts = st.lists(st.sampled_from(["x", LONG, "\\", '"', "[{", "é\n", "data"]), max_size=6).map("".join)


def walked(raw: bytes, size: int, walk: Walk) -> int:
    """Walk over a value in windows of about `size`; return where it ends."""
    at = 0
    while at < len(raw):
        window = raw[at : at + size]
        while window.endswith(b"\\") and (len(window) - len(window.rstrip(b"\\"))) % 2:
            window = raw[at : at + len(window) + 1]
        end = walk_over(window, walk)
        if end >= 0:
            return at + end
        at += len(window)
    return -1


@given(st.lists(texts | st.lists(texts, max_size=3) | st.dictionaries(texts, texts, max_size=3)), st.integers(1, 400))
def test_a_value_ends_where_it_does_whatever_its_strings_hold(value: list[object], size: int) -> None:
    raw = json.dumps(value).encode()
    assert walked(raw + b',"next":[]', size, Walk(by_bytes=True)) == len(raw)


@given(texts, st.integers(1, 400))
def test_a_string_ends_at_its_own_quote(text: str, size: int) -> None:
    raw = json.dumps(text).encode()[1:]
    assert string_end(raw + b' "') == len(raw) - 1
    assert string_end(raw[:-1][:size].removesuffix(b"\\")) == -1


@pytest.mark.parametrize("size", [*range(1, 30), 1000])
@pytest.mark.parametrize(
    ("ending", "data", "images"),
    [("data", True, False), ("file_data", True, False), ("image", False, True), ("image_url", False, True),
     ("date", False, False), ("ata", False, False), ("imag", False, False), ("url", False, False), ("", False, False)],
)  # fmt: skip
def test_endings_of_strings_are_seen_in_one_window_and_across(ending: str, data: bool, images: bool, size: int) -> None:
    walk = Walk(by_bytes=True)
    walked(json.dumps(["role", "a rather long text that ends in " + ending, "x"]).encode(), size, walk)
    assert (walk.data, walk.images) == (data, images)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_brackets_may_nest_so_deep_and_no_deeper(size: int) -> None:
    walked(b"[" * 9 + b'"[["' + b"]" * 9, size, Walk(by_bytes=True, most=10))
    with pytest.raises(InvalidRequest, match="deeper"):
        walked(b"[" * 10, size, Walk(by_bytes=True, most=10))
