"""What answers bring to the throughput of their model, where its objective has a target for that."""

from gateway.exchange import SERVED, Exchange
from gateway.observers import Observer
from gateway.policy.slo.throughput import ThroughputMeter


class ThroughputRecorder(Observer):
    """Tells meters of answers; `meters` are by model and the name of the objective, and empty for most gateways.

    `offset` is by how much the clock of all processes, seconds since the epoch, is ahead of that of requests.
    """

    def __init__(self, offset: float) -> None:
        self.meters: dict[tuple[str, str], ThroughputMeter] = {}
        self.offset = offset

    def on_settled(self, exchange: Exchange) -> None:
        """Count an answer."""
        if not self.meters or exchange.outcome is not SERVED:
            return
        meter = self.meters.get((exchange.model, exchange.objective))
        if meter is not None:
            output = exchange.output_tokens
            tokens = output if output is not None else exchange.content_events
            meter.answered(exchange.sent + self.offset, exchange.ended + self.offset, tokens)
