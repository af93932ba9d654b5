"""The figures of a report, held against slow and obvious versions of themselves."""

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.report.figures import (
    LATE_TPOT,
    LATE_TTFT,
    REASONS,
    Bins,
    Distribution,
    Verdict,
    all_gaps,
    distribution,
    gaps_over_time,
    goodput,
    grouped,
    met,
    over_time,
    rate,
    recovered_after,
    shares,
    why_missed,
)
from loadtest.report.recording import CUT, FAILED, OK, REFUSED, Objective, Request

OBJECTIVE = Objective()

seconds = st.one_of(st.none(), st.sampled_from((0.01, 0.05, 0.051, 0.5, 0.51, 3.0)))
requests = st.lists(
    st.builds(
        Request,
        at=st.integers(0, 400).map(lambda tenths: tenths / 10),
        name=st.sampled_from("ab"),
        outcome=st.sampled_from((OK, OK, OK, FAILED, CUT, REFUSED)),
        backend=st.sampled_from(("", "x", "y", "z")),
        output_tokens=st.integers(0, 100),
        ttft=seconds,
        tpot=seconds,
        e2e=seconds,
    ),
    max_size=60,
)
bins = st.builds(
    lambda width, count, rest: Bins(width * count + rest * width, width, count),
    st.sampled_from((1, 2, 5)),
    st.integers(1, 30),
    st.floats(0, 0.99),
)


def answer(at: float, *, ttft: float = 0.1, tpot: float = 0.01, outcome: str = OK, tokens: int = 10) -> Request:
    return Request(at, "chat", outcome=outcome, ttft=ttft, tpot=tpot, e2e=ttft, output_tokens=tokens)


def obvious_percentile(values: Sequence[float], per_cent: int) -> float | None:
    for value in sorted(values):
        if Fraction(sum(each <= value for each in values), len(values)) >= Fraction(per_cent, 100):
            return value
    return None


def due_in(bins: Bins, index: int, requests: Sequence[Request]) -> list[Request]:
    start, end = index * bins.width, (index + 1) * bins.width
    last = index == bins.count - 1
    return [each for each in requests if start <= each.at and (each.at < end or last)]


@given(st.lists(st.integers(0, 20).map(float)), st.integers(1, 100))
def test_a_percentile_is_of_the_nearest_rank(values: list[float], per_cent: int) -> None:
    assert Distribution.of(Counter(values)).percentile(per_cent) == obvious_percentile(values, per_cent)


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=2000))
def test_a_curve_rises_to_one_through_shares_that_are_true(values: list[float]) -> None:
    curve = Distribution.of(Counter(values)).curve()
    assert curve == sorted(curve)
    assert curve[-1] == (max(values), 1.0)
    assert curve[0] == (min(values), values.count(min(values)) / len(values))
    assert all(share == sum(each <= value for each in values) / len(values) for value, share in curve[:5])


def test_a_long_curve_is_thinned() -> None:
    assert len(Distribution.of(Counter(map(float, range(100_000)))).curve()) == 400


def test_a_distribution_of_nothing_has_no_figures() -> None:
    nothing = Distribution.of({})
    assert (nothing.count, nothing.percentile(50), nothing.curve()) == (0, None, [])


@given(requests)
def test_latencies_are_those_of_answered_requests_that_have_them(requests: list[Request]) -> None:
    seen = [each.ttft for each in requests if each.outcome == OK and each.ttft is not None]
    assert distribution(requests, "TTFT") == Distribution.of(Counter(seen))


@given(requests, bins)
def test_each_bin_holds_what_was_due_in_it(requests: list[Request], bins: Bins) -> None:
    due = [due_in(bins, index, requests) for index in range(bins.count)]
    ends = [*(bins.width * (index + 1) for index in range(bins.count - 1)), bins.seconds]
    lengths = [end - bins.width * index for index, end in enumerate(ends)]
    assert bins.split(requests) == due
    assert rate(bins, requests) == pytest.approx(
        [len(each) / length for each, length in zip(due, lengths, strict=True)]
    )
    assert met(bins, requests, OBJECTIVE) == [
        sum(OBJECTIVE.is_met_by(one) for one in each) / len(each) if each else None for each in due
    ]
    tokens = [sum(one.output_tokens for one in each if OBJECTIVE.is_met_by(one)) for each in due]
    expected = [count / length for count, length in zip(tokens, lengths, strict=True)]
    assert goodput(bins, requests, OBJECTIVE) == pytest.approx(expected)
    assert over_time(bins, requests, "TPOT", 95) == [
        obvious_percentile([one.tpot for one in each if one.tpot is not None and one.outcome == OK], 95) for each in due
    ]


@given(requests, bins)
def test_shares_are_of_the_requests_that_name_a_backend(requests: list[Request], bins: Bins) -> None:
    found = shares(bins, requests, lambda request: request.backend)
    assert list(found) == sorted({each.backend for each in requests} - {""})
    for index in range(bins.count):
        named = [each.backend for each in due_in(bins, index, requests) if each.backend]
        for backend, share in found.items():
            assert share[index] == (named.count(backend) / len(named) if named else None)


