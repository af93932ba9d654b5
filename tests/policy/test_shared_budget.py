"""Replicas of models that share a budget, with the reason for each number."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.capacity.allocation import Aim
from gateway.policy.capacity.shared_budget import ModelDemand, Share, Sharing, sharing_out
from gateway.wire.slices import finish


def demand(
    name: str,
    rate: float,
    replicas: int,
    *,
    least: int = 1,
    most: int = 20,
    weight: float = 1.0,
    cost: int = 1,
) -> ModelDemand:
    return ModelDemand(
        name,
        [rate * each for each in (0.9, 1.0, 1.1)],
        service_time=0.18,
        objective=0.72,
        replicas=replicas,
        least=least,
        most=most,
        weight=weight,
        cost=cost,
    )


def share_out(demands: Sequence[ModelDemand], sharing: Sharing) -> list[Share]:
    return finish(sharing_out(demands, sharing))


def numbers(shares: Sequence[Share]) -> dict[str, int]:
    return {share.name: share.replicas for share in shares}


def test_nothing_is_shared_among_no_models() -> None:
    assert share_out([], Sharing(10)) == []


def test_each_model_gets_what_it_needs_when_there_is_enough() -> None:
    shares = share_out([demand("chat", 13.0, 1), demand("code", 5.0, 5)], Sharing(20))
    assert numbers(shares) == {"chat": 4, "code": 2}
    assert [share.utility for share in shares] == pytest.approx([0.68, 1.0], abs=0.01)
    assert [share.reason for share in shares] == [
        "4 instead of 1: expected utility 0.68 instead of 0.04",
        "2 instead of 5: expected utility 1.00, more would not raise it",
    ]


def test_a_model_that_has_what_it_needs_keeps_it() -> None:
    (share,) = share_out([demand("chat", 13.0, 4)], Sharing(20))
    assert (share.replicas, share.reason) == (4, "stays at 4: expected utility 1.00")


def test_what_no_model_needs_is_left_or_spent() -> None:
    demands = [demand("chat", 13.0, 4, most=6), demand("code", 5.0, 2, most=9)]
    assert numbers(share_out(demands, Sharing(20))) == {"chat": 4, "code": 2}
    shares = share_out(demands, Sharing(12, spend_all=True))
    assert numbers(shares) == {"chat": 6, "code": 6}
    assert shares[0].reason == (
        "6 instead of 4: expected utility 1.00 instead of 1.00; 2 of them from what no model needs"
    )


def test_spare_replicas_stay_where_they_run() -> None:
    # Both have the same load, and one more than they need; there is one to spare.
    demands = [demand("chat", 13.0, 4), demand("code", 13.0, 5)]
    assert numbers(share_out(demands, Sharing(9, spend_all=True))) == {"chat": 4, "code": 5}


def test_what_is_not_affordable_is_not_spent() -> None:
    demands = [demand("large", 5.0, 2, cost=4), demand("small", 5.0, 2, most=3)]
    assert numbers(share_out(demands, Sharing(13, spend_all=True))) == {"large": 2, "small": 3}


def test_a_model_without_requests_gets_nothing_but_its_least() -> None:
    demands = [demand("chat", 0.0, 3, least=0), demand("code", 5.0, 2)]
    assert numbers(share_out(demands, Sharing(4, spend_all=True, move_cost=0.0))) == {"chat": 0, "code": 4}


def test_the_model_with_the_larger_weight_goes_first() -> None:
    both = [demand("chat", 13.0, 2), demand("code", 13.0, 2)]
    chat = [demand("chat", 13.0, 2, weight=3.0), demand("code", 13.0, 2)]
    code = [demand("chat", 13.0, 2), demand("code", 13.0, 2, weight=3.0)]
    assert numbers(share_out(chat, Sharing(5, aim=Aim.SUM))) == {"chat": 4, "code": 1}
    assert numbers(share_out(code, Sharing(5, aim=Aim.SUM))) == {"chat": 1, "code": 4}
    assert sum(numbers(share_out(both, Sharing(5))).values()) <= 5


def test_a_gain_smaller_than_the_cost_of_moving_changes_nothing() -> None:
    demands = [demand("chat", 14.0, 3), demand("code", 13.0, 4)]
    moved = share_out(demands, Sharing(7, aim=Aim.SUM, move_cost=0.0, cold_share=0.0))
    assert numbers(moved) == {"chat": 4, "code": 3}
    assert moved[1].reason == "3 instead of 4: expected utility 0.88 instead of 1.00, other models gain more"
    assert numbers(share_out(demands, Sharing(7, aim=Aim.SUM, move_cost=0.3))) == {"chat": 3, "code": 4}


def test_replicas_that_start_do_not_count_until_they_serve() -> None:
    (soon,) = share_out([demand("chat", 13.0, 2)], Sharing(4, cold_share=0.0))
    (late,) = share_out([demand("chat", 13.0, 2)], Sharing(4, cold_share=0.5))
    assert soon.utility == pytest.approx(1.0, abs=0.01)
    assert late.utility == pytest.approx((1 + 0.14) / 2, abs=0.01)


def test_least_numbers_hold_even_beyond_the_budget() -> None:
    shares = share_out([demand("chat", 5.0, 2, least=3), demand("code", 5.0, 2, least=4)], Sharing(5))
    assert numbers(shares) == {"chat": 3, "code": 4}
    assert {share.reason for share in shares} == {"the least numbers of all models need 7 of a budget of 5"}


@given(
    st.lists(st.tuples(st.floats(0, 40), st.integers(0, 8), st.integers(0, 3), st.sampled_from((1, 2, 4))), max_size=5),
    st.integers(0, 30),
    st.sampled_from(Aim),
    st.booleans(),
)
def test_budget_and_limits_are_kept(
    models: list[tuple[float, int, int, int]], budget: int, aim: Aim, spend_all: bool
) -> None:
    demands = [
        demand(str(index), rate, replicas, least=least, most=8, cost=cost)
        for index, (rate, replicas, least, cost) in enumerate(models)
    ]
    shares = share_out(demands, Sharing(budget, aim=aim, spend_all=spend_all))
    least = sum(each.least * each.cost for each in demands)
    used = sum(share.replicas * each.cost for share, each in zip(shares, demands, strict=True))
    assert used <= max(budget, least)
    for share, each in zip(shares, demands, strict=True):
        assert each.least <= share.replicas <= each.most
        assert 0 <= share.utility <= 1
