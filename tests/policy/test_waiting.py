"""Chances of a slot, kinds of requests, headroom and holding back, against slow and obvious versions of each."""

from math import ceil, exp, factorial, inf, sqrt
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.claim import SMALLEST, Claim
from gateway.policy.admission.chance import at_least, chance, patience
from gateway.policy.admission.expected import FRESH, MOST, Expected
from gateway.policy.admission.headroom import MEMORY, Holders
from gateway.policy.admission.hold import held_below
from gateway.policy.admission.kinds import FEWEST, FEWEST_ANSWERS, SAMPLES, Kind, Kinds

seconds = st.floats(0.001, 1000)


def known(*times: float) -> Kind:
    kind = Kind()
    for each in times:
        kind.ended(each)
    return kind


@given(st.lists(seconds, min_size=FEWEST, max_size=600), seconds, seconds)
def test_how_long_a_slot_is_still_held_is_counted_among_those_that_lasted_as_long(
    times: list[float], age: float, within: float
) -> None:
    kind = known(*times)
    kind.ends_within(0.0, 1.0)
    latest = times[-SAMPLES:] if len(times) > SAMPLES else times
    if len(times) % 8 == 0 or len(times) < 8:
        longer = [each for each in latest if each > age]
        ended = [each for each in longer if each <= age + within]
        expected = len(ended) / len(longer) if len(longer) >= FEWEST else 1 - (age / (age + within)) ** 1.5
        assert kind.ends_within(age, within) == pytest.approx(expected)
    assert 0 <= kind.ends_within(age, within) <= 1
    assert kind.ends_within(age, within) <= kind.ends_within(age, 2 * within) + 1e-12
    assert kind.is_known


def test_a_slow_spell_is_not_how_long_they_usually_last() -> None:
    assert Kind().usual == 0.0
    assert known(2.0, 4.0).usual > 0, "a few are better than none"
    kind = known(*[1.0] * SAMPLES, *[10.0] * 100)
    assert kind.mean > 9
    assert kind.usual == 1.0
    for _ in range(SAMPLES):
        kind.ended(10.0)
    assert kind.usual == 10.0, "what lasts is usual"


def test_the_first_of_few_weighs_no_more_than_the_others() -> None:
    kind = Kind()
    for seconds in (30.0, 1.0, 1.0, 1.0, 1.0):
        kind.ended(seconds)
    assert kind.mean == pytest.approx(34 / 5), "a cold engine was slow once"


def test_only_the_latest_count() -> None:
    kind = known(*[100.0] * SAMPLES, *[1.0] * SAMPLES)
    assert kind.ends_within(0.5, 1.0) == 1.0


def test_beyond_what_was_seen_what_took_long_goes_on_for_long() -> None:
    kind = known(*[1.0] * 50)
    assert kind.ends_within(0.5, 0.6) == 1.0
    assert kind.ends_within(10.0, 0.0) == 0.0
    assert 0 < kind.ends_within(100.0, 1.0) < kind.ends_within(10.0, 1.0) < 0.2
    assert not Kind().is_known
    assert repr(kind) == "<Kind held for 1.00 s, answers up to None>"


def test_the_longest_answer_is_what_nine_in_ten_do_not_exceed() -> None:
    kind = Kind()
    for tokens in range(1, FEWEST_ANSWERS):
        kind.answered(tokens)
    assert kind.longest is None, "too few"
    kind.answered(FEWEST_ANSWERS)
    assert kind.longest == 45
    for _ in range(2000):
        kind.answered(300)
    assert kind.longest == 300


def test_of_an_unknown_kind_room_is_kept_for_four_usual_answers_or_the_longest_so_far() -> None:
    kind = Kind()
    assert kind.room(32_000, usual=256) == 4 * 256
    assert kind.room(100, usual=256) == 100
    kind.answered(3000)
    kind.answered(20)
    assert kind.room(32_000, usual=256) == 3000
    for _ in range(FEWEST_ANSWERS):
        kind.answered(300)
    assert kind.room(32_000, usual=9000) == 300, "now it is known"


def test_kinds_go_by_endpoint_class_and_steps_of_four_of_max_tokens() -> None:
    kinds = Kinds()
    one = kinds.of("/v1/chat/completions", "batch", 1000)
    assert kinds.of("/v1/chat/completions", "batch", 800) is one
    others: list[tuple[str, str, int | None]] = [
        ("/v1/completions", "batch", 1000),
        ("/v1/chat/completions", "standard", 1000),
        ("/v1/chat/completions", "batch", None),
        ("/v1/chat/completions", "batch", 100),
    ]
    for key in others:
        assert kinds.of(*key) is not one
    assert kinds.of("x", "y", 10**300) is kinds.of("x", "y", 10**200)


@given(st.integers(1, 30), st.floats(0, 60))
def test_the_tail_of_a_poisson_variable(count: int, mean: float) -> None:
    below = sum(exp(-mean) * mean**each / factorial(each) for each in range(count))
    assert at_least(count, mean) == pytest.approx(1 - below, abs=1e-9)


