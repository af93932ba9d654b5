"""A sick backend stands out from its peers at the same work; a busy pool does not."""

from random import Random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.routing.residual import HALF_LIFE, Channel, Residual, compare


def grown(rng: Random, ratio: float = 1.0, *, answers: int = 40, late: int = 0, failures: int = 0) -> Residual:
    """Return a backend's residual after answers at so many times what was expected, the last of them late."""
    made = Residual()
    for number in range(answers):
        made.ttft.add(ratio * rng.uniform(0.7, 1.4))
        made.tpot.add(ratio * rng.uniform(0.95, 1.05))
        made.answered()
        made.late.add(hit=number >= answers - late)
    for _ in range(failures):
        made.failure()
    return made


def test_alike_backends_do_not_stand_out_however_busy() -> None:
    rng = Random(1)
    for ratio in (0.5, 1.0, 4.0):
        pool = [grown(rng, ratio) for _ in range(4)]
        assert [each.sickness([peer for peer in pool if peer is not each]) for each in pool] == [None] * 4


@pytest.mark.parametrize("ratio", [1.5, 2.0, 5.0])
def test_a_slow_one_stands_out_with_its_ratio(ratio: float) -> None:
    rng = Random(2)
    peers = [grown(rng) for _ in range(3)]
    sickness = grown(rng, ratio, answers=80).sickness(peers)
    assert sickness is not None
    assert sickness.what == "prefill"
    assert sickness.amount == pytest.approx(ratio, rel=0.15)
    assert str(sickness) == f"prefill {sickness.amount:.1f}x"
    assert sickness.is_grave == (sickness.amount >= 1.5)


def test_decode_alone_is_told_apart_from_prefill() -> None:
    rng = Random(3)
    peers = [grown(rng) for _ in range(3)]
    sick = grown(rng)
    sick.tpot = grown(rng, 2.0).tpot
    sickness = sick.sickness(peers)
    assert sickness is not None
    assert sickness.what == "decode"


def test_failures_and_late_answers_stand_out_whatever_went_before() -> None:
    rng = Random(4)
    peers = [grown(rng) for _ in range(3)]
    failing = grown(rng, answers=1000, failures=2).sickness(peers)
    assert failing is not None
    assert (str(failing), failing.is_grave) == ("fails 0%", True)
    late = grown(rng, answers=1000, late=9).sickness(peers)
    assert late is not None
    assert (late.what, late.is_grave) == ("is late", True)
    assert grown(rng, failures=1).sickness(peers) is None
    assert grown(rng, late=3).sickness(peers) is None


def test_failures_that_clients_do_not_notice_are_not_grave_unless_it_fails_as_often_as_not() -> None:
    rng = Random(4)
    peers = [grown(rng) for _ in range(3)]
    flaky = grown(rng, answers=20, failures=5)
    assert flaky.hidden_share == 0.0
    flaky.hidden = 4.0
    assert flaky.hidden_share == 0.8
    sickness = flaky.sickness(peers)
    assert sickness is not None
    assert (str(sickness), sickness.is_grave) == ("fails 20%", False)
    broken = grown(rng, answers=5, failures=5)
    broken.hidden = 5.0
    assert broken.hidden_share == 0.0
    sickness = broken.sickness(peers)
    assert sickness is not None
    assert sickness.is_grave


def test_what_is_forgotten_of_failures_is_forgotten_of_those_that_were_hidden() -> None:
    flaky = grown(Random(4), answers=20, failures=5)
    flaky.hidden = 4.0
    flaky.forget(HALF_LIFE)
    assert flaky.hidden == pytest.approx(2.0, rel=1e-3)
    assert flaky.hidden_share == pytest.approx(0.8)
    new = Residual()
    new.hidden = 1.0  # it was measured anew between the failure and the retry
    assert new.hidden_share == 0.0
    new.failing.seen, new.failing.hits = 8.0, 0.5
    assert new.hidden_share == 1.0


def test_what_meets_others_too_is_nobodys_sickness() -> None:
    rng = Random(5)
    peers = [grown(rng, failures=10, late=12), grown(rng), grown(rng)]
    assert grown(rng, failures=10, late=12).sickness(peers) is None


def test_what_is_typical_of_peers_is_allowed() -> None:
    rng = Random(8)
    usual = [grown(rng, failures=8) for _ in range(3)]
    one = grown(rng)
    compare([one, *usual])
    assert one.failing.allowed == pytest.approx(0.03 + 2 * 8 / 48)
    compare([one])
    assert (one.failing.allowed, one.late.allowed) == (0.03, 0.1)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=9))
def test_typical_is_the_median_of_the_others(answers: list[tuple[int, int]]) -> None:
    pool = [Residual() for _ in answers]
    for each, (bad, good) in zip(pool, answers, strict=True):
        for hit in (True,) * bad + (False,) * good:
            each.late.add(hit=hit)
    compare(pool)
    for each in pool:
        others = [other.late.ratio for other in pool if other is not each]
        assert each.late.allowed == 0.1 + 2 * median(others or [0.0])
        assert each.failing.allowed == 0.03


def test_nobody_stands_out_alone_or_among_strangers() -> None:
    rng = Random(6)
    assert grown(rng, 5.0).sickness([]) is None
    assert grown(rng, 5.0).sickness([Residual()]) is None
    assert Residual().sickness([grown(rng)]) is None
    assert Residual().ratio([grown(rng)]) is None
    assert grown(rng, 2.0).ratio([Residual()]) is None
    assert grown(rng, 2.0).ratio([grown(rng)]) == pytest.approx(2.0, rel=0.2)


def test_time_makes_it_forget() -> None:
    made = grown(Random(7), failures=8)
    seen, surplus = made.failing.seen, made.failing.surplus
    made.forget(HALF_LIFE)
    assert made.failing.seen == pytest.approx(seen / 2, rel=0.01)
    assert made.failing.surplus == pytest.approx(surplus / 2, rel=0.01)
    made.forget(20 * HALF_LIFE)
    assert not made.ttft.known


def test_one_outlier_is_bounded() -> None:
    channel = Channel()
    for ratio in (1.0, 1e12, 1e-12):
        channel.add(ratio)
    assert channel.mean == pytest.approx(0.0)
