"""Which promises one request kept: what a comparison of versions counts, request by request."""

from gateway.exchange import Exchange, Outcome, Verdict
from gateway.policy.slo.classify import request_verdict
from gateway.policy.slo.objective import Objective, Sli


def judge_first(objective: Objective, exchange: Exchange) -> dict[str, bool]:
    """Return whether a stream's first token came in time, as soon as it is there; {} where that is not promised."""
    ttft, target = exchange.ttft, objective.targets.get(Sli.TTFT)
    if ttft is None or target is None:
        return {}
    return {Sli.TTFT: ttft <= target.threshold(exchange.prompt_estimate)}


def judge(objective: Objective, exchange: Exchange) -> dict[str, bool]:
    """Return whether a settled request was good, by SLI; what does not count is left out.

    As in the book of SLIs: what failed is absent from latency, and a client that left before the first token counts
    once it had waited longer than the threshold. Gaps between tokens are no requests, so `itl` is not here.
    """
    verdict = request_verdict(exchange.outcome)
    prompt = exchange.prompt_tokens if exchange.prompt_tokens is not None else exchange.prompt_estimate
    targets = objective.targets
    if verdict is Verdict.BAD:
        return {Sli.AVAILABILITY: False}
    if verdict is Verdict.UNCOUNTED:
        ttft = targets.get(Sli.TTFT)
        left = exchange.outcome is Outcome.CLIENT_GONE and exchange.stream and not exchange.first_content
        return {Sli.TTFT: False} if left and ttft is not None and exchange.e2e > ttft.threshold(prompt) else {}
    seconds = {Sli.TTFT: exchange.ttft, Sli.TPOT: exchange.tpot, Sli.E2E: exchange.e2e}
    return {
        Sli.AVAILABILITY: True,
        **{
            sli: value <= targets[sli].threshold(prompt)
            for sli, value in seconds.items()
            if value is not None and sli in targets
        },
    }
