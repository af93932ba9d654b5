"""What latencies requests had, by the length of their prompts: of it `tidegate slo suggest` makes objectives."""

from gateway.exchange import SERVED, Exchange
from gateway.observers import Observer
from gateway.policy.slo.judge import prompt_length
from gateway.policy.slo.observed import E2E, TPOT, TTFT, Observed, step_of


class LatencyProfile(Observer):
    """Counts answers by model and the name of their objective; failures have no latency that says anything."""

    def __init__(self) -> None:
        self.observed: dict[tuple[str, str], Observed] = {}

    def on_settled(self, exchange: Exchange) -> None:
        """Count the latencies of an answer, except for a cold start: that has a target of its own."""
        if exchange.outcome is not SERVED or exchange.held:
            return
        key = (exchange.model, exchange.objective)
        observed = self.observed.get(key)
        if observed is None:
            observed = self.observed[key] = Observed(exchange.received)
        observed.turn(exchange.ended)
        weight = observed.weight()
        if not weight:
            return
        step = step_of(prompt_length(exchange))
        observed.add(E2E, step, exchange.ended - exchange.received, weight)
        if exchange.stream:
            ttft, tpot = exchange.ttft, exchange.tpot
            if ttft is not None:
                observed.add(TTFT, step, ttft, weight)
            if tpot is not None:
                observed.add(TPOT, step, tpot, weight)
