"""The one judgement of an answer against its objective: what SLIs, goodput, rollouts and trials of pools count.

Simulations use it too.
"""

from typing import Final

from gateway.exchange import BAD, GOOD, AttemptEnd, Exchange, Outcome
from gateway.policy.slo.classify import VERDICTS, request_verdict
from gateway.policy.slo.objective import Objective, Sli, Target

_AVAILABILITY: Final = Sli.AVAILABILITY
_TTFT: Final = Sli.TTFT
_TPOT: Final = Sli.TPOT
_E2E: Final = Sli.E2E
_COLD_START: Final = Sli.COLD_START
LEFT = (Outcome.CLIENT_GONE, Outcome.CLIENT_TIMEOUT)
_GIVEN_UP = (AttemptEnd.CLIENT_GONE, AttemptEnd.CLIENT_TIMEOUT)
"""Clients that did not wait any longer: they hung up, or the time that they named was over."""
_BY_OUTCOME: Final = {outcome: request_verdict(outcome) for outcome in Outcome}


def judge_request(objective: Objective, exchange: Exchange) -> dict[str, bool]:
    """Return whether a settled request was good for its user, by SLI; what does not count is left out.

    What failed is absent from latency. Gaps between tokens are no requests, so `itl` is not here. Of a request that
    waited for an engine to be started, the wait is judged apart; that it failed is held against it as against any.
    """
    outcome = exchange.outcome
    verdict = _BY_OUTCOME[outcome]
    if verdict is GOOD:
        judged = _latencies(objective, exchange, exchange.received, exchange.ended)
        return _cold(objective, exchange, judged) if exchange.held else judged
    if verdict is BAD:
        return {_AVAILABILITY: False}
    if outcome not in LEFT:
        return {}
    if exchange.held:
        target = objective.cold_start
        is_late = target is not None and not exchange.first_content and not is_met(target, exchange.e2e)
        return {_COLD_START: False} if is_late else {}
    return _censored(objective, exchange, exchange.e2e)


def judge_attempt(objective: Objective, exchange: Exchange, end: AttemptEnd) -> dict[str, bool]:
    """Return the same of the last attempt, which has ended so: what its backend did.

    Its times say nothing where this process itself was late meanwhile.
    """
    verdict = VERDICTS[end]
    if verdict is GOOD:
        if exchange.excused:
            return {_AVAILABILITY: True}
        return _latencies(objective, exchange, exchange.sent, exchange.attempt_ended)
    if verdict is BAD:
        return {_AVAILABILITY: False}
    left = end in _GIVEN_UP and not exchange.excused
    return _censored(objective, exchange, exchange.attempt_ended - exchange.sent) if left else {}


def judge_first(objective: Objective, exchange: Exchange) -> dict[str, bool]:
    """Return whether a stream's first token came in time, as soon as it is there; {} where there is no target."""
    ttft, target = exchange.ttft, objective.ttft
    if ttft is None or target is None or exchange.held:
        return {}
    return {_TTFT: is_met(target, ttft, exchange.prompt_estimate)}


def gaps_of(objective: Objective, judged: dict[str, bool], exchange: Exchange) -> tuple[int, int]:
    """Return how many gaps of an answer that has been judged were good, and how many bad; none of one that failed."""
    target = objective.itl
    if target is None or not exchange.itl or not judged.get(_AVAILABILITY):
        return 0, 0
    return judge_gaps(target, exchange)


def judge_gaps(target: Target, exchange: Exchange) -> tuple[int, int]:
    """Return how many gaps between content events were good, and how many bad."""
    good = bad = 0
    counts, bounds = exchange.itl, exchange.itl_bounds
    for index in range(len(counts)):
        count = counts[index]
        if count:
            if index < len(bounds) and bounds[index] <= target.under:
                good += count
            else:
                bad += count
    return good, bad


def meets(objective: Objective, ttft: float | None, tpot: float | None, prompt_tokens: int) -> bool:
    """Whether these latencies in seconds, as far as there are any, meet an objective."""
    return all(
        seconds is None or target is None or is_met(target, seconds, prompt_tokens)
        for seconds, target in ((ttft, objective.ttft), (tpot, objective.tpot))
    )


def is_met(target: Target, seconds: float, prompt_tokens: int = 0) -> bool:
    """Whether a latency meets its target for a prompt of this length."""
    return seconds <= (target.threshold(prompt_tokens) if target.steps else target.under)


def prompt_length(exchange: Exchange) -> int:
    """Return the tokens of the prompt: the engine's count, else the gateway's estimate."""
    return exchange.prompt_tokens if exchange.prompt_tokens is not None else exchange.prompt_estimate


def _latencies(objective: Objective, exchange: Exchange, start: float, end: float) -> dict[str, bool]:
    judged: dict[str, bool] = {_AVAILABILITY: True}
    prompt = prompt_length(exchange)
    for sli, target in objective.streamed if exchange.stream else objective.whole:
        if sli is _TTFT:
            seconds = exchange.first_content - start if exchange.first_content else None
        else:
            seconds = exchange.tpot if sli is _TPOT else end - start
        if seconds is not None:
            judged[sli] = is_met(target, seconds, prompt)
    return judged


def _cold(objective: Objective, exchange: Exchange, judged: dict[str, bool]) -> dict[str, bool]:
    """Judge a cold start in place of the first token, or the answer, that came so late because of it."""
    judged.pop(_TTFT, None)
    judged.pop(_E2E, None)
    target, ttft = objective.cold_start, exchange.ttft
    if target is not None:
        judged[_COLD_START] = is_met(target, exchange.e2e if ttft is None else ttft)
    return judged


def _censored(objective: Objective, exchange: Exchange, waited: float) -> dict[str, bool]:
    """Judge a client that disconnected while it waited for the first token, or for an answer that is not streamed.

    It counts as bad once it had waited longer than the objective allows: otherwise the slowest backend would look
    healthy, since its clients leave.
    """
    if exchange.first_content and exchange.stream:
        return {}
    sli, target = (_TTFT, objective.ttft) if exchange.stream else (_E2E, objective.e2e)
    if target is None or is_met(target, waited, prompt_length(exchange)):
        return {}
    return {sli: False}
