"""Long bodies in pieces read and change as their bytes would."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.rope import BLOCK, SHORT, Edit, Rope, complete, longer
from tests.wire.ropes import cuts, rope


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(0, 200), st.integers(0, 200))
def test_a_rope_reads_as_its_bytes(parts: list[bytes], start: int, size: int) -> None:
    raw, made, gathered = b"".join(parts), Rope(parts), Rope()
    for part in parts:
        gathered.append(part)
    for each in (made, gathered):
        assert (len(each), b"".join(each.blocks())) == (len(raw), raw)
        assert each.read(start, start + size) == raw[start : start + size]


def test_a_byte_in_a_chunk_of_its_own_costs_a_byte() -> None:
    gathered = Rope()
    for _ in range(2 * BLOCK):
        gathered.append(b"x")
    assert len(list(gathered.blocks())) == 2


@given(st.binary(min_size=1, max_size=200), cuts, st.lists(st.integers(0, 200), max_size=8), st.randoms())
def test_edits_in_any_order_change_a_rope_as_its_bytes(
    raw: bytes, points: list[int], places: list[int], random: Random
) -> None:
    ends = sorted({min(place, len(raw)) for place in places})
    edits: list[Edit] = [(start, end, b"<%d>" % start) for start, end in list(pairwise(ends))[::2]]
    expected = raw
    for start, end, replacement in reversed(edits):
        expected = expected[:start] + replacement + expected[end:]
    random.shuffle(edits)
    spliced = rope(raw, *points).spliced(edits)
    assert b"".join(spliced.blocks()) == expected
    assert len(spliced) == len(expected)


def test_a_splice_shares_what_it_leaves() -> None:
    raw = b"x" * BLOCK
    first, changed, last = Rope((raw,)).spliced([(10, 12, b"new")]).blocks()
    assert bytes(changed) == b"new"
    assert all(isinstance(each, memoryview) and each.obj is raw for each in (first, last))


def test_a_splice_without_edits_is_the_same_body() -> None:
    assert b"".join(Rope((b"ab", b"cd")).spliced([]).blocks()) == b"abcd"


@pytest.mark.parametrize("size", [0, 1, SHORT, SHORT + 1])
@pytest.mark.parametrize("pieces", [1, 2])
def test_a_body_that_has_come_is_in_one_piece_up_to_a_length(size: int, pieces: int) -> None:
    raw = b"x" * size
    came = raw if pieces == 1 else longer(raw[: size // 2], raw[size // 2 :])
    whole = complete(came)
    assert isinstance(whole, bytes) == (size <= SHORT)
    assert (whole if isinstance(whole, bytes) else b"".join(whole.blocks())) == raw


def test_a_rope_tells_its_size() -> None:
    assert repr(Rope((b"ab", b"", b"c"))) == "<Rope 3 bytes in 2 blocks>"
