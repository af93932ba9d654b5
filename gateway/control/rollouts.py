"""The loop that leads rollouts: it weighs every settled request, moves versions forward or back, and says why."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from gateway.clock import Clock, next_turn
from gateway.config.table import ModelSpec, RouteTable
from gateway.control.audit import Audit
from gateway.control.rollout_documents import after_rollback, goes_on, restored, rolled_back
from gateway.control.rollout_progress import KEYS, KIND, RolloutProgress
from gateway.control.rollout_record import budget_left, reloaded, usual
from gateway.exchange import Exchange, Outcome
from gateway.lateness import Lateness
from gateway.policy.canary import findings
from gateway.policy.canary.evidence import AVAILABILITY
from gateway.policy.canary.outlook import Outlook, outlook
from gateway.policy.canary.plan import Plan
from gateway.policy.canary.rollout import (
    GATEWAY,
    Decision,
    Event,
    Phase,
    Refused,
    Rollout,
    Seen,
    against,
    decide,
    move,
    resume_blocker,
    start_blocker,
)
from gateway.policy.slo.judge import judge_first, judge_request
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import Sli
from gateway.proxy.current import CurrentTable
from gateway.state.store import ROLLBACK, Document
from gateway.telemetry.rollout_exposition import RolloutRow

__all__ = ["KIND", "RolloutController", "RolloutProgress"]

_log = logging.getLogger(__name__)
INTERVAL = 0.25
_FORGETS = "without lasting state a restart resets every rollout: a promotion or rollback will not survive"
_OUT_OF_TIME = frozenset((Outcome.TIMEOUT, Outcome.SHED))
_NOTHING_TO_DO = frozenset(
    ((Phase.PAUSED, Event.PAUSE), (Phase.STEP, Event.RESUME), (Phase.WAITING, Event.START), (Phase.STEP, Event.START))
)
_KINDS = frozenset((KIND, KEYS, ROLLBACK))
_NEEDS_BUDGET = {Event.START: start_blocker, Event.RESUME: resume_blocker}


class RolloutController:
    """Weighs requests, moves versions forward or back, and does what people ask: to promote, pause or roll back.

    `results` counts rollouts that ended, by (model, result). Only the process that `leads` moves anything, but for
    rollbacks: one that is `alone`, without a store that says which leads, makes them too, and they hold for all.
    """

    def __init__(
        self,
        ledger: SloLedger,
        current: CurrentTable,
        audit: Audit,
        *,
        clock: Clock,
        leads: Callable[[], bool],
        alone: Callable[[], bool] = lambda: False,
        request_save: Callable[[], None],
        lasting: bool = True,
        lateness: Lateness,
    ) -> None:
        """Take what rollouts are decided by and applied to.

        `clock` tells seconds since the epoch. `request_save` has what changed saved at once, and `lasting` says whether
        that outlives the process. `lateness` tells when this process was late itself.
        """
        self.results: Counter[tuple[str, str]] = Counter()
        self._ledger = ledger
        self._current = current
        self._audit = audit
        self._clock = clock
        self._leads = leads
        self._alone = alone
        self._request_save = request_save
        self._lasting = lasting
        self._lateness = lateness
        self._running: dict[str, RolloutProgress] = {}
        self._kept: dict[tuple[str, str], str] = {}
        self._rolled_back: list[Document] = []

    def __iter__(self) -> Iterator[RolloutProgress]:
        return iter(self._running.values())

    def get(self, model: str) -> RolloutProgress | None:
        """Return the rollout of a model, None where its routes have none."""
        return self._running.get(model)

    async def run(self) -> None:
        """Lead until cancelled."""
        while True:
            await next_turn(INTERVAL)
            self.tick()

    def restore(self, documents: Iterable[Document]) -> None:
        """Take what was kept over a restart, or by the process that led before; `follow` has to come after."""
        self._kept |= {(each.kind, each.name): each.body for each in documents if each.kind in _KINDS}

    def follow(self, routes: RouteTable) -> None:
        """Take other routes: a rollout whose definition is the same goes on with its share, another begins."""
        before = dict(self._running)
        self._running.clear()
        for spec in routes.models.values():
            if spec.canary is not None:
                known = before.pop(spec.name, None)
                self._running[spec.name] = running = self._begun(spec, spec.canary, known)
                running.apply(self._current.table.model(running.model))
                if known is not None and known.plan != running.plan:
                    reloaded(self._audit, known, running)
        if self._running and not self._lasting:
            _log.warning(f"{_FORGETS}: name a file with --state", extra={"models": ", ".join(self._running)})
        for model, gone in before.items():
            self._audit.record("reload", "end", f"rollout of {model}", f"the routes have no canary of {model} any more")
            _log.info("a rollout ended by a reload", extra={"model": model, "share": gone.rollout.share})

    def stay(self) -> None:
        """Go on as before, in routes that are the same but for their backends."""
        for running in self._running.values():
            running.apply(self._current.table.model(running.model))

    def taken_over(self, documents: Iterable[Document], routes: RouteTable) -> None:
        """Go on where another gateway stopped to lead; what has been seen since then is not lost."""
        kept = list(documents)
        for each in kept:
            if each.kind == KIND and not goes_on(self.get(each.name), each.body):
                del self._running[each.name]
        self.restore(kept)
        self.follow(routes)

    def led(self, documents: Iterable[Document], routes: RouteTable) -> None:
        """Stand where another gateway leads its rollouts to: the shares are those of all."""
        kept = [each for each in documents if each.kind in _KINDS]
        if any(each.kind == KIND and not goes_on(self.get(each.name), each.body) for each in kept):
            self.taken_over(kept, routes)
        else:
            self.restore(kept)
        for each in kept:
            running = self.get(each.name) if each.kind == ROLLBACK else None
            rollout = None if running is None else after_rollback(running, each.body, self._clock())
            if running is not None and rollout is not None:
                self._move(running, Event.ROLLBACK, rollout, told=True)

    def undone(self, documents: Iterable[Document], routes: RouteTable) -> None:
        """Stand where saved rollouts do: another gateway leads, and what was decided here last was not saved.

        A rollback stays.
        """
        saved = {(each.kind, each.name): each for each in documents}
        before = {model: running.rollout for model, running in self._running.items()}
        for model, rollout in before.items():
            if (KIND, model) not in saved and rollout.phase not in {Phase.IDLE, Phase.ROLLED_BACK}:
                del self._running[model]
                self._kept.pop((KIND, model), None)
        self.taken_over(saved.values(), routes)
        for model, rollout in before.items():
            stands = self._running[model].rollout
            if (stands.phase, stands.share) != (rollout.phase, rollout.share):
                words = f"another gateway leads, `{rollout.phase}` was not saved; now {stands.share:g} % of requests"
                self._audit.record(GATEWAY, "undo", f"rollout of {model}", words)

    @property
    def watched(self) -> dict[str, RolloutProgress]:
        """The rollouts by model; always the same dictionary."""
        return self._running

    def weigh_first_token(self, exchange: Exchange) -> None:
        """Weigh the first token of a stream, which may take minutes to settle."""
        known = self._running.get(exchange.model)
        if known is not None:
            known.warmth.answered(exchange.backend, self._clock())
        running = self._weighing(exchange)
        if running is None or self._lateness.overlaps(exchange.received, exchange.first_content):
            return
        if outcomes := judge_first(running.objective_of(exchange), exchange):
            exchange.weighed = True
            self._weigh(running, outcomes, exchange, settled=False)

    def weigh_settled(self, exchange: Exchange) -> None:
        """Count a request, and weigh it; one forced to a version, or served in another's stead, is no fair sample."""
        running = self._running.get(exchange.model)
        if running is None:
            return
        now = self._clock()
        running.pace.add(now)
        if exchange.outcome is Outcome.OK and not (exchange.stream and exchange.first_content):
            running.warmth.answered(exchange.backend, now)
        if running.ended(exchange):
            running.apply(self._current.table.model(running.model))
        running = self._weighing(exchange)
        if running is None:
            return
        running.tallies[exchange.version].add(exchange)
        outcomes = judge_request(running.objective_of(exchange), exchange)
        if self._lateness.overlaps(exchange.received, exchange.ended):
            # What was slow, or out of time, is not the version's doing: this process was late.
            good = outcomes.get(AVAILABILITY)
            if good is not None and exchange.outcome not in _OUT_OF_TIME:
                self._weigh(running, {AVAILABILITY: good}, exchange, settled=False)
            return
        if exchange.weighed:
            outcomes.pop(Sli.TTFT, None)
        self._weigh(running, outcomes, exchange, settled=True)

    def _weighing(self, exchange: Exchange) -> RolloutProgress | None:
        """Return the rollout that a request says something about, if any: none while stable is away.

        The candidate has stable's load to carry then, and stable nothing to compare with.
        """
        running = self._running.get(exchange.model)
        if running is None or exchange.forced or exchange.stands_in:
            return None
        if not (running.rollout.is_live and running.stable_ready):
            return None
        return running if exchange.version in running.tallies else None

    def _weigh(self, running: RolloutProgress, outcomes: dict[str, bool], exchange: Exchange, *, settled: bool) -> None:
        running.weigh(outcomes, exchange, self._clock(), settled=settled)
        # A bad outcome of the candidate is what makes it worse; for all else the next tick is soon enough.
        bad = exchange.version == running.plan.candidate and not all(outcomes.values())
        if bad and findings.regression_reason(running.evidence) and (self._leads() or self._alone()):
            self._tick(running)

    def tick(self) -> None:
        """Decide once for every rollout."""
        if self._leads() or self._alone():
            for running in self._running.values():
                try:
                    self._tick(running)
                except Exception:  # noqa: BLE001 - the other rollouts are still to be led
                    _log.exception("a rollout could not be led", extra={"model": running.model})

    def ask(
        self, model: str, event: Event, *, actor: str, reason: str, despite_budget: bool = False
    ) -> RolloutProgress:
        """Do what a person asks for; raises KeyError for a model without a rollout and Refused, with the reason.

        What was refused has a record too; to pause what is paused, or to start or resume what goes on, changes nothing.
        """
        running = self._running[model]
        try:
            if not (self._leads() or (event is Event.ROLLBACK and self._alone())):
                raise Refused("another gateway leads rollouts now: ask that one")
            if (running.rollout.phase, event) in _NOTHING_TO_DO and despite_budget <= running.rollout.despite_budget:
                return running
            allowed = _NEEDS_BUDGET.get(event)
            left = budget_left(self._ledger, model)
            if allowed is not None and not despite_budget and (frozen := allowed(running.plan, left, model)):
                raise Refused(frozen)
            rollout = running.rollout
            if despite_budget and event is Event.START and rollout.phase is Phase.WAITING:
                rollout = replace(rollout, phase=Phase.IDLE)
            rollout = move(rollout, event, self._clock(), actor=actor, decision=Decision(event, reason))
            if despite_budget:
                rollout = replace(rollout, despite_budget=True, reason=f"{reason} (despite the error budget)")
        except Refused as refused:
            self._audit.record(actor, f"{event} refused", f"rollout of {model}", f"{refused} (asked: {reason})")
            raise
        if event is Event.RESUME:
            running.evidence.accept()
        self._move(running, event, rollout)
        # What it waits for from now on, in words: the next tick decides.
        reason = decide(running.plan, rollout, self.seen(running), self._clock(), model).reason
        running.decision = Decision(None, reason)
        return running

    def warmed(self, model: str, backend: str) -> None:
        """Count a synthetic answer of a backend."""
        running = self._running.get(model)
        if running is not None:
            running.warmth.answered(backend, self._clock())

    def documents(self) -> list[Document]:
        """Return what changed since the last call."""
        documents, self._rolled_back = self._rolled_back, []
        if not self._leads():
            return documents
        now = self._clock()
        for running in self._running.values():
            if running.changed:
                running.changed = False
                documents += running.documents(now)
        self._kept |= {(each.kind, each.name): each.body for each in documents}
        return documents

    def rows(self) -> list[RolloutRow]:
        """Return every rollout as metrics show it."""
        return [
            running.row(self._current.table.model(running.model).traffic.split.shares())
            for running in self._running.values()
        ]

    def seen(self, running: RolloutProgress) -> Seen:
        """Return what is known about a rollout now."""
        live = self._current.table.model(running.model)
        now = self._clock()
        stable, candidate = live.versions[running.plan.stable], live.versions[running.plan.candidate]
        running.look(now, stable_ready=stable.is_ready)
        if candidate.is_ready or not running.stable_ready:
            running.ready_at = now
        if running.failed and candidate.is_lost:
            running.failed = 0  # what comes back may be another process
            running.apply(live)
        for backend in candidate.backends:
            if backend.readiness.state != "ready":
                running.warmth.forget(backend.id)
        evidence, compares = running.evidence, running.rollout.is_live
        guard, must_go = evidence.guard(now) if compares else (None, False)
        if guard and not must_go and running.guard != guard.split(":")[0]:
            words = "the candidate burns at page rate, and stable has too little traffic to compare with"
            _log.warning(words, extra={"model": running.model, "reason": guard})
        running.guard = guard.split(":")[0] if guard and not must_go else None
        return Seen(
            unready=now - running.ready_at,
            stable_ready=running.stable_ready,
            away=running.away,
            worse=findings.regression_reason(evidence) if compares else None,
            guard=guard if must_go else None,
            failing=running.failing_beside(stable),
            doubt=findings.doubt(evidence) if compares else None,
            traffic=running.traffic(now, usual(self._ledger, running.model)),
            watched=now - running.watched_since,
            budget_left=budget_left(self._ledger, running.model),
        )

    def outlook(self, running: RolloutProgress) -> Outlook:
        """Return what lies ahead of a rollout at the traffic seen."""
        return outlook(running.plan, running.rollout, self.seen(running), self._clock(), running.model)

    def notes(self, running: RolloutProgress) -> list[str]:
        """Return what else one should know of a rollout."""
        found = findings.notes(running.evidence, running.plan.min_requests) if running.rollout.is_live else []
        if not self._lasting:
            found.append(f"{_FORGETS}: start `tidegate serve` with --state, or name the version in the routes")
        guard, must_go = running.evidence.guard(self._clock()) if running.rollout.is_live else (None, False)
        if guard and not must_go:
            found.append(f"{guard}: stable has too little traffic to compare with, so it is not rolled back for this")
        return found

    def _tick(self, running: RolloutProgress) -> None:
        before, now = running.decision, self._clock()
        if not self._leads():
            found = against(running.plan, self.seen(running)) if running.rollout.is_live else None
            if found is not None:
                rollout = move(running.rollout, Event.ROLLBACK, now, actor=GATEWAY, decision=found)
                self._move(running, Event.ROLLBACK, rollout)
            return
        decision = running.decision = decide(running.plan, running.rollout, self.seen(running), now, running.model)
        if decision.event is not None:
            rollout = move(running.rollout, decision.event, now, actor=GATEWAY, decision=decision)
            self._move(running, decision.event, rollout)
        elif running.rollout.phase in {Phase.IDLE, Phase.WAITING} and _blocks(decision) and not _blocks(before):
            self._audit.record(GATEWAY, "start refused", f"rollout of {running.model}", decision.reason)

    def _move(self, running: RolloutProgress, event: Event, rollout: Rollout, *, told: bool = False) -> None:
        before = running.moved_to(rollout)
        if event in {Event.START, Event.READY}:
            running.begin(usual(self._ledger, running.model))
        elif (before.phase, before.share) != (rollout.phase, rollout.share):
            running.evidence.begin_step()
        if not told:  # else the one that decided has done this
            if rollout.phase in {Phase.PROMOTED, Phase.ROLLED_BACK}:
                self.results[running.model, rollout.phase] += 1
            if event is Event.ROLLBACK:
                self._rolled_back.append(rolled_back(running))
            weight = f"{running.plan.candidate} now has {rollout.share:g} % of requests"
            self._audit.record(rollout.actor, event, f"rollout of {running.model}", f"{rollout.reason}; {weight}")
        running.apply(self._current.table.model(running.model))
        self._request_save()

    def _begun(self, spec: ModelSpec, plan: Plan, known: RolloutProgress | None) -> RolloutProgress:
        running = self._idle(spec, plan)
        if known is not None and known.plan.fingerprint == plan.fingerprint:
            running.take_over(known)
            return running
        return running if restored(running, self._kept, self._clock()) else self._idle(spec, plan)

    def _idle(self, spec: ModelSpec, plan: Plan) -> RolloutProgress:
        now = self._clock()
        running = RolloutProgress(spec.name, plan, spec.objectives, Rollout(since=now))
        running.ready_at = now
        return running


def _blocks(decision: Decision) -> bool:
    """Whether it is the error budget that keeps a rollout from starting."""
    return decision.event is None and "error budget" in decision.reason
