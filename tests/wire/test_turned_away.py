"""A connection too many reads why, without having asked."""

from gateway.wire.turned_away import turn_away
from tests.wire.playbook import Wire


def test_it_is_told_to_come_back_in_a_second_and_is_closed() -> None:
    wire = Wire()
    turn_away(wire)
    head, _, body = wire.took().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1\r\nconnection: close\r\n" in head
    assert b"content-length: %d" % len(body) in head
    assert b"the gateway holds as many connections as it may" in body
    assert wire.closed


def test_one_that_is_closing_already_is_left_alone() -> None:
    wire = Wire()
    wire.close()
    turn_away(wire)
    assert wire.took() == b""
