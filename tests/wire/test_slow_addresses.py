"""An address that a connect waited for in vain comes last for a minute."""

from gateway.wire.slow_addresses import SlowAddresses

ADDRESSES = ("a", "b", "c")


def test_those_that_were_tried_in_vain_come_last_in_their_order() -> None:
    slow = SlowAddresses()
    assert slow.last(ADDRESSES, 0.0) == ADDRESSES
    slow.learn(ADDRESSES, "c", 0.0)
    assert slow.last(ADDRESSES, 59.0) == ("c", "a", "b")
    assert repr(slow) == "<SlowAddresses a b>"


def test_one_that_answers_first_makes_none_slow() -> None:
    slow = SlowAddresses()
    slow.learn(ADDRESSES, "a", 0.0)
    assert slow.last(ADDRESSES, 0.0) == ADDRESSES


def test_it_lasts_for_a_minute_since_the_last_time() -> None:
    slow = SlowAddresses()
    slow.learn(ADDRESSES, "b", 0.0)
    slow.learn(("b", "c"), "c", 40.0)
    assert slow.last(ADDRESSES, 60.0) == ("a", "c", "b")
    assert slow.last(ADDRESSES, 100.0) == ADDRESSES
    slow.learn(ADDRESSES, "b", 100.0)
    assert repr(slow) == "<SlowAddresses a>"
