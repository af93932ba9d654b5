"""The loop that leads rollouts: it weighs every settled request, moves versions forward or back, and says why."""

import asyncio
import json
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any

from gateway.clock import Clock
from gateway.config.table import ModelSpec, RouteTable
from gateway.control.audit import Audit
from gateway.exchange import Exchange
from gateway.policy.canary.evidence import Evidence, guard
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
    may_resume,
    may_start,
    move,
    resumed,
)
from gateway.policy.slo.alerts import FASTEST
from gateway.policy.slo.burn import budget_left, insufficient
from gateway.policy.slo.judge import judge_first, judge_request
from gateway.policy.slo.objective import DEPLOYMENT, Objective, Sli
from gateway.policy.slo.windows import MINUTE
from gateway.proxy.live import LiveTable, Mirror
from gateway.state.store import Document
from gateway.telemetry.rollout_exposition import RolloutRow
from gateway.telemetry.slo import Kind, SloBook
from gateway.telemetry.tally import Tally

_log = logging.getLogger(__name__)
INTERVAL = 0.25
KIND = "rollout"
_HISTORY = 200
_NEEDS_BUDGET = MappingProxyType({Event.START: may_start, Event.RESUME: may_resume})


class Running:
    """One model's rollout: where it stands, what it has seen, and its way so far (`history`, the newest last)."""

    def __init__(self, model: str, plan: Plan, objectives: Sequence[Objective], rollout: Rollout) -> None:
        self.model = model
        self.plan = plan
        self.objectives = {each.name: each for each in objectives}
        self.rollout = rollout
        self.decision = Decision(None, rollout.reason)
        self.history: deque[Rollout] = deque([rollout], maxlen=_HISTORY)
        self.evidence = _evidence(plan, objectives)
        self.tallies = {plan.stable: Tally(), plan.candidate: Tally()}
        self.ready_at = 0.0
        self.changed = True

    def __repr__(self) -> str:
        return f"<Running {self.model} {self.rollout.phase} {self.rollout.step} {self.evidence!r}>"

    def begin(self) -> None:
        """Start to compare anew."""
        self.evidence = _evidence(self.plan, self.objectives.values())
        self.tallies = {self.plan.stable: Tally(), self.plan.candidate: Tally()}

    def objective_of(self, exchange: Exchange) -> Objective:
        """Return what a request is held to; one that began under other routes, to what the model promises first."""
        return self.objectives.get(exchange.objective) or next(iter(self.objectives.values()))

    def document(self) -> Document:
        """Return what is kept over a restart."""
        body = {
            "fingerprint": self.plan.fingerprint,
            "rollout": asdict(self.rollout),
            "weight": self.rollout.weight(self.plan),
            "history": [asdict(each) for each in self.history],
            "evidence": self.evidence.state(),
            "tallies": {name: tally.state() for name, tally in self.tallies.items()},
        }
        return Document(KIND, self.model, json.dumps(body))

    def goes_on_from(self, body: dict[str, Any]) -> bool:
        """Whether this stands where that was kept, and has seen as much at least."""
        return bool(body["rollout"] == asdict(self.rollout) and body["evidence"]["answered"] <= self.evidence.answered)

    def restore(self, body: dict[str, Any]) -> None:
        """Take back what was kept; raises KeyError, TypeError, ValueError or IndexError for what cannot be that."""
        rollout = _rollout(body["rollout"])
        self.history = deque([_rollout(each) for each in body["history"]], maxlen=_HISTORY)
        self.evidence.restore(body["evidence"])
        for name, tally in self.tallies.items():
            tally.restore(body["tallies"][name])
        self.rollout = resumed(self.plan, rollout, float(body["weight"]))
        self.decision = Decision(None, rollout.reason)


