"""The alert pairs on a fake clock: what fires is what the SRE workbook's table says, when its formula says."""

import pytest

from gateway.policy.slo.alerts import (
    FASTEST,
    PAIRS,
    PENDING_FOR,
    RESOLVED_FOR,
    Alert,
    AlertPair,
    AlertState,
    Severity,
    read,
    step,
)
from gateway.policy.slo.objective import DAY, Target
from gateway.policy.slo.windows import HOUR, MINUTE, Windows

TARGET = Target(0.999)
START = 1_700_000_000.0


class Replay:
    """Traffic of a known error ratio through windows and alerts, time by time; `fired` says when each pair did."""

    def __init__(self, slo_window: float = 30 * DAY, target: Target = TARGET) -> None:
        self.now = START
        self.windows = Windows(START, slo_window)
        self.target = target
        self.alerts = dict.fromkeys(PAIRS, Alert())
        self.fired: dict[AlertPair, float] = {}
        self.resolved: dict[AlertPair, float] = {}
        self._owed = 0.0

    def run(self, seconds: float, ratio: float, *, every: float = 10.0) -> None:
        """Let a hundred events a second flow, of which a share is bad."""
        until = self.now + seconds
        events = int(100 * every)
        while self.now < until:
            self.now += every
            self._owed += events * ratio
            bad = int(self._owed)
            self._owed -= bad
            self.event(events - bad, bad)

    def event(self, good: int, bad: int) -> None:
        self.windows.good += good
        self.windows.bad += bad
        self.windows.advance(self.now)
        counts = dict(self.windows.items())
        for pair, alert in self.alerts.items():
            reading = read(pair, self.target, self.windows.slo, counts[pair.long], counts[pair.short])
            after = step(alert, reading, self.now)
            if after.state is AlertState.FIRING:
                self.fired.setdefault(pair, self.now)
            if after.state is AlertState.RESOLVED:
                self.resolved.setdefault(pair, self.now)
            self.alerts[pair] = after

    @property
    def firing(self) -> list[AlertPair]:
        return [pair for pair, alert in self.alerts.items() if alert.state is AlertState.FIRING]


def test_factors_are_derived() -> None:
    assert [round(pair.factor(30 * DAY), 4) for pair in PAIRS] == [14.4, 6.0, 3.0, 1.0]
    assert [round(pair.factor(28 * DAY), 4) for pair in PAIRS] == [13.44, 5.6, 2.8, 0.9333]
    assert [pair.severity for pair in PAIRS] == [Severity.PAGE, Severity.PAGE, Severity.TICKET, Severity.TICKET]
    assert PAIRS[0] is FASTEST


@pytest.mark.parametrize(
    ("burn", "pairs"),
    [(1000.0, 4), (14.4 * 1.1, 4), (6 * 1.1, 3), (3 * 1.1, 2), (1.1, 1), (0.9, 0)],
    ids=["outage", "page in an hour", "page in six", "ticket in a day", "ticket in three", "within budget"],
)
def test_exactly_the_pairs_of_the_table_fire_and_in_the_time_of_its_formula(burn: float, pairs: int) -> None:
    """Detection time is factor over burn rate, times the long window (workbook, chapter 5)."""
    replay = Replay()
    replay.run(3.5 * DAY, 0.0, every=60.0)
    began = replay.now
    ratio = burn * TARGET.budget
    replay.run(2 * HOUR, ratio)
    replay.run(3.2 * DAY, ratio, every=60.0)
    expected = PAIRS[len(PAIRS) - pairs :]
    assert set(replay.fired) == set(expected)
    for pair in expected:
        takes = pair.factor(30 * DAY) / burn * pair.long
        late = replay.fired[pair] - began - takes
        assert -pair.long / 25 <= late <= pair.long / 25 + 60, (pair, takes, late)


def test_a_page_clears_when_its_short_window_does() -> None:
    replay = Replay()
    replay.run(2 * HOUR, 0.0)
    replay.run(10 * MINUTE, 1.0)
    assert FASTEST in replay.firing
    ended = replay.now
    replay.run(3 * HOUR, 0.0)
    assert 0 < replay.resolved[FASTEST] - ended <= FASTEST.short + 20
    assert FASTEST not in replay.firing
    assert replay.alerts[FASTEST].state is AlertState.INACTIVE


def test_one_bad_event_at_one_request_a_minute_never_alerts() -> None:
    replay = Replay()
    for minute in range(4 * 24 * 60):
        replay.now += 60.0
        replay.event(int(minute % 1440 != 700), int(minute % 1440 == 700))
        assert not replay.fired, minute


def test_an_outage_with_hardly_any_traffic_is_insufficient_rather_than_a_page() -> None:
    replay = Replay()
    for _ in range(60):
        replay.now += 60.0
        replay.event(0, 1)
    reading = replay.alerts[FASTEST].reading
    assert reading is not None
    assert (reading.long, reading.short) == (None, None)
    assert not reading.exceeds


def test_states_follow_each_other() -> None:
    target, slo = Target(0.99), 30 * DAY
    windows = Windows(START, slo)
    windows.bad = 100
    windows.advance(START)
    counts = dict(windows.items())
    high = read(FASTEST, target, slo, counts[HOUR], counts[300.0])
    low = read(FASTEST, target, slo, Windows(START).count(HOUR), Windows(START).count(300.0))
    assert high.exceeds
    alert = step(Alert(), low, 0.0)
    assert alert.state is AlertState.INACTIVE
    alert = step(alert, high, 1.0)
    assert alert.state is AlertState.PENDING
    assert step(alert, low, 1.5).state is AlertState.INACTIVE
    assert step(alert, high, 1.5).state is AlertState.PENDING
    alert = step(alert, high, 1.0 + PENDING_FOR)
    assert (alert.state, alert.since) == (AlertState.FIRING, 1.0 + PENDING_FOR)
    alert = step(alert, high, 50.0)
    assert (alert.state, alert.since) == (AlertState.FIRING, 1.0 + PENDING_FOR)
    alert = step(alert, low, 60.0)
    assert (alert.state, alert.since) == (AlertState.RESOLVED, 60.0)
    assert step(alert, low, 61.0).state is AlertState.RESOLVED
    assert step(alert, high, 61.0).state is AlertState.PENDING
    assert step(alert, low, 60.0 + RESOLVED_FOR).state is AlertState.INACTIVE
