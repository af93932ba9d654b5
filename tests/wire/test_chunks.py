"""Chunks: written as engines write them, and known without a parser where they are whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.chunks import is_only_chunk, only_chunk, size_line, take_chunks

SIZES = (16, 17, 250, 255, 256, 257, 2046, 2047)


def whole(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize("size", [1, *SIZES, 2048, 100_000])
def test_a_size_is_written_in_hexadecimal(size: int) -> None:
    assert size_line(size) == b"%x\r\n" % size


@pytest.mark.parametrize("size", SIZES)
def test_a_whole_chunk_is_known_by_its_two_ends(size: int) -> None:
    piece = b"x" * size
    assert only_chunk(whole(piece)) == piece
    assert is_only_chunk(whole(piece), piece)


@pytest.mark.parametrize("size", SIZES)
def test_anything_else_is_not(size: int) -> None:
    data = whole(b"x" * size)
    upper, odd = data[: data.index(b"\r")].upper(), b"%x;a=b\r\n%b\r\n" % (size, b"x" * size)
    others = [data[:-1], data[1:], data + b"\n", data + data, data[:-2] + b"xx", b"0" + data, odd]
    if upper != data[: data.index(b"\r")]:
        others.append(upper + data[len(upper) :])
    others.extend(b"%x\r\n%b\r\n" % (wrong, b"x" * size) for wrong in (size - 1, size + 1))
    assert [each for each in others if only_chunk(each)] == []


@pytest.mark.parametrize("data", [b"", b"\r\n", b"0\r\n\r\n", whole(b"x"), whole(b"x" * 15), whole(b"x" * 2048)])
def test_a_chunk_of_an_unusual_size_is_left_to_the_parser(data: bytes) -> None:
    assert only_chunk(data) == b""
    assert not is_only_chunk(data, b"")


def test_the_rest_of_another_chunk_may_look_like_a_whole_one() -> None:
    data = b"12\r\n" * 6
    assert only_chunk(data) == data[:18] == data[4:22]
    assert not is_only_chunk(data, data[:18])


def taken(data: bytes, begin: int = 0) -> tuple[list[bytes], bytes]:
    """Return the pieces of the whole chunks from there on, and the bytes behind them."""
    pieces: list[bytes] = []
    end = take_chunks(data, begin, pieces)
    return pieces, data[end:]


@given(st.lists(st.sampled_from([*SIZES, 300, 2048, 4095])), st.integers(0, 3))
def test_all_whole_chunks_of_usual_sizes_are_taken(sizes: list[int], before: int) -> None:
    pieces = [b"%d" % (at % 10) * size for at, size in enumerate(sizes)]
    data = b"".join([b"x" * before, *map(whole, pieces)])
    assert taken(data, before) == (pieces, b"")


@pytest.mark.parametrize("size", SIZES)
def test_what_is_no_usual_chunk_is_left_with_all_that_follows(size: int) -> None:
    first, piece = b"y" * 30, b"x" * size
    good, line = whole(piece), size_line(size)
    odd = [b"0" + good, line[:-2] + b";a=b\r\n" + piece + b"\r\n", line[:-1] + piece + b"\r\n"]
    odd += [line + piece + b"\n\n", line + piece + b"x" + b"\r\n", line + piece[1:] + b"\r\n", b"-" + good, b" " + good]
    odd += [good[:end] for end in (1, 2, 3, 4, 5, len(good) - 1)]
    odd += [whole(b"x" * size) for size in (1, 15, 4096)] + [b"0\r\n\r\n", b"0\r\na: b\r\n\r\n"]
    if line != line.upper():
        odd.append(line.upper() + piece + b"\r\n")
    for other in odd:
        rest = other + good
        assert taken(whole(first) + rest) == ([first], rest) or good.startswith(other)
        assert taken(whole(first) + other) == ([first], other)