@given(st.integers(33, 2000), st.floats(0.2, 3))
def test_far_out_the_tail_is_near_enough(count: int, ratio: float) -> None:
    mean = ratio * count
    drawn = Random(1)
    term, below = exp(-mean / 2) if mean < 1400 else 0.0, 0.0
    if term:
        scale = exp(-mean / 2)
        for each in range(count):
            below += term * scale
            term *= mean / (each + 1)
        assert at_least(count, mean) == pytest.approx(1 - below, abs=0.01)
    assert at_least(count, mean) <= at_least(count, mean * (1 + drawn.random())) + 1e-12


def test_nothing_comes_free_of_nothing() -> None:
    assert at_least(1, 0.0) == 0.0
    assert chance(0, 0.0, 10.0, lambda _: 0.0) == 0.0


@given(st.integers(0, 40), st.floats(0.5, 20), st.integers(1, 20), st.integers(0, 5))
def test_the_chance_is_that_enough_slots_come_free(ahead: int, wait: float, slots: int, seed: int) -> None:
    """Beside slots that are really held one time after the other: exponentially, as far as one can tell."""
    rng = Random(seed)
    holding = 2.0
    mean = slots * wait / holding
    enough = chance(ahead, holding, wait, lambda seconds: slots * (1 - exp(-seconds / holding)))
    assert enough == pytest.approx(at_least(ahead + 1, mean), abs=0.05)
    runs = 300
    seen = 0
    for _ in range(runs):
        at, count = rng.expovariate(slots / holding), 0
        while at < wait:
            at, count = at + rng.expovariate(slots / holding), count + 1
        seen += count > ahead
    assert enough == pytest.approx(seen / runs, abs=0.15)


def test_a_long_line_before_few_slots_is_hopeless_and_a_short_one_is_not() -> None:
    def expected(seconds: float) -> float:
        return min(4.0, 4.0 * seconds / 8.0)

    assert chance(0, 0.0, 4.0, expected) > 0.8
    assert chance(3, 8.0, 9.75, expected) > 0.5
    assert chance(30, 8.0, 9.75, expected) < 0.001
    assert chance(0, 8.0, 0.0, expected) == 0.0


def test_the_slowest_of_answers_in_one_piece_is_known_after_fifty() -> None:
    kind = Kind()
    for _ in range(FEWEST_ANSWERS - 1):
        kind.completed(2.0)
    assert kind.slowest is None
    kind.completed(8.0)
    assert kind.slowest == 8.0
    for _ in range(100):
        kind.completed(1.0)
    assert kind.slowest == pytest.approx(8.0 * 0.99**100), "it is forgotten slowly"


def test_patience() -> None:
    assert patience(2.0, 0.0) == 2.0, "as its class does"
    assert patience(2.0, 60.0) == 30.0, "half as long as it will hold its slot"
    assert patience(10.0, 60.0, threshold=2.0) == 30.0, "a class that waits beyond its threshold is patient"
    assert patience(2.0, 60.0, threshold=2.0, ttft=0.1) == pytest.approx(1.75), (
        "one that does not keeps room for the engine"
    )
    assert patience(2.0, 60.0, threshold=2.0, ttft=1.0) == 1.0
    assert patience(0.5, 0.0, threshold=2.0, ttft=0.1) == 0.5
    assert patience(2.0, 1.0, threshold=2.0, ttft=2.5) == 2.0, (
        "an engine that is slower than the threshold is waited for all the same"
    )
    assert patience(2.0, 1.0, threshold=inf) == 2.0


def test_what_is_expected_is_the_sum_of_every_slots_own_chance() -> None:
    fast, slow = known(*[1.0 + each / 100 for each in range(40)]), known(*[60.0 + each for each in range(40)])
    holders = [Holders(), Holders()]
    for each in holders:
        for _ in range(5):
            each.took(Claim(1, 0, kind=fast), 0.0)
            each.took(Claim(1, 20, kind=slow), 0.0)
    expected = Expected()
    expected.look(holders, 1.0)
    assert expected.is_known
    assert expected(1.0) == expected(1.0) == pytest.approx(10.0)
    assert expected(0.01) < 1.0
    assert expected.pace == 0.0, "nothing is slow"
    holders[0].took(Claim(), 1.0)
    expected.look(holders, 1.0 + FRESH / 2)
    assert expected.is_known, "what was reckoned holds for a moment"
    expected.look(holders, 1.0 + 2 * FRESH)
    assert not expected.is_known, "of one kind nothing is known"
    assert SMALLEST.kind.ends_within(1.0, 1.0) == 1.0


