"""Throughput is judged while requests wait, and at no other time: too little demand burns no budget."""

from collections import deque
from collections.abc import Callable

import pytest

from gateway.policy.slo.burn import Counts
from gateway.policy.slo.following import ModelSubjects
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import THROUGHPUT, Objective, Sli, Target, Throughput
from gateway.policy.slo.series import Kind
from gateway.policy.slo.throughput import LONGEST, SETTLING, SLOT, STEPS, Part, ThroughputMeter
from gateway.policy.slo.words import missed_words

FLOOR = Throughput(Target(0.95), tokens=500.0)


def judged(meter: ThroughputMeter, now: float) -> Counts:
    """Let a process be judged that answers alone."""
    for _ in meter.over(now):
        pass
    return meter.judge(now)


class Engine:
    """Answers so many requests at a time, each at `speed(now)` tokens/s; the rest wait. Time goes on by 0.1 s."""

    def __init__(self, places: int, speed: Callable[[float], float], tokens: int = 100) -> None:
        self.now = 0.0
        self.waiting: deque[None] = deque()
        self.meter = ThroughputMeter(FLOOR, lag=600.0)
        self.found = Counts()
        self._places, self._speed, self._tokens = places, speed, tokens
        self._busy: list[tuple[float, float]] = []
        """When each began, and how many tokens it lacks."""

    def run(self, seconds: float, arrivals: Callable[[float], int] = lambda _: 0) -> Counts:
        """Go on for so long, with so many arrivals in each second; return what was judged since the start."""
        for step in range(round(seconds * 10)):
            if step % 10 == 0:
                self.waiting.extend([None] * arrivals(self.now))
            self._work()
            if step % 10 == 0:
                self.meter.look(self.now, len(self.waiting), 1)
                self.found += judged(self.meter, self.now)
            self.now += 0.1
        return self.found

    def _work(self) -> None:
        done = self._speed(self.now) * 0.1
        self._busy = [(began, lacks - done) for began, lacks in self._busy]
        for began, lacks in self._busy:
            if lacks <= 0:
                self.meter.answered(began, self.now, self._tokens)
        self._busy = [each for each in self._busy if each[1] > 0]
        while self.waiting and len(self._busy) < self._places:
            self.waiting.popleft()
            self._busy.append((self.now, float(self._tokens)))

    def ended(self) -> Counts:
        """Let everything be judged."""
        return self.run(700.0 + SLOT + SETTLING)


def fast(_: float) -> float:
    return 50.0


def test_a_quiet_service_burns_nothing() -> None:
    assert Engine(20, fast).ended() == Counts()


def test_a_single_long_request_burns_nothing() -> None:
    engine = Engine(20, fast, tokens=15_000)
    engine.run(300, lambda now: int(now == 0))
    assert engine.ended() == Counts()


@pytest.mark.parametrize("speed", [50.0, 5.0])
def test_demand_that_is_merely_low_burns_nothing_on_fast_engines_and_slow_ones(speed: float) -> None:
    engine = Engine(20, lambda _: speed)
    engine.run(600, lambda now: int(round(now) % 5 == 0))
    assert engine.ended() == Counts()


def test_short_bursts_burn_nothing_and_long_ones_are_good_where_engines_keep_up() -> None:
    engine = Engine(20, fast)
    engine.run(600, lambda now: 60 if round(now) % 120 == 0 else 0)
    assert engine.ended() == Counts()
    engine = Engine(20, fast)
    engine.run(600, lambda now: 600 if round(now) % 120 == 0 else 0)
    found = engine.ended()
    assert found.bad == 0
    assert found.good >= 5 * 4


@pytest.mark.parametrize("tokens", [20, 100, 6_000], ids=["short", "usual", "two minutes each"])
def test_a_queue_in_front_of_engines_that_do_enough_is_good_however_long_answers_are(tokens: int) -> None:
    engine = Engine(20, fast, tokens)
    engine.run(600, lambda now: 100_000 if now == 0 else 0)
    engine.waiting.clear()
    found = engine.ended()
    assert found.bad == 0
    assert found.good >= 58


def test_a_queue_in_front_of_slow_engines_burns() -> None:
    engine = Engine(20, lambda _: 20.0)
    engine.run(600, lambda _: 20)
    engine.waiting.clear()
    found = engine.ended()
    assert found.good == 0
    assert found.bad >= 58


def test_a_fault_burns_from_when_it_began() -> None:
    engine = Engine(20, lambda now: 50.0 if now < 300 else 20.0)
    engine.run(600, lambda _: 20)
    engine.waiting.clear()
    found = engine.ended()
    assert 28 <= found.good <= 31
    assert 27 <= found.bad <= 31


def test_one_request_that_waits_for_a_place_of_its_own_size_burns_nothing() -> None:
    meter = ThroughputMeter(FLOOR, 60.0)
    for second in range(200):
        meter.look(float(second), 1, 1)
    assert judged(meter, 1000.0) == Counts()


