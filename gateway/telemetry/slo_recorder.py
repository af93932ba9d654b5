"""What the data plane tells the ledger of SLIs, in plain names and numbers."""

from gateway.backends.backend import Backend
from gateway.config.table import RouteTable
from gateway.exchange import AttemptEnd, Exchange
from gateway.observers import Observer
from gateway.policy.slo.following import LedgerFollowing, ModelSubjects
from gateway.policy.slo.judge import gaps_of, judge_attempt, judge_request, prompt_length
from gateway.policy.slo.ledger import SloLedger


class SloRecorder(Observer):
    """Judges every request and attempt, and enters it into the ledger."""

    def __init__(self, ledger: SloLedger) -> None:
        self._ledger = ledger

    def on_settled(self, exchange: Exchange) -> None:
        """Count what the user experienced."""
        counts = self._ledger.of_request(exchange.model, exchange.version, exchange.objective)
        if counts is not None:
            objective = counts.objective
            judged = judge_request(objective, exchange)
            if judged:
                gaps, prompt = gaps_of(objective, judged, exchange), prompt_length(exchange)
                output = exchange.output_tokens
                counts.count_request(judged, gaps, prompt, output if output is not None else exchange.content_events)
                contributions = self._ledger.contributions
                contributions.count(
                    exchange.model, objective, judged, gaps, prompt_tokens=prompt, tenant=exchange.tenant
                )

    def on_attempt_ended(self, exchange: Exchange, backend: Backend, end: AttemptEnd) -> None:
        """Count what the backend did."""
        counts = self._ledger.of_attempt(backend.id, exchange.model, exchange.objective)
        if counts is not None:
            judged = judge_attempt(counts.objective, exchange, end)
            if judged:
                good, bad = gaps_of(counts.objective, judged, exchange) if not exchange.excused else (0, 0)
                counts.count(judged, (good, bad), prompt_length(exchange))


def follow(ledger: SloLedger, table: RouteTable, now: float) -> None:
    """Let a ledger count for what the routes name."""
    ledger.follow(*_subjects(table), now)


def following(ledger: SloLedger, table: RouteTable, now: float) -> LedgerFollowing:
    """Return what counts for what the routes name, to be prepared and adopted."""
    return ledger.following(*_subjects(table), now)


def _subjects(table: RouteTable) -> tuple[list[ModelSubjects], dict[str, list[str]]]:
    models = [
        ModelSubjects(each.name, each.objectives, {of.name: of.pools for of in each.versions.values()})
        for each in table.models.values()
    ]
    return models, {pool.name: [spec.id for spec in pool.backends] for pool in table.pools.values()}