def test_of_many_slots_a_sample_stands_for_all() -> None:
    kind = known(*[1.0] * 40)
    holders = Holders()
    for _ in range(10 * MOST):
        holders.took(Claim(1, 0, kind=kind), 0.0)
    expected = Expected()
    expected.look([], -1.0)
    assert not expected.is_known
    expected.look([holders], 0.5)
    assert expected(1.0) == pytest.approx(10 * MOST)
    expected.look([holders], 5.5)
    assert expected.pace == pytest.approx(10 * MOST), "held for far longer than usual"


def settle(holders: Holders, now: float = 100.0) -> None:
    for _ in range(400):
        holders.tick(now, 0.25)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 256))
@example(2, 1, 4)
@example(60, 2, 64)
def test_slots_stay_free_for_higher_classes(high: int, low: int, limit: int) -> None:
    holders = Holders()
    for priority, count in ((0, high), (20, low)):
        for _ in range(count):
            holders.took(Claim(1, priority, sheddable=priority > 0), 100.0)
    settle(holders)
    kept = ceil(2 * sqrt(high + 1)) if high else 0
    if limit <= 4:
        kept = min(kept, 1)
    batch = Claim(1, 20, sheddable=True)
    in_flight = high + low
    if in_flight < limit:
        expected = limit - in_flight > kept or low < max(1, 0.05 * limit)
        assert holders.allows(batch, in_flight, limit) == expected
        assert holders.wanted == (not expected)
        assert holders.allows(Claim(1, 0), in_flight, limit)
        assert holders.allows(batch, in_flight, limit) == expected, "it is the same when asked again"


def test_a_class_that_is_not_sheddable_is_kept_from_slots_only_where_it_lasts_ten_times_as_long() -> None:
    for times, kept in ((9.0, 0), (11.0, 2)):
        holders = Holders()
        short, long = known(1.0), known(times)
        for _ in range(3):
            holders.took(Claim(1, 0, kind=short), 0.0)
            holders.took(Claim(1, 10, kind=long), 0.0)
        settle(holders)
        assert holders.kept_free(Claim(1, 10, kind=long)) == kept
        assert holders.kept_free(Claim(1, 5, kind=long)) == 0, "never seen here: nothing is known"
    assert Holders().kept_free(Claim(1, 10)) == 0


@pytest.mark.parametrize(("every", "kept"), [(20.0, 0), (2.0, 1)])
def test_no_slot_is_kept_for_fewer_requests_than_it_would_serve_meanwhile(every: float, kept: int) -> None:
    """A monitor's ping each 20 s took one of two slots from answers of 14 s, of which a quarter were refused."""
    holders, ping = Holders(), known(0.1)
    chat = Claim(1, 10, kind=known(14.0))
    holders.took(chat, 0.0)
    holders.tick(0.0, 0.0)
    for step in range(4 * 600):
        if step % (4 * every) == 0:
            held = Claim(1, 0, kind=ping)
            holders.took(held, step / 4)
            holders.released(held)
        holders.tick(step / 4, 0.25)
        if step > 4 * 60:
            assert holders.kept_free(Claim(1, 10, kind=chat.kind)) == kept


def test_a_class_counts_for_a_minute_after_it_was_seen() -> None:
    holders = Holders()
    one, other = Claim(1, 0), Claim(1, 20, sheddable=True)
    holders.took(one, 0.0)
    holders.took(other, 0.0)
    assert holders.mixed
    assert holders.holds_below(10)
    assert repr(holders) == "<Holders {0: 1, 20: 1}>"
    holders.released(one)
    holders.tick(MEMORY, 0.25)
    assert holders.priorities == {0, 20}
    holders.tick(MEMORY + 0.25, 0.25)
    assert (holders.priorities, holders.mixed) == ({20}, False)
    holders.released(other)
    assert not holders.holds_below(10)


def test_a_place_is_kept_by_name() -> None:
    holders = Holders()
    large, small, higher = Claim(900, 10), Claim(1, 10), Claim(1, 0)
    holders.kept_for = large
    assert [holders.allows(each, 1, 8) for each in (large, small, higher)] == [True, False, False]
    holders.gently = True
    assert [holders.allows(each, 1, 8) for each in (large, small, higher)] == [True, False, True]
    holders.took(large, 0.0)
    assert holders.kept_for is None
    assert repr(large) == "<Claim 900 tokens at priority 10>"


@given(
    st.sets(st.sampled_from([0, 10, 20])),
    st.sets(st.sampled_from([0, 10, 20])),
    st.sets(st.sampled_from([0, 10, 20])),
    st.booleans(),
)
def test_a_class_is_held_back_only_where_that_helps_one_that_burns(
    burning: set[int], waiting: set[int], seen: set[int], engine_queues: bool
) -> None:
    present = waiting | seen
    below = held_below(burning, waiting, present, engine_queues=engine_queues)
    for priority in (0, 10, 20):
        held = below is not None and priority > below
        helped = any(
            each in burning and (each in waiting or (engine_queues and each in present))
            for each in (0, 10, 20)
            if each < priority
        )
        assert held == helped