def test_a_slot_that_nobody_looked_at_for_some_of_its_time_says_nothing() -> None:
    meter = ThroughputMeter(FLOOR, 60.0)
    for second in range(8):
        meter.look(float(second), 10, 1)
    assert judged(meter, 1000.0) == Counts()


def test_a_slot_is_judged_once_and_not_before_every_answer_that_had_a_part_in_it_is_over() -> None:
    meter = ThroughputMeter(FLOOR, 5000.0)
    look(meter)
    assert [*meter.over(LONGEST + SLOT - 0.1)] == []
    meter.answered(0.0, LONGEST, 1_000_000)
    assert [*meter.over(LONGEST + SLOT)] == [Part(int(LONGEST // SLOT), (10,) * STEPS, 11_111, 11)]
    assert [*meter.over(LONGEST + SLOT)] == []
    assert meter.judge(LONGEST + SLOT + SETTLING - 0.1) == Counts()
    assert meter.judge(LONGEST + SLOT + SETTLING) == Counts(1, 0)
    assert meter.judge(LONGEST + SLOT + SETTLING) == Counts()
    meter.answered(0.0, LONGEST + SLOT, 10)
    assert repr(meter) == "<ThroughputMeter 91 slots>"


def look(meter: ThroughputMeter, waiting: int = 10, processes: int = 1, seconds: int = 10) -> None:
    for second in range(seconds):
        meter.look(float(second), waiting, processes)


def shared(*meters: ThroughputMeter, now: float = 70.0) -> Counts:
    """Let processes tell each other their parts; return what the first one judges then."""
    parts = [list(meter.over(now)) for meter in meters]
    for part in (each for of_process in parts[1:] for each in of_process):
        for step, fewest in enumerate(part.waiting, part.slot * STEPS):
            if fewest >= 0:
                meters[0].waited(step, fewest, 1)
        meters[0].done(part.slot, part.tokens, part.requests)
    return meters[0].judge(now + SETTLING)


def test_what_several_processes_did_together_is_judged_where_requests_waited_at_any_of_them() -> None:
    meters = [ThroughputMeter(FLOOR, 60.0) for _ in range(2)]
    for meter in meters:
        look(meter, waiting=1, processes=2)
        meter.answered(0.0, 9.0, 2_600)
    assert shared(*meters) == Counts(1, 0), "260 tokens/s each, and 500 are enough"
    for meter in meters:
        meter.answered(61.0, 62.0, 10)
    assert shared(*meters, now=130.0) == Counts(), "at no time did any of them look"


def test_two_processes_that_do_too_little_together_burn_once() -> None:
    meters = [ThroughputMeter(FLOOR, 60.0) for _ in range(2)]
    for meter, waiting in zip(meters, (0, 5), strict=True):
        look(meter, waiting, processes=2)
        meter.answered(0.0, 9.0, 2_400)
    assert shared(*meters) == Counts(0, 1)


def test_a_slot_of_which_a_process_has_not_told_says_nothing() -> None:
    for late in (0, 5):
        meters = [ThroughputMeter(FLOOR, 60.0) for _ in range(2)]
        look(meters[0], processes=2)
        look(meters[1], processes=2, seconds=late)
        assert shared(*meters) == Counts()
    unknown = ThroughputMeter(FLOOR, 60.0)
    look(unknown, processes=0)
    assert shared(unknown) == Counts(), "how many there are is not known"
    ended = ThroughputMeter(FLOOR, 60.0)
    look(ended, processes=2)
    assert shared(ended) == Counts(), "one of them has ended, and with it what it did"


def test_what_is_told_too_late_changes_nothing() -> None:
    meter = ThroughputMeter(FLOOR, 60.0)
    look(meter)
    assert shared(meter) == Counts(0, 1)
    for step in range(STEPS):
        meter.waited(6 * STEPS + step, 10, 1)
    meter.done(6, 100_000, 1_000)
    assert meter.judge(200.0) == Counts()


def test_both_floors_have_to_be_reached() -> None:
    both = Throughput(Target(0.95), tokens=100.0, requests=2.0)
    assert both.is_met(100.0, 2.0)
    assert not both.is_met(99.0, 2.0)
    assert not both.is_met(100.0, 1.9)


def test_an_objective_with_a_throughput_has_a_series_for_it_and_is_told_in_words() -> None:
    objective = Objective("offline", {Sli.AVAILABILITY: Target(0.99)}, throughput=FLOOR)
    ledger = SloLedger(0.0)
    ledger.follow([ModelSubjects("m", [objective], {"v1": ["gpu"]})], {"gpu": ["gpu/a:1"]}, 0.0)
    (series,) = [each for each in ledger.get(Kind.MODEL, "m") if each.sli == THROUGHPUT]
    assert (series.target, series.objective) == (Target(0.95), "offline")
    assert missed_words(THROUGHPUT, Counts(3, 1), 3600.0).startswith(
        "1 of 4 slots of 10 s with requests waiting missed"
    )
