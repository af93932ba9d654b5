"""The loop that leads rollouts: it weighs every settled request, moves versions forward or back, and says why."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from gateway.clock import Clock
from gateway.config.table import ModelSpec, RouteTable
from gateway.control.audit import Audit
from gateway.control.rollout_progress import KEYS, KIND, RolloutProgress, changes
from gateway.control.rollout_record import budget_left, usual
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
    decide,
    move,
    resume_blocker,
    start_blocker,
)
from gateway.policy.slo.judge import judge_first, judge_request
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import Sli
from gateway.proxy.current import CurrentTable
from gateway.state.store import Document
from gateway.telemetry.rollout_exposition import RolloutRow

__all__ = ["KIND", "RolloutController", "RolloutProgress"]

_log = logging.getLogger(__name__)
INTERVAL = 0.25
_FORGETS = "without lasting state a restart resets every rollout: a promotion or rollback will not survive"
_OUT_OF_TIME = frozenset((Outcome.TIMEOUT, Outcome.SHED))
_NOTHING_TO_DO = frozenset(
    ((Phase.PAUSED, Event.PAUSE), (Phase.STEP, Event.RESUME), (Phase.WAITING, Event.START), (Phase.STEP, Event.START))
)
_NEEDS_BUDGET = {Event.START: start_blocker, Event.RESUME: resume_blocker}


class RolloutController:
    """Weighs requests, moves versions forward or back, and does what people ask: to promote, pause or roll back.

    `results` counts rollouts that ended, by (model, result). Only the process that `leads` moves anything.
    """

    def __init__(
        self,
        ledger: SloLedger,
        current: CurrentTable,
        audit: Audit,
        *,
        clock: Clock,
        leads: Callable[[], bool],
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
        self._request_save = request_save
        self._lasting = lasting
        self._lateness = lateness
        self._running: dict[str, RolloutProgress] = {}
        self._kept: dict[tuple[str, str], str] = {}

    def __iter__(self) -> Iterator[RolloutProgress]:
        return iter(self._running.values())

    def get(self, model: str) -> RolloutProgress | None:
        """Return the rollout of a model, None where its routes have none."""
        return self._running.get(model)

    async def run(self) -> None:
        """Lead until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            self.tick()

    def restore(self, documents: Iterable[Document]) -> None:
        """Take what was kept over a restart, or by the process that led before; `follow` has to come after."""
        self._kept |= {(each.kind, each.name): each.body for each in documents if each.kind in {KIND, KEYS}}

    def follow(self, routes: RouteTable) -> None:
        """Take other routes: a rollout whose definition is the same goes on with its share, another begins."""
        before, self._running = self._running, {}
        for spec in routes.models.values():
            if spec.canary is not None:
                known = before.pop(spec.name, None)
                self._running[spec.name] = running = self._begun(spec, spec.canary, known)
                running.apply(self._current.table.model(running.model))
                if known is not None and known.plan != running.plan:
                    self._reloaded(known, running)
        if self._running and not self._lasting:
            _log.warning(f"{_FORGETS}: name a file with --state", extra={"models": ", ".join(self._running)})
        for model, gone in before.items():
            self._audit.record("reload", "end", f"rollout of {model}", f"the routes have no canary of {model} any more")
            _log.info("a rollout ended by a reload", extra={"model": model, "share": gone.rollout.share})

    def stay(self) -> None:
        """Go on as before, in routes that are the same but for their backends."""
        for running in self._running.values():
            running.apply(self._current.table.model(running.model))

    def _reloaded(self, known: RolloutProgress, running: RolloutProgress) -> None:
        """Leave a record of what a reload changed, and of what it did not."""
        share = f"{running.plan.candidate} has {running.rollout.share:g} % of requests"
        if known.plan.fingerprint != running.plan.fingerprint:
            was = f"{known.plan.candidate} had {known.rollout.share:g} %"
            self._audit.record(
                "reload", "restart", f"rollout of {running.model}", f"another definition: {share}, {was}"
            )
            return
        changed = changes(known.plan, running.plan)
        self._audit.record("reload", "change", f"rollout of {running.model}", f"{changed}; {share}, as before")

    def taken_over(self, documents: Iterable[Document], routes: RouteTable) -> None:
        """Go on where another gateway stopped to lead; what has been seen since then is not lost."""
        kept = list(documents)
        for document in kept:
            running = self._running.get(document.name)
            if document.kind == KIND and running is not None and not _goes_on(running, document.body):
                del self._running[document.name]
        self.restore(kept)
        self.follow(routes)

    def led(self, documents: Iterable[Document], routes: RouteTable) -> None:
        """Stand where another gateway leads its rollouts to: the shares are those of all."""
        kept = [each for each in documents if each.kind in {KIND, KEYS}]
        moved = [each for each in kept if each.kind == KIND and each.name in self._running]
        if any(not _goes_on(self._running[each.name], each.body) for each in moved):
            self.taken_over(kept, routes)
        else:
            self.restore(kept)

    def concerns(self, exchange: Exchange) -> bool:
        """Return whether a request is of a model with a rollout."""
        return exchange.model in self._running

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
        if bad and findings.regression_reason(running.evidence) and self._leads():
            self._tick(running)

    def tick(self) -> None:
        """Decide once for every rollout."""
        if self._leads():
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
            if not self._leads():
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
        if not self._leads():
            return []
        now = self._clock()
        documents = []
        for running in self._running.values():
            if running.changed:
                running.changed = False
                documents += running.documents(now)
        self._kept |= {(each.kind, each.name): each.body for each in documents}
        return documents

    def rows(self) -> list[RolloutRow]:
        """Return every rollout as metrics show it."""
        return [
            RolloutRow(
                running.model,
                running.rollout.phase,
                running.rollout.step + 1,
                {
                    version.name: share
                    for version, share in self._current.table.model(running.model).traffic.split.shares()
                },
                {sli: track.comparison.log_e for sli, track in running.evidence.tracks.items()},
            )
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
        decision = running.decision = decide(running.plan, running.rollout, self.seen(running), now, running.model)
        if decision.event is not None:
            rollout = move(running.rollout, decision.event, now, actor=GATEWAY, decision=decision)
            self._move(running, decision.event, rollout)
        elif running.rollout.phase in {Phase.IDLE, Phase.WAITING} and _blocks(decision) and not _blocks(before):
            self._audit.record(GATEWAY, "start refused", f"rollout of {running.model}", decision.reason)

    def _move(self, running: RolloutProgress, event: Event, rollout: Rollout) -> None:
        before = running.moved_to(rollout)
        if event in {Event.START, Event.READY}:
            running.begin(usual(self._ledger, running.model))
        elif (before.phase, before.share) != (rollout.phase, rollout.share):
            running.evidence.begin_step()
        if rollout.phase in {Phase.PROMOTED, Phase.ROLLED_BACK}:
            self.results[running.model, rollout.phase] += 1
        weight = f"{running.plan.candidate} now has {rollout.share:g} % of requests"
        self._audit.record(rollout.actor, event, f"rollout of {running.model}", f"{rollout.reason}; {weight}")
        running.apply(self._current.table.model(running.model))
        self._request_save()

    def _begun(self, spec: ModelSpec, plan: Plan, known: RolloutProgress | None) -> RolloutProgress:
        running = self._idle(spec, plan)
        if known is not None and known.plan.fingerprint == plan.fingerprint:
            running.take_over(known)
            return running
        body = self._kept.get((KIND, spec.name))
        try:
            kept = json.loads(body) if body is not None else {}
            if kept.get("fingerprint") == plan.fingerprint:
                running.restore(kept, self._clock())
                keys = self._kept.get((KEYS, spec.name))
                if keys is not None:
                    running.evidence.restore_keys(json.loads(keys))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            _log.exception("a saved rollout cannot be read: it starts from the beginning", extra={"model": spec.name})
            running = self._idle(spec, plan)
        return running

    def _idle(self, spec: ModelSpec, plan: Plan) -> RolloutProgress:
        now = self._clock()
        running = RolloutProgress(spec.name, plan, spec.objectives, Rollout(since=now))
        running.ready_at = now
        return running


def _goes_on(running: RolloutProgress, body: str) -> bool:
    """Whether a rollout stands where it was kept, as far as that can be read."""
    try:
        return running.goes_on_from(json.loads(body))
    except (KeyError, TypeError, ValueError):
        return True


def _blocks(decision: Decision) -> bool:
    """Whether it is the error budget that keeps a rollout from starting."""
    return decision.event is None and "error budget" in decision.reason
