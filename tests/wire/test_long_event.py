"""An event that comes in many reads is gathered without a copy for each, and has a bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.long_event import LONG, EventTooLarge, LongEvent, abridged


@given(st.lists(st.text(alphabet="ab\n\r", min_size=1, max_size=6), min_size=1, max_size=8))
def test_its_end_is_never_missed_however_it_is_cut(pieces: list[str]) -> None:
    start, *rest = (piece.encode() for piece in pieces)
    event, so_far = LongEvent(start, most=1000), start
    for piece in rest:
        so_far += piece
        new = so_far[-len(piece) - 1 :]
        if b"\n\n" in new or b"\r" in piece:
            assert event.add(piece)
        else:
            event.add(piece)
        assert event.whole() == so_far


def test_a_piece_in_the_middle_of_an_event_ends_nothing() -> None:
    event = LongEvent(b"data: ", most=100)
    assert not event.add(b"abc\n")
    assert event.add(b"\n")


def test_an_event_over_the_limit_is_refused() -> None:
    event = LongEvent(b"x" * 8, most=10)
    assert not event.add(b"xx")
    with pytest.raises(EventTooLarge, match=r"over the 10 bytes that the gateway holds \(--max-event\)"):
        event.add(b"x")


def test_the_last_piece_may_bring_more_than_the_event() -> None:
    assert LongEvent(b"x" * 8, most=10).add(b"\n\n" + b"y" * 100)


def test_of_a_short_event_everything_is_looked_at() -> None:
    block = b"before" + b"x" * LONG + b"after"
    assert abridged(block, 6, 6 + LONG) == b"x" * LONG


def test_of_a_long_one_the_beginning_the_end_and_the_usage_are() -> None:
    usage = b'"usage":{"completion_tokens":7}'
    block = b"first" + b"x" * LONG + usage + b"x" * LONG + b"last"
    short = abridged(block, 0, len(block))
    assert short.startswith(b"first")
    assert short.endswith(b"last")
    assert usage in short
    assert len(short) < len(block) / 2
