"""The gaps between events that count as time in use."""

from gateway.policy.slo.time_in_use import HOUR, LONG, TimeInUse


def test_short_gaps_count_for_all_windows_and_long_ones_for_those_that_bridge_them() -> None:
    use = TimeInUse()
    use.add_short(30.0)
    use.add_long(HOUR / 2, 600.0)
    assert [use.seconds(index) for index in range(len(LONG))] == use.all() == [30.0, 630.0, 630.0, 630.0]
