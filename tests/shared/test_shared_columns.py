"""Columns of the table that processes share, and the rows that processes have in it."""

from gateway.shared.table import Layout, Table, allot, read_header
from tests.shared.stepping import SteppedMemory


def seen_by_two(memory: SteppedMemory) -> tuple[Table, Table]:
    return memory.join(), memory.join()


def test_a_column_is_used_again_once_no_process_is_attached() -> None:
    one, other = seen_by_two(SteppedMemory(2, backends=4))
    columns = one.layout.backends
    assert [one.attach(columns, name) for name in "abcd"] == [0, 1, 2, 3]
    assert other.attach(columns, "b") == 1
    assert other.attach(columns, "new") is None
    one.detach(columns, 1)
    assert other.attach(columns, "new") is None
    other.detach(columns, 1)
    assert other.attach(columns, "new") == 1
    one.clear(0)
    assert other.attach(columns, "newer") == 0


def test_who_cannot_have_the_lock_gets_no_column() -> None:
    memory = SteppedMemory(2)
    one, _ = seen_by_two(memory)
    memory.held[0] = 7
    assert one.attach(one.layout.backends, "a") is None


def test_rows_are_given_out_from_the_lowest_and_given_again() -> None:
    memory = SteppedMemory(2)
    one, other = seen_by_two(memory)
    assert (one.rows, allot(memory.layout, memory.values, 3)) == (2, None)
    one.beat(5.0)
    other.beat(6.9)
    assert other.is_alive(0)
    other.beat(7.1)
    assert not other.is_alive(0)
    other.clear(0)
    assert allot(memory.layout, memory.values, 3) == 0


def test_only_a_table_of_this_version_is_read() -> None:
    memory = SteppedMemory(3)
    found = read_header(memory.values)
    assert isinstance(found, Layout)
    assert (found.rows, found.size) == (3, memory.layout.size)
    memory.values[1] += 1
    assert read_header(memory.values) is None
