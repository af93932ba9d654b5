"""Quotas, limits, predicted waits, and who is turned away."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.admission.decide import LONGEST_RETRY_AFTER, predicted_wait, retry_after
from gateway.policy.admission.limit import (
    BY_WORD,
    DECREASE,
    FIRST,
    JUDGED,
    LEAST,
    LOADED,
    MOST,
    AdaptiveLimit,
    Seen,
    is_late,
)
from gateway.policy.admission.quota import Bucket, Exceeded, Quota, QuotaLimits


@given(
    st.integers(1, 1000),
    st.integers(1, 100_000),
    st.integers(1, 20),
    st.lists(st.tuples(st.floats(0, 20), st.integers(1, 3000), st.integers(0, 3000), st.booleans()), max_size=60),
)
def test_a_quota_never_grants_more_than_a_minutes_worth_and_what_flows_in(
    requests: int, tokens: int, concurrent: int, rows: list[tuple[float, int, int, bool]]
) -> None:
    quota = Quota(QuotaLimits(requests, tokens, concurrent), 0.0)
    now, granted, charged = 0.0, 0, 0.0
    held: list[tuple[int, int]] = []
    for pause, asked, used, ends in rows:
        now += pause
        denied = quota.reserve(asked, now)
        if denied is None:
            granted += 1
            charged += asked
            held.append((asked, min(used, asked)))
        elif denied.retry_after is None:
            assert asked > tokens
        else:
            assert denied.retry_after >= 1
        if ends and held:
            reserved, spent = held.pop(0)
            quota.settle(reserved, spent)
            charged -= reserved - spent
        assert quota.in_flight == len(held) <= concurrent
        assert granted <= requests * (1 + now / 60) + 1e-6
        assert charged <= tokens * (1 + now / 60) + 1e-6
    while held:
        quota.settle(*held.pop())
    assert quota.in_flight == 0


def test_each_limit_is_named_with_when_to_come_again() -> None:
    quota = Quota(QuotaLimits(2, 100, 1), 0.0)
    assert quota.reserve(60, 0.0) is None
    denied = quota.reserve(10, 0.0)
    assert denied is not None
    assert (denied.limit, denied.allowed, denied.asked, denied.retry_after) == (Exceeded.CONCURRENT, 1, 2, 1)
    quota.settle(60, 60)
    denied = quota.reserve(60, 0.0)
    assert denied is not None
    assert (denied.limit, denied.allowed, denied.retry_after) == (Exceeded.TOKENS, 100, 12)
    denied = quota.reserve(101, 0.0)
    assert denied is not None
    assert denied.retry_after is None
    assert quota.reserve(40, 0.0) is None
    quota.settle(40, 500)
    denied = quota.reserve(1, 0.0)
    assert denied is not None
    assert denied.limit is Exceeded.REQUESTS
    assert quota.requests is not None
    assert quota.requests.reset == 60.0
    assert repr(quota) == "<Quota 0 in flight, <Bucket 0.0 of 2>, <Bucket -460.0 of 100>>"


def test_what_is_unused_is_a_share_of_each_limit() -> None:
    assert Quota(QuotaLimits(), 0.0).unused(0.0) == []
    quota = Quota(QuotaLimits(None, 100, 4), 0.0)
    assert quota.reserve(60, 0.0) is None
    assert quota.unused(0.0) == [(Exceeded.TOKENS, 0.4), (Exceeded.CONCURRENT, 0.75)]
    quota.settle(60, 250)
    assert quota.unused(0.0) == [(Exceeded.TOKENS, 0.0), (Exceeded.CONCURRENT, 1.0)], "0 in debt"


def test_without_limits_everything_is_granted() -> None:
    quota = Quota(QuotaLimits(), 0.0)
    for _ in range(1000):
        assert quota.reserve(10**9, 0.0) is None
    assert quota.in_flight == 1000
    quota.settle(10**9, 1)
    quota.follow(QuotaLimits(concurrent=1), 0.0)
    assert quota.in_flight == 999
    assert quota.reserve(1, 0.0) is not None


def test_time_that_runs_back_fills_no_bucket() -> None:
    bucket = Bucket(60, 100.0)
    bucket.level = 10.0
    bucket.refill(50.0)
    assert bucket.level == 10.0
    bucket.refill(110.0)
    assert bucket.level == 20.0
    assert bucket.wait(21.0) == 1.0


@given(st.integers(0, 1000), st.just(0.0) | st.floats(0.001, 1000), st.floats(0, 0.999))
def test_a_predicted_wait_is_never_negative(ahead: int, rate: float, chance: float) -> None:
    wait = predicted_wait(ahead, rate)
    assert wait >= 0
    assert (wait == 0) == (rate == 0)
    assert 1 <= retry_after(wait, chance) <= LONGEST_RETRY_AFTER


def test_the_refused_retry_at_different_times() -> None:
    rng = Random(1)
    seconds = [retry_after(20.0, rng.random()) for _ in range(100)]
    assert min(seconds) <= 12
    assert max(seconds) >= 28


@given(st.floats(0.001, 100), st.floats(0.001, 100), st.floats(0.001, 100))
def test_only_load_makes_late(seconds: float, threshold: float, idle: float) -> None:
    assert is_late(seconds, threshold, idle) == (seconds > max(threshold, LOADED * idle))


ticks = st.lists(
    st.tuples(st.integers(0, 600), st.integers(0, 3), st.integers(0, 50), st.floats(0, 1), st.floats(0.2, 2)),
    max_size=100,
)


@given(ticks, st.floats(LEAST, MOST))
def test_a_limit_keeps_its_bounds_and_falls_once_a_second_at_most(
    rows: list[tuple[int, int, int, float, float]], first: float
) -> None:
    limit, now, fallen = AdaptiveLimit(first), 0.0, float("-inf")
    for in_flight, queued, begun, late, pause in rows:
        now += pause
        before = limit.value
        limit.tick(Seen(in_flight, queued, begun, int(late * begun)), now)
        assert LEAST <= limit.value <= MOST
        if limit.value < before:
            assert now - fallen >= 1.0
            assert limit.value <= DECREASE * before or limit.value == LEAST
            fallen = now
        if limit.value > before:
            assert in_flight >= 0.9 * before


def test_a_limit_doubles_until_the_first_congestion_and_then_feels_its_way() -> None:
    limit = AdaptiveLimit()
    limit.tick(Seen(FIRST, begun=FIRST), 0.0)
    assert limit.value == 2 * FIRST
    limit.tick(Seen(2 * FIRST, queued=2), 1.0)
    assert limit.value == pytest.approx(2 * FIRST * DECREASE)
    assert limit.reason == "the engine queues requests itself"
    value = limit.value
    limit.tick(Seen(int(value), begun=100), 2.0)
    assert limit.value == value + 1
    limit.tick(Seen(int(value) + 1, begun=1), 2.5)
    limit.tick(Seen(int(value) - 50), 2.7)
    value = limit.value
    limit.tick(Seen(int(value), begun=9 * JUDGED, late=9 * JUDGED), 3.0)
    assert limit.reason == f"{9 * JUDGED} of {9 * JUDGED + 1} first tokens came late"
    assert repr(limit).startswith("<AdaptiveLimit 4") or limit.value < value


@pytest.mark.parametrize("rate", [300, 1000, 10_000])
def test_a_thousand_long_streams_at_an_idle_engine_are_let_in_within_seconds(rate: int) -> None:
    """First tokens count as well before the limit is in use."""
    limit, begun, now = AdaptiveLimit(), 0, 0.0
    while begun < 1000:
        now += 0.25
        new = min(1000, int(rate * now), int(limit.value)) - begun
        begun += new
        limit.tick(Seen(begun, begun=new), now)
    assert now <= 3.0 + 1000 / rate


def test_a_limit_doubles_while_first_tokens_are_awaited_if_the_engine_says_that_it_runs_them_all() -> None:
    limit = AdaptiveLimit()
    limit.tick(Seen(FIRST, running=FIRST - 5), 0.0)
    assert limit.value == FIRST + 1, "some of them are not begun"
    for value in (64, 128, BY_WORD):
        limit = AdaptiveLimit(value / 2)
        limit.tick(Seen(value // 2, running=value / 2), 0.0)
        assert limit.value == value
    limit.tick(Seen(BY_WORD, running=BY_WORD), 1.0)
    assert limit.value == BY_WORD + 1, "beyond, only first tokens tell"
    limit.tick(Seen(BY_WORD + 1, queued=2), 2.0)
    last = limit.value
    limit.tick(Seen(int(last), running=last), 3.0)
    assert limit.value == last + 1, "it is not new any more"


def test_an_engines_word_counts_only_until_first_tokens_come() -> None:
    limit = AdaptiveLimit()
    limit.tick(Seen(FIRST, begun=1), 0.0)
    limit.tick(Seen(FIRST + 1, running=FIRST + 1), 0.25)
    assert limit.value == FIRST + 2, "first tokens come, and tell better"
    limit.tick(Seen(4), 0.5)
    limit.tick(Seen(FIRST + 2, running=FIRST + 2), 0.75)
    assert limit.value == 2 * (FIRST + 2), "another burst"


def test_a_limit_falls_at_once_to_what_an_engine_bore_that_says_it_is_busy() -> None:
    limit = AdaptiveLimit(256)
    limit.tick(Seen(40, borne=12), 0.0)
    assert (limit.value, limit.reason) == (12.0, "the engine was busy beside 12 requests")
    limit.tick(Seen(20, borne=11), 0.25)
    assert limit.value == 11.0, "a second refusal is not put off"
    limit.tick(Seen(30, borne=25), 0.5)
    assert limit.value == 11.0, "never upwards"
    limit.tick(Seen(11), 0.75)
    assert limit.value == 12.0
    limit.tick(Seen(12, borne=0), 1.0)
    assert limit.value == LEAST


@pytest.mark.parametrize("most", [1, 4])
def test_a_limit_that_routes_fix_comes_back_to_it_and_never_goes_beyond(most: int) -> None:
    limit = AdaptiveLimit(most, most=most)
    assert limit.value == most
    limit.tick(Seen(most, borne=0), 0.0)
    assert limit.value == min(most, LEAST)
    for now in range(1, 10):
        limit.tick(Seen(int(limit.value)), float(now))
    assert limit.value == most


def test_what_was_let_in_before_is_not_held_against_a_lower_limit() -> None:
    limit = AdaptiveLimit(100.0)
    limit.tick(Seen(100, queued=2), 0.0)
    limit.tick(Seen(100, queued=9), 5.0)
    assert limit.value == 90.0
    limit.tick(Seen(90, queued=9), 6.0)
    assert limit.value == 81.0


def test_the_queue_of_a_stalled_engine_says_nothing_of_what_it_bears() -> None:
    limit = AdaptiveLimit()
    limit.tick(Seen(4, begun=1, worked_at=0.0), 0.0)
    for now in range(1, 30):
        limit.tick(Seen(min(FIRST, 4 + now), queued=now, worked_at=0.0), float(now))
    assert limit.value == FIRST
    limit.tick(Seen(FIRST, queued=30, worked_at=30.0), 30.5)
    assert limit.value == FIRST * DECREASE, "it works, and queues all the same"
    limit.tick(Seen(20, queued=32, worked_at=30.0), 32.0)
    assert limit.value == FIRST * DECREASE, "it has not shown yet what it does under the new limit"
    limit.tick(Seen(20, queued=33, worked_at=32.5), 33.0)
    assert limit.value == FIRST * DECREASE**2


def test_a_limit_that_is_not_in_use_stays() -> None:
    limit = AdaptiveLimit(100.0)
    for now in range(100):
        limit.tick(Seen(50, begun=5), float(now))
    assert limit.value == 100.0
