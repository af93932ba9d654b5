"""Chunks: written as engines write them, and known without a parser where they are whole."""

import pytest

from gateway.wire.chunks import is_only_chunk, only_chunk, size_line

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
