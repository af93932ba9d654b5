"""Requests are counted when they come, though they are seen while they are inside, or when they have ended."""

from gateway.control.capacity_arrivals import LONGEST_PAUSE, PoolArrivals


def test_long_requests_count_in_the_second_in_which_they_come() -> None:
    arrivals = PoolArrivals()
    inside = [0.0, 5.0, 5.0, 5.0, 0.0, 0.0]
    ended = [0.0, 0.0, 0.0, 0.0, 5.0, 0.0]
    rates = []
    for second, (now_inside, now_ended) in enumerate(zip(inside, ended, strict=True)):
        meter = arrivals.look("gpu", now_ended, now_inside, 100.0 + second)
        rates.append(meter.rate())
    assert rates == [None, 5.0, 2.5, 5 / 3, 1.25, 1.0]


def test_short_requests_count_when_they_have_ended() -> None:
    arrivals = PoolArrivals()
    arrivals.look("gpu", 0.0, 0.0, 100.0)
    assert arrivals.look("gpu", 7.0, 0.0, 101.0).rate() == 7.0


def test_two_looks_in_one_second_are_one() -> None:
    arrivals = PoolArrivals()
    arrivals.look("gpu", 0.0, 0.0, 100.0)
    arrivals.look("gpu", 3.0, 1.0, 100.2)
    assert arrivals.look("gpu", 2.0, 4.0, 101.1).rate() == 9.0


def test_after_a_pause_it_begins_anew() -> None:
    arrivals = PoolArrivals()
    for second in range(5):
        arrivals.look("gpu", 1.0, 0.0, 100.0 + second)
    assert arrivals.look("gpu", 50.0, 0.0, 105.0 + LONGEST_PAUSE).rate() is None
    assert arrivals.look("gpu", 1.0, 0.0, 1.0).rate() is None, "nor is anything known where time goes back"


def test_what_vanishes_is_no_arrival() -> None:
    arrivals = PoolArrivals()
    arrivals.look("gpu", 0.0, 9.0, 100.0)
    assert arrivals.look("gpu", 0.0, 2.0, 101.0).rate() == 0.0
