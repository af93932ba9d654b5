"""Quotas that processes share: as those of one process, whichever of them is asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.admission.quota import Exceeded, Quota, QuotaLimits
from gateway.shared.quota import News, Owing
from tests.shared.columns import quota_of
from tests.shared.stepping import SteppedMemory

START = 1_000.0


class Clocked:
    """Processes that share one tenant, and the time."""

    def __init__(self, processes: int, limits: QuotaLimits) -> None:
        self.memory = SteppedMemory(processes)
        self.tables = [self.memory.join() for _ in range(processes)]
        self.quotas = []
        self.owing = []
        for table in self.tables:
            quota, owing = Quota(limits, START), Owing()
            quota.shared = quota_of(table, owing=owing)
            self.quotas.append(quota)
            self.owing.append(owing)

    def tick(self, now: float) -> None:
        """Have all charge what they owe, as they do a few times a second."""
        for table, owing in zip(self.tables, self.owing, strict=True):
            table.beat(now)
            owing.pay(now)


@given(
    st.none() | st.integers(1, 1000),
    st.none() | st.integers(1, 100_000),
    st.integers(1, 20),
    st.lists(
        st.tuples(st.integers(0, 2), st.floats(0, 20), st.integers(1, 3000), st.integers(0, 3000), st.booleans()),
        max_size=40,
    ),
)
def test_several_processes_grant_what_one_would(
    requests: int | None, tokens: int | None, concurrent: int, rows: list[tuple[int, float, int, int, bool]]
) -> None:
    limits = QuotaLimits(requests, tokens, concurrent)
    one, shared = Quota(limits, START), Clocked(3, limits)
    now = START
    held: list[tuple[int, int, int]] = []
    for process, pause, asked, used, ends in rows:
        now += pause
        for table in shared.tables:
            table.beat(now)
        quota = shared.quotas[process]
        denied, expected = quota.reserve(asked, now), one.reserve(asked, now)
        assert (denied is None) == (expected is None)
        if denied is None:
            held.append((process, asked, min(used, asked)))
        elif expected is not None:
            assert (denied.limit, denied.asked) == (expected.limit, expected.asked)
        if ends and held:
            holder, reserved, spent = held.pop(0)
            shared.quotas[holder].settle(reserved, spent)
            one.settle(reserved, spent)
        left, expected_left = quota.left(now), one.left(now)
        assert [each is None for each in left] == [each is None for each in expected_left]
        assert [each or 0.0 for each in left] == pytest.approx([each or 0.0 for each in expected_left], abs=0.01)
        assert [each.own for each in shared.quotas] == [sum(row[0] == place for row in held) for place in range(3)]
        assert one.in_flight == len(held)


@given(
    st.none() | st.integers(1, 30_000),
    st.none() | st.integers(1, 3_000_000),
    st.lists(
        st.tuples(st.integers(0, 2), st.floats(0, 0.02), st.integers(1, 300), st.integers(0, 400), st.integers(1, 400)),
        max_size=30,
    ),
)
def test_without_a_limit_of_requests_at_once_little_more_is_granted_and_all_agree_once_they_have_charged(
    requests: int | None, tokens: int | None, rows: list[tuple[int, float, int, int, int]]
) -> None:
    """While much is left, a process charges a few requests together: at most a 128th of it is not charged yet."""
    limits = QuotaLimits(requests, tokens)
    shared = Clocked(3, limits)
    now = ticked = START
    granted = 0
    for process, pause, asked, used, times in rows:
        now += pause
        if now - ticked > 0.25:
            ticked = now
            shared.tick(now)
        quota = shared.quotas[process]
        for _ in range(times):
            if quota.reserve(asked, now) is None:
                quota.settle(asked, used)
                granted += 1
    if requests is not None:
        assert granted <= requests * (1 + 1 / 128 + (now - START) / 60)
    shared.tick(now)
    for left in zip(*(quota.left(now) for quota in shared.quotas), strict=True):
        levels = [each for each in left if each is not None]
        assert not levels or max(levels) - min(levels) < 0.01
    assert [each.own for each in shared.quotas] == [0, 0, 0]


def test_what_is_charged_later_is_charged_with_the_next_tick() -> None:
    clocked = Clocked(2, QuotaLimits(requests_per_minute=60_000, tokens_per_minute=6_000_000))
    one, other = clocked.quotas
    assert [one.reserve(10, START) for _ in range(20)] == [None] * 20
    one.settle(10, 5)
    assert other.left(START) == pytest.approx((59_999, 5_999_990)), "of the first it knows"
    assert one.left(START) == pytest.approx((59_980, 5_999_805))
    for _ in range(2):
        clocked.tick(START)
        assert other.left(START) == pytest.approx((59_980, 5_999_805))
    for _ in range(4):
        one.settle(10, 20)
    clocked.tick(START)
    assert other.left(START) == pytest.approx((59_980, 5_999_765))


def test_a_tenant_with_a_limit_of_requests_at_once_is_charged_at_once() -> None:
    one, other = Clocked(2, QuotaLimits(requests_per_minute=60_000, concurrent=100)).quotas
    assert [one.reserve(10, START) for _ in range(20)] == [None] * 20
    assert other.left(START)[0] == pytest.approx(59_980)


def test_a_full_burst_through_one_process_is_admitted_and_no_more_through_another() -> None:
    one, other = Clocked(2, QuotaLimits(requests_per_minute=60)).quotas
    assert [one.reserve(0, START) for _ in range(60)] == [None] * 60
    denied = other.reserve(0, START)
    assert denied is not None
    assert (denied.limit, denied.retry_after) == (Exceeded.REQUESTS, 1)
    assert other.reserve(0, START + 1.001) is None
    assert one.reserve(0, START + 1.001) is not None


def test_requests_at_once_are_counted_over_processes_and_those_of_a_dead_one_are_forgotten() -> None:
    clocked = Clocked(2, QuotaLimits(concurrent=2))
    one, other = clocked.quotas
    assert one.reserve(0, START) is None
    assert one.reserve(0, START) is None
    assert other.reserve(0, START) is not None
    clocked.tables[1].clear(0)
    assert other.reserve(0, START) is None
    assert other.in_flight == 1


def test_what_is_left_is_left_for_all_processes() -> None:
    world = Clocked(2, QuotaLimits(10, None, 4))
    one, other = world.quotas
    assert one.reserve(0, START) is None
    assert other.unused(START) == [(Exceeded.REQUESTS, 0.9), (Exceeded.CONCURRENT, 0.75)]


def test_a_charge_that_finds_the_lock_held_is_made_later() -> None:
    clocked = Clocked(2, QuotaLimits(tokens_per_minute=100))
    one, other = clocked.quotas
    lock = clocked.tables[0].layout.tenants.lock
    clocked.memory.held[lock] = 7
    assert one.reserve(60, START) is None
    assert one.reserve(60, START) is not None, "it knows what it owes"
    del clocked.memory.held[lock]
    assert one.reserve(30, START) is None
    assert other.reserve(30, START) is not None
    clocked.tables[0].beat(START)
    clocked.memory.held[lock] = 7
    one.settle(60, 0)
    one.settle(30, 30)
    assert other.reserve(60, START) is not None
    del clocked.memory.held[lock]
    assert one.reserve(1, START) is None
    assert other.reserve(60, START) is None


def test_what_is_owed_since_the_first_request_is_charged_by_the_limit_that_there_is() -> None:
    clocked = Clocked(2, QuotaLimits(tokens_per_minute=100))
    one, other = clocked.quotas
    clocked.memory.held[clocked.tables[0].layout.tenants.lock] = 7
    assert one.reserve(60, START) is None
    clocked.memory.held.clear()
    clocked.tick(START)
    assert other.left(START) == (None, pytest.approx(40))


def test_what_is_in_flight_counts_with_all_processes_once_a_quota_is_shared_and_no_more_once_it_is_not() -> None:
    clocked = Clocked(2, QuotaLimits(concurrent=2))
    other = clocked.quotas[1]
    late = Quota(QuotaLimits(concurrent=2), START)
    assert late.reserve(0, START) is None
    late.share(quota_of(clocked.tables[0]))
    assert other.reserve(0, START) is None
    assert other.reserve(0, START) is not None
    late.settle(0, 0)
    late.part()
    assert (late.shared, late.in_flight, late.own) == (None, 0, 0)
    assert other.reserve(0, START) is None


def test_a_limit_that_changes_leaves_what_is_used_of_the_minute() -> None:
    one, other = Clocked(2, QuotaLimits(requests_per_minute=10)).quotas
    assert [one.reserve(0, START) for _ in range(5)] == [None] * 5
    for quota in (one, other):
        quota.follow(QuotaLimits(requests_per_minute=100), START)
    assert other.reserve(0, START) is None
    assert other.requests is not None
    assert round(other.requests.level) == 49


def test_a_limit_that_falls_holds_for_all_processes_at_once_and_what_was_owed_is_charged_by_the_one_before() -> None:
    clocked = Clocked(2, QuotaLimits(requests_per_minute=60_000))
    one, other = clocked.quotas
    assert [one.reserve(0, START) for _ in range(30)] == [None] * 30
    for quota in (one, other):
        quota.follow(QuotaLimits(requests_per_minute=60), START)
    assert [quota.left(START)[0] for quota in (one, other)] == pytest.approx([59.97, 59.97])
    granted = sum(quota.reserve(0, START) is None for quota in (one, other) for _ in range(60))
    assert granted == 59
    clocked.tick(START)
    assert [quota.left(START)[0] for quota in (one, other)] == pytest.approx([0.97, 0.97])


def test_what_other_machines_have_to_hear_is_noted() -> None:
    one, other = Clocked(2, QuotaLimits(requests_per_minute=10, tokens_per_minute=100)).quotas
    news = News(lambda: None)
    assert one.shared is not None
    one.shared.tell(news, START)
    assert one.reserve(100, START) is None
    assert one.reserve(1, START) is not None
    assert news.told() == [one.shared]
    assert (one.shared.requests.charged, one.shared.tokens.charged) == (1, 100)
    one.settle(100, 40)
    assert news.told() == [one.shared]
    assert one.shared.tokens.charged == 40
    assert other.reserve(60, START) is None
    assert news.told() == []