@given(st.dictionaries(st.tuples(st.integers(0, 9), st.sampled_from((0.01, 0.02, 0.3))), st.integers(1, 50)))
def test_gaps_count_as_often_as_they_were_seen(gaps: dict[tuple[int, float], int]) -> None:
    every = [(second, gap) for (second, gap), count in gaps.items() for _ in range(count)]
    assert all_gaps(gaps).percentile(95) == obvious_percentile([gap for _, gap in every], 95)
    assert gaps_over_time(Bins(10.0, 5, 2), gaps, 50) == [
        obvious_percentile([gap for second, gap in every if second // 5 == index], 50) for index in range(2)
    ]


@pytest.mark.parametrize(
    ("seconds", "requests", "width", "count"),
    [
        (60, 6000, 1, 60),
        (60, 600, 2, 30),
        (600, 600, 30, 20),
        (0.5, 3, 1, 1),
        (20.5, 0, 1, 20),
        (3600, 360_000, 10, 360),
        (10_000_000, 1, 25_000, 400),
    ],
)
def test_bins_are_wide_enough_to_hold_enough(seconds: float, requests: int, width: int, count: int) -> None:
    assert Bins.over(seconds, requests) == Bins(seconds, width, count)


def test_the_last_bin_lasts_to_the_end() -> None:
    cut = Bins(10.5, 5, 2)
    assert (cut.lengths, cut.middles) == ([5.0, 5.5], [2.5, 7.75])


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (answer(0), None),
        (answer(0, ttft=0.51), LATE_TTFT),
        (answer(0, tpot=0.051), LATE_TPOT),
        (answer(0, ttft=0.51, tpot=0.051), LATE_TTFT),
        (answer(0, outcome=FAILED), FAILED),
        (answer(0, outcome=CUT, ttft=2.0), CUT),
        (answer(0, outcome=REFUSED), REFUSED),
        (Request(0, "plain", outcome=OK, e2e=9.0), None),
    ],
)
def test_a_request_is_missed_for_one_reason(request_: Request, reason: str | None) -> None:
    assert why_missed(request_, OBJECTIVE) == reason


@given(requests, st.integers(0, 20), st.integers(21, 41))
def test_a_verdict_counts_what_was_due_in_its_span(requests: list[Request], start: int, end: int) -> None:
    verdict = Verdict.of(requests, OBJECTIVE, start, end)
    due = [each for each in requests if start <= each.at < end]
    good = [each for each in due if OBJECTIVE.is_met_by(each)]
    assert verdict.requests == len(due)
    assert verdict.missed == pytest.approx((len(due) - len(good)) / len(due) if due else 0.0)
    assert sum(verdict.why.values()) == len(due) - len(good)
    assert tuple(verdict.why) == REASONS
    assert verdict.goodput == pytest.approx(sum(each.output_tokens for each in good) / (end - start))
    assert verdict.availability == pytest.approx(sum(e.outcome == OK for e in due) / len(due) if due else 1.0)
    waits = [each.ttft for each in due if each.outcome == OK and each.ttft is not None]
    assert (verdict.ttft_p50, verdict.ttft_p99) == (obvious_percentile(waits, 50), obvious_percentile(waits, 99))


def obvious_recovery(requests: Sequence[Request], since: float) -> float | None:
    last = max((each.at for each in requests), default=-1.0)
    good: list[bool] = []
    while since + len(good) + 5 <= last:
        start = since + len(good)
        due = [each for each in requests if start <= each.at < start + 5]
        good.append(sum(not OBJECTIVE.is_met_by(each) for each in due) < 0.05 * len(due) or not due)
    return next((float(index) for index in range(len(good)) if all(good[index:])), None)


@given(requests, st.integers(0, 45))
def test_recovery_is_when_no_later_window_is_bad(requests: list[Request], since: int) -> None:
    assert recovered_after(requests, OBJECTIVE, since) == obvious_recovery(requests, since)


def steady(*bad: tuple[float, float]) -> list[Request]:
    """Ten requests a second for a minute, late in the given spans."""
    times = [tenth / 10 for tenth in range(601)]
    return [answer(at, ttft=2.0 if any(start <= at < end for start, end in bad) else 0.1) for at in times]


@pytest.mark.parametrize(
    ("bad", "since", "after"),
    [
        ((), 20, 0.0),
        (((20, 31),), 20, 11.0),
        (((20, 24), (40, 41)), 20, 21.0),
        (((20, 61),), 20, None),
        (((10, 12),), 20, 0.0),
        ((), 58, None),
    ],
)
def test_recovery_is_told_in_seconds_from_the_fault(
    bad: tuple[tuple[float, float], ...], since: float, after: float | None
) -> None:
    found = recovered_after(steady(*bad), OBJECTIVE, since)
    assert found == after if after is None else found is not None and math.isclose(found, after, abs_tol=1.0)


def test_groups_come_in_the_order_of_their_labels() -> None:
    many = [Request(0.0, name) for name in ("b", "a", "b")]
    assert {name: len(each) for name, each in grouped(many, lambda request: request.name).items()} == {"a": 1, "b": 2}
    assert list(grouped(many, lambda request: request.name)) == ["a", "b"]
