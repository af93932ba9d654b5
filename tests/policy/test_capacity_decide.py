"""What a pool wants, from all that is known of it."""

from gateway.policy.capacity.decide import decide
from gateway.policy.capacity.want import Memory, PoolLoad, Rail, Rule, Rules


def test_the_first_want_is_what_there_is() -> None:
    want = decide(PoolLoad("gpu", ready=3, starting=1), Rules(), Memory(), 100.0).want
    assert (want.target, want.replicas_now, want.value, want.rule) == (4, 4, 4.0, Rule.HOLD)
    assert want.valid_until == 160.0


def test_a_want_stays_between_min_and_max() -> None:
    few = decide(PoolLoad("gpu", ready=1), Rules(min=2), Memory(), 0.0).want
    many = decide(PoolLoad("gpu", ready=12), Rules(max=10), Memory(), 0.0).want
    assert (few.target, few.rails, many.target, many.rails) == (2, (Rail.MIN,), 10, (Rail.MAX,))
