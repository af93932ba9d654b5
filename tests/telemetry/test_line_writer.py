"""Lines reach an output whole, however little of them it takes at a time."""

import contextlib
import io
import os
import threading
from errno import ENOSPC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.line_writer import LineWriter
from tests.waiting import DEADLINE


class Disk(io.BytesIO):
    """Takes so many bytes for each write, one after the other; where it says 0, it is full, and at the end has room."""

    def __init__(self, takes: list[int]) -> None:
        super().__init__()
        self.takes = iter(takes)

    def write(self, data: bytes) -> int:  # type: ignore[override]
        most = next(self.takes, len(data))
        if not most:
            raise OSError(ENOSPC, "No space left on device")
        return super().write(data[:most])


def test_the_rest_of_a_line_is_written_before_any_other() -> None:
    disk = Disk([7, 0])
    writer = LineWriter(disk)
    with pytest.raises(OSError, match="No space"):
        writer.write(b"one\ntwo\nthree\n")
    writer.write(b"four\n")
    assert (disk.getvalue(), writer.lost) == (b"one\ntwo\nfour\n", 1)


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), max_size=8), st.lists(st.integers(0, 8)))
def test_what_is_there_are_whole_lines_and_every_other_is_counted(batches: list[list[int]], takes: list[int]) -> None:
    disk = Disk(takes)
    writer = LineWriter(disk)
    lines = [[b"%d" % at * size + b"\n" for at, size in enumerate(sizes)] for sizes in batches]
    for batch in lines:
        try:
            writer.write(b"".join(batch))
        except OSError as error:
            assert error.errno == ENOSPC  # noqa: PT017 - some writes break, others do not
    disk.takes = iter([])
    writer.write(b"")
    every = [line for batch in lines for line in batch]
    found = disk.getvalue().splitlines(keepends=True)
    assert len(found) + writer.lost == len(every)
    left = iter(every)
    assert all(line in left for line in found), "in order, none twice, and none that is no line"


def test_an_output_that_does_not_block_is_waited_for() -> None:
    line = b"x" * 99 + b"\n"
    reader, end = os.pipe()
    os.set_blocking(end, False)
    filled = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += os.write(end, line)
    got: list[bytes] = []

    def read() -> None:
        while piece := os.read(reader, 65536):
            got.append(piece)

    thread = threading.Thread(target=read)
    with os.fdopen(end, "wb") as sink:
        thread.start()
        LineWriter(sink).write(line * 10_000)
    thread.join(DEADLINE)
    os.close(reader)
    assert b"".join(got)[filled:] == line * 10_000


def test_an_output_that_is_closed_says_so() -> None:
    sink = io.BytesIO()
    writer = LineWriter(sink)
    sink.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"one\n")
    assert writer.lost == 1
