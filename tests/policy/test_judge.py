"""The one judgement of an answer: which targets it met, as soon as each is known, for its user and for its backend."""

import pytest

from gateway.exchange import AttemptEnd, Exchange, Outcome
from gateway.policy.slo.judge import judge_attempt, judge_first, judge_gaps, judge_request
from gateway.policy.slo.objective import Objective, Sli, Target
from tests.attempts import attempted

OBJECTIVE = Objective("o", {Sli.AVAILABILITY: Target(0.999), Sli.TTFT: Target(0.99, 0.5, ((4096, 2.0),))})
WHOLE = Objective(
    "whole",
    {
        Sli.AVAILABILITY: Target(0.999),
        Sli.TTFT: Target(0.99, 0.5),
        Sli.TPOT: Target(0.99, 0.1),
        Sli.E2E: Target(0.95, 3.0, ((4096, 9.0),)),
    },
)


def streaming(first: float, *, prompt: int = 100) -> Exchange:
    exchange = Exchange("r", "/v1/chat/completions", 10.0)
    exchange.stream, exchange.first_content, exchange.prompt_estimate = True, first, prompt
    return exchange


def answered(*, stream: bool, ended: float = 12.0) -> Exchange:
    exchange = streaming(10.4)
    exchange.stream, exchange.outcome = stream, Outcome.OK
    exchange.last_content = exchange.ended = ended
    exchange.attempts = [attempted(ended=ended)]
    exchange.output_tokens = 11
    return exchange


@pytest.mark.parametrize(
    ("first", "prompt", "good"), [(10.5, 100, True), (10.51, 100, False), (11.9, 5000, True), (12.1, 5000, False)]
)
def test_a_first_token_is_judged_when_it_comes_as_it_is_at_the_end(first: float, prompt: int, good: bool) -> None:
    exchange = streaming(first, prompt=prompt)
    assert judge_first(OBJECTIVE, exchange) == {Sli.TTFT: good}
    exchange.outcome, exchange.ended = Outcome.OK, 20.0
    assert judge_request(OBJECTIVE, exchange) == {Sli.AVAILABILITY: True, Sli.TTFT: good}


def test_where_no_first_token_has_a_target_or_has_come_there_is_nothing_to_say() -> None:
    assert judge_first(Objective("none", {}), streaming(10.1)) == {}
    assert judge_first(OBJECTIVE, streaming(0.0)) == {}


def test_a_stream_is_held_to_every_latency_and_any_other_answer_to_the_whole_time() -> None:
    expected = {Sli.AVAILABILITY: True, Sli.TTFT: True, Sli.TPOT: False, Sli.E2E: True}
    assert judge_request(WHOLE, answered(stream=True)) == expected
    assert judge_request(WHOLE, answered(stream=False)) == {Sli.AVAILABILITY: True, Sli.E2E: True}
    assert judge_request(WHOLE, answered(stream=False, ended=13.5)) == {Sli.AVAILABILITY: True, Sli.E2E: False}
    without_content = answered(stream=True)
    without_content.first_content = 0.0
    assert judge_request(WHOLE, without_content) == {Sli.AVAILABILITY: True, Sli.E2E: True}


def test_an_attempt_is_judged_from_when_it_was_sent() -> None:
    exchange = answered(stream=True)
    exchange.received, exchange.attempts[0].sent_at = 2.0, 10.3
    assert judge_request(WHOLE, exchange)[Sli.TTFT] is False
    assert judge_attempt(WHOLE, exchange, AttemptEnd.OK)[Sli.TTFT] is True
    assert judge_attempt(WHOLE, exchange, AttemptEnd.CLOSED_EARLY) == {Sli.AVAILABILITY: False}
    assert judge_attempt(WHOLE, exchange, AttemptEnd.CLIENT_ERROR) == {}


def test_what_failed_is_absent_from_latency_and_what_is_the_clients_doing_from_everything() -> None:
    exchange = answered(stream=True)
    exchange.outcome = Outcome.TIMEOUT
    assert judge_request(WHOLE, exchange) == {Sli.AVAILABILITY: False}
    exchange.outcome = Outcome.QUOTA
    assert judge_request(WHOLE, exchange) == {}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize(("waited", "prompt", "late"), [(0.4, 1, ""), (3.5, 1, "both"), (3.5, 5000, "ttft")])
@pytest.mark.parametrize(
    "left",
    [(Outcome.CLIENT_GONE, AttemptEnd.CLIENT_GONE), (Outcome.CLIENT_TIMEOUT, AttemptEnd.CLIENT_TIMEOUT)],
    ids=["hung up", "its own deadline"],
)
def test_a_client_that_left_counts_once_it_had_waited_longer_than_the_threshold(
    left: tuple[Outcome, AttemptEnd], stream: bool, waited: float, prompt: int, late: str
) -> None:
    exchange = streaming(0.0, prompt=prompt)
    exchange.stream, exchange.outcome = stream, left[0]
    exchange.ended, exchange.attempts = 10.0 + waited, [attempted(10.0, 10.0 + waited)]
    sli = Sli.TTFT if stream else Sli.E2E
    expected = {sli: False} if late in {"both", sli} else {}
    assert judge_request(WHOLE, exchange) == expected
    assert judge_attempt(WHOLE, exchange, left[1]) == expected


