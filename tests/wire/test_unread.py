"""An answer waits as long as its client goes on reading."""

from gateway.wire.unread import Unread
from tests.wire.playbook import Wire


def test_each_byte_that_is_taken_gives_it_new_time() -> None:
    wire = Wire()
    wire.unsent = 100
    unread = Unread(wire, 1000.0)
    assert unread.lasts(1010.0) == 10.0
    wire.unsent = 99
    assert unread.lasts(1020.0) == 0.0
    assert unread.lasts(1030.0) == 10.0


def test_more_to_read_is_no_reading() -> None:
    wire = Wire()
    wire.unsent = 100
    unread = Unread(wire, 1000.0)
    wire.unsent = 200
    assert unread.lasts(1010.0) == 10.0
    wire.unsent = 150
    assert unread.lasts(1020.0) == 20.0, "it is still above where it was"
