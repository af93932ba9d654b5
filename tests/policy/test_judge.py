"""Which promises a request kept, as soon as each is known."""

import pytest

from gateway.exchange import Exchange, Outcome
from gateway.policy.slo.judge import judge_first, judge_request
from gateway.policy.slo.objective import Objective, Sli, Target

PROMISED = Objective("o", {Sli.AVAILABILITY: Target(0.999), Sli.TTFT: Target(0.99, 0.5, ((4096, 2.0),))})


def streaming(first: float, *, prompt: int = 100) -> Exchange:
    exchange = Exchange("r", "/v1/chat/completions", 10.0)
    exchange.stream, exchange.first_content, exchange.prompt_estimate = True, first, prompt
    return exchange


@pytest.mark.parametrize(
    ("first", "prompt", "good"), [(10.5, 100, True), (10.51, 100, False), (11.9, 5000, True), (12.1, 5000, False)]
)
def test_a_first_token_is_judged_when_it_comes_as_it_is_at_the_end(first: float, prompt: int, good: bool) -> None:
    exchange = streaming(first, prompt=prompt)
    assert judge_first(PROMISED, exchange) == {Sli.TTFT: good}
    exchange.outcome, exchange.ended = Outcome.OK, 20.0
    assert judge_request(PROMISED, exchange) == {Sli.AVAILABILITY: True, Sli.TTFT: good}


def test_where_no_first_token_is_promised_or_has_come_there_is_nothing_to_say() -> None:
    assert judge_first(Objective("none", {}), streaming(10.1)) == {}
    assert judge_first(PROMISED, streaming(0.0)) == {}