def test_a_client_that_left_after_the_first_token_or_where_no_time_has_a_target_does_not_count() -> None:
    exchange = streaming(10.1)
    exchange.outcome, exchange.ended = Outcome.CLIENT_GONE, 99.0
    assert judge_request(WHOLE, exchange) == {}
    exchange.stream = False
    assert judge_request(OBJECTIVE, exchange) == {}


def test_gaps_are_counted_by_the_threshold_not_by_the_buckets_of_another_objective() -> None:
    exchange = streaming(10.1)
    exchange.itl_bounds, exchange.itl = (0.05, 0.1, 0.2), [5, 4, 3, 2]
    assert judge_gaps(Target(0.99, 0.05), exchange) == (5, 9)
    assert judge_gaps(Target(0.99, 0.2), exchange) == (12, 2)


def test_prompts_fall_into_classes_with_a_threshold_each() -> None:
    target = Target(0.99, 0.5, ((4096, 2.0), (32_768, 10.0)))
    classes = target.prompt_classes
    assert [name for name, _ in classes] == ["<4096", "4096-32767", "32768+"]
    for tokens in (1, 4095, 4096, 32_767, 32_768, 10**6):
        assert classes[target.step(tokens)][1] == Target(0.99, target.threshold(tokens))
    assert Target(0.99, 0.5).prompt_classes == ()
    assert Target(0.99, 0.5).step(10**6) == 0


def test_an_attempt_during_which_the_gateway_was_late_is_not_judged_by_its_times() -> None:
    late = answered(stream=True, ended=20.0)
    late.excused = True
    assert judge_attempt(WHOLE, late, AttemptEnd.OK) == {Sli.AVAILABILITY: True}
    assert judge_attempt(WHOLE, late, AttemptEnd.STALLED) == {Sli.AVAILABILITY: False}
    assert judge_attempt(WHOLE, late, AttemptEnd.GATEWAY_LATE) == {}
    assert judge_request(WHOLE, late)[Sli.E2E] is False
    left = streaming(0.0)
    left.attempts = [attempted(ended=30.0)]
    assert judge_attempt(WHOLE, left, AttemptEnd.CLIENT_GONE) == {Sli.TTFT: False}
    left.excused = True
    assert judge_attempt(WHOLE, left, AttemptEnd.CLIENT_GONE) == {}


COLD = Objective("cold", {**WHOLE.targets, Sli.COLD_START: Target(0.95, 60.0)})


def held(*, stream: bool, ended: float = 42.0, outcome: Outcome = Outcome.OK) -> Exchange:
    """Return a request that came at 10 s and waited 30 s for an engine."""
    exchange = answered(stream=stream, ended=ended)
    exchange.queued = exchange.held = 30.0
    exchange.first_content, exchange.last_content = 40.4, ended
    exchange.attempts = [attempted(sent=40.0, ended=ended)]
    exchange.outcome = outcome
    return exchange


def test_a_cold_start_is_judged_apart_and_burns_no_warm_budget() -> None:
    assert judge_request(COLD, held(stream=True)) == {Sli.AVAILABILITY: True, Sli.TPOT: False, Sli.COLD_START: True}
    assert judge_request(COLD, held(stream=False)) == {Sli.AVAILABILITY: True, Sli.COLD_START: True}
    assert judge_request(COLD, held(stream=False, ended=75.0)) == {Sli.AVAILABILITY: True, Sli.COLD_START: False}
    assert judge_request(WHOLE, held(stream=False, ended=75.0)) == {Sli.AVAILABILITY: True}
    assert judge_first(COLD, held(stream=True)) == {}


def test_a_cold_start_that_fails_burns_the_budget_as_any_failure_does() -> None:
    assert judge_request(COLD, held(stream=True, outcome=Outcome.NO_BACKEND)) == {Sli.AVAILABILITY: False}
    assert judge_request(COLD, held(stream=True, outcome=Outcome.TIMEOUT)) == {Sli.AVAILABILITY: False}


def test_a_client_that_leaves_a_cold_start_counts_once_it_has_waited_too_long() -> None:
    gone = held(stream=True, outcome=Outcome.CLIENT_GONE)
    gone.first_content = 0.0
    assert judge_request(COLD, gone) == {}
    gone.ended = 71.0
    assert judge_request(COLD, gone) == {Sli.COLD_START: False}
    assert judge_request(WHOLE, gone) == {}
    gone.first_content = 40.0
    assert judge_request(COLD, gone) == {}


def test_what_the_engine_did_is_judged_as_ever() -> None:
    cold = held(stream=True)
    assert judge_attempt(COLD, cold, AttemptEnd.OK) == {
        Sli.AVAILABILITY: True,
        Sli.TTFT: True,
        Sli.TPOT: False,
        Sli.E2E: True,
    }