class Roller:
    """An observer of settled requests, and what people ask to promote, pause or roll back.

    `results` counts rollouts that ended, by (model, result). Only whoever `leads` moves anything.
    """

    def __init__(
        self,
        book: SloBook,
        table: Callable[[], LiveTable],
        audit: Audit,
        *,
        clock: Clock,
        leads: Callable[[], bool],
        saved: Callable[[], None],
    ) -> None:
        """Take a clock of seconds since the epoch, and whom to tell that something has to be saved at once."""
        self.results: Counter[tuple[str, str]] = Counter()
        self._book = book
        self._table = table
        self._audit = audit
        self._clock = clock
        self._leads = leads
        self._saved = saved
        self._running: dict[str, Running] = {}
        self._kept: dict[str, str] = {}

    def __iter__(self) -> Iterator[Running]:
        return iter(self._running.values())

    def get(self, model: str) -> Running | None:
        """Return the rollout of a model, None where its routes have none."""
        return self._running.get(model)

    async def run(self) -> None:
        """Lead until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            self.tick()

    def restore(self, documents: Iterable[Document]) -> None:
        """Take what was kept over a restart, or by whoever led before; `follow` has to come after."""
        self._kept |= {each.name: each.body for each in documents if each.kind == KIND}

    def follow(self, routes: RouteTable) -> None:
        """Take other routes: a rollout whose definition is the same goes on, another begins."""
        before, self._running = self._running, {}
        for spec in routes.models.values():
            if spec.canary is not None:
                self._running[spec.name] = self._begun(spec, spec.canary, before.get(spec.name))
                self._apply(self._running[spec.name])

    def taken_over(self, documents: Iterable[Document], routes: RouteTable) -> None:
        """Go on where another gateway stopped to lead; what has been seen since then is not lost."""
        kept = list(documents)
        for document in kept:
            running = self._running.get(document.name)
            if document.kind == KIND and running is not None and not running.goes_on_from(json.loads(document.body)):
                del self._running[document.name]
        self.restore(kept)
        self.follow(routes)

    def began(self, exchange: Exchange) -> None:
        """Weigh a first token the moment it is there: a slow candidate's streams may take minutes to settle."""
        running = self._weighing(exchange)
        if running is not None and (outcomes := judge_first(running.objective_of(exchange), exchange)):
            exchange.weighed = True
            self._weigh(running, outcomes, candidate=exchange.version == running.plan.candidate)

    def settled(self, exchange: Exchange) -> None:
        """Weigh a request; one that a client forced to a version is no fair sample."""
        running = self._weighing(exchange)
        if running is None:
            return
        running.tallies[exchange.version].add(exchange)
        outcomes = judge_request(running.objective_of(exchange), exchange)
        if exchange.weighed:
            outcomes.pop(Sli.TTFT, None)
        self._weigh(running, outcomes, candidate=exchange.version == running.plan.candidate)

    def _weighing(self, exchange: Exchange) -> Running | None:
        """Return the rollout that a request says something about, if any."""
        running = self._running.get(exchange.model)
        if running is None or exchange.forced or not running.rollout.is_live:
            return None
        return running if exchange.version in running.tallies else None

    def _weigh(self, running: Running, outcomes: Mapping[str, bool], *, candidate: bool) -> None:
        running.evidence.add(outcomes, candidate=candidate)
        running.changed = True
        if candidate and running.evidence.is_worse and self._leads():
            self._tick(running)

    def tick(self) -> None:
        """Decide once for every rollout."""
        if self._leads():
            for running in self._running.values():
                try:
                    self._tick(running)
                except Exception:
                    _log.exception("a rollout could not be led", extra={"model": running.model})

    def ask(self, model: str, event: Event, *, actor: str, reason: str) -> Running:
        """Do what a person asks for; raises KeyError for a model without a rollout and Refused, with the reason.

        What was refused has a record too.
        """
        running = self._running[model]
        try:
            if not self._leads():
                raise Refused("another gateway leads rollouts now: ask that one")
            allowed = _NEEDS_BUDGET.get(event)
            if allowed is not None and (frozen := allowed(running.plan, self._budget_left(model))):
                raise Refused(frozen)
            rollout = move(running.rollout, event, self._clock(), actor=actor, reason=reason)
        except Refused as refused:
            self._audit.record(actor, f"{event} refused", f"rollout of {model}", f"{refused} (asked: {reason})")
            raise
        self._move(running, event, rollout)
        return running

    def documents(self) -> list[Document]:
        """Return what changed since the last call."""
        if not self._leads():
            return []
        changed = [running for running in self._running.values() if running.changed]
        for running in changed:
            running.changed = False
        documents = [running.document() for running in changed]
        self._kept |= {each.name: each.body for each in documents}
        return documents

    def rows(self) -> list[RolloutRow]:
        """Return every rollout as metrics show it."""
        return [
            RolloutRow(
                running.model,
                running.rollout.phase,
                running.rollout.step + 1,
                {version.name: share for version, share in self._table().model(running.model).split.shares()},
                {sli: comparison.log_e for sli, comparison in running.evidence.comparisons.items()},
            )
            for running in self._running.values()
        ]

    def seen(self, running: Running) -> Seen:
        """Return what is known about a rollout now."""
        live = self._table().model(running.model)
        now = self._clock()
        if live.versions[running.plan.candidate].is_ready:
            running.ready_at = now
        evidence, compares = running.evidence, running.rollout.is_live
        return Seen(
            unready=now - running.ready_at,
            worse=evidence.is_worse if compares else "",
            guard=self._guard(running) if compares else "",
            requests=evidence.requests,
            bounds=evidence.bounds(),
            budget_left=self._budget_left(running.model),
        )

    def _tick(self, running: Running) -> None:
        before = running.decision
        decision = running.decision = decide(running.plan, running.rollout, self.seen(running), self._clock())
        if decision.event is not None:
            rollout = move(
                running.rollout,
                decision.event,
                self._clock(),
                actor=GATEWAY,
                reason=decision.reason,
                step=decision.step,
            )
            self._move(running, decision.event, rollout)
        elif running.rollout.phase in {Phase.IDLE, Phase.WAITING} and _blocks(decision) and not _blocks(before):
            self._audit.record(GATEWAY, "start refused", f"rollout of {running.model}", decision.reason)

    def _move(self, running: Running, event: Event, rollout: Rollout) -> None:
        before, running.rollout = running.rollout, rollout
        running.history.append(rollout)
        running.changed = True
        if event in {Event.START, Event.READY}:
            running.begin()
        elif (before.phase, before.step) != (rollout.phase, rollout.step):
            running.evidence.begin_step()
        if rollout.phase in {Phase.PROMOTED, Phase.ROLLED_BACK}:
            self.results[running.model, rollout.phase] += 1
        weight = f"{running.plan.candidate} now has {rollout.weight(running.plan):g} % of requests"
        self._audit.record(rollout.actor, event, f"rollout of {running.model}", f"{rollout.reason}; {weight}")
        self._apply(running)
        self._saved()

    def _apply(self, running: Running) -> None:
        """Let requests from now on follow the rollout; those in progress go on where they are."""
        live, plan, rollout = self._table().model(running.model), running.plan, running.rollout
        weight = rollout.weight(plan)
        live.split = live.shared([(plan.stable, 100.0 - weight), (plan.candidate, weight)])
        mirrored = rollout.mirrored(plan)
        live.mirror = Mirror(live.versions[plan.candidate], mirrored / 100) if mirrored else None

    def _begun(self, spec: ModelSpec, plan: Plan, known: Running | None) -> Running:
        now = self._clock()
        body = self._kept.get(spec.name)
        if known is not None and known.plan.fingerprint == plan.fingerprint:
            body = known.document().body
        running = Running(spec.name, plan, spec.objectives, Rollout(since=now))
        running.ready_at = now
        try:
            kept = json.loads(body) if body is not None else {}
            if kept.get("fingerprint") == plan.fingerprint:
                running.restore(kept)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            _log.exception("what was kept of a rollout cannot be read: it begins anew", extra={"model": spec.name})
            running = Running(spec.name, plan, spec.objectives, Rollout(since=now))
            running.ready_at = now
        return running

    def _guard(self, running: Running) -> str:
        """Ask the absolute guard, once its windows hold nothing from before this rollout began."""
        plan = running.plan
        if self._clock() - running.rollout.started < 5 * MINUTE:
            return ""
        stable = {
            (each.objective, each.sli): each for each in self._book.get(Kind.VERSION, f"{running.model}/{plan.stable}")
        }
        for tracked in self._book.get(Kind.VERSION, f"{running.model}/{plan.candidate}"):
            windows = tracked.windows
            if tracked.sli == Sli.ITL or windows.spotless:
                continue
            long, short = windows.count(5 * MINUTE), windows.count(MINUTE)
            theirs = stable[tracked.objective, tracked.sli].windows.count(5 * MINUTE)
            found = guard(
                tracked.sli,
                ([long.good, long.bad], [short.good, short.bad]),
                [theirs.good, theirs.bad],
                budget=tracked.target.budget,
                factor=FASTEST.factor(windows.slo),
            )
            if found:
                return found
        return ""

    def _budget_left(self, model: str) -> float | None:
        """Return the smallest error budget left of a model's SLIs, None while too few events were seen."""
        left = []
        for tracked in self._book.get(Kind.MODEL, model):
            if tracked.sli == DEPLOYMENT:
                continue
            counts, budget = tracked.windows.count(tracked.windows.slo), tracked.target.budget
            share = None if insufficient(counts, 1.0, budget) else budget_left(counts, budget)
            if share is not None:
                left.append(share)
        return min(left, default=None)


def _blocks(decision: Decision) -> bool:
    """Whether it is the error budget that keeps a rollout from starting."""
    return decision.event is None and "error budget" in decision.reason


def _evidence(plan: Plan, objectives: Iterable[Objective]) -> Evidence:
    """Each request is judged by its own objective, and all are compared together; the strictest target is the prior."""
    budgets: dict[str, float] = {}
    for objective in objectives:
        for sli, target in objective.targets.items():
            if sli is not Sli.ITL:
                budgets[sli] = min(target.budget, budgets.get(sli, 1.0))
    return Evidence(budgets, plan.warm_up)


def _rollout(values: dict[str, Any]) -> Rollout:
    return replace(Rollout(**values), phase=Phase(values["phase"]))
