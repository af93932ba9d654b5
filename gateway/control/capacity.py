"""The loop that decides how many replicas every pool wants; the gateway that leads decides, and all say the same."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from math import isfinite

from gateway.clock import Clock, next_turn
from gateway.config.table import BudgetSpec, CapacitySpec, PoolSpec
from gateway.control.audit import Audit
from gateway.control.capacity_budget import Budgets, Party
from gateway.control.capacity_calls import CapacityCalls
from gateway.control.capacity_history import CapacityHistory
from gateway.control.capacity_load import LoadReader
from gateway.control.capacity_record import KIND, CapacityRecord, kept, renewed
from gateway.policy.capacity.decide import decide
from gateway.policy.capacity.guard_rails import most_allowed
from gateway.policy.capacity.want import Decision, Memory, PoolLoad, Rail, Rule, Rules, Want
from gateway.proxy.current import CurrentTable
from gateway.state.store import WAKING, Document
from gateway.wire.slices import Slices, Work

_log = logging.getLogger(__name__)
INTERVAL = 1.0
RENEWED = 10.0
"""Seconds after which the others are told that a want still holds."""
SETTLED = 30.0
"""Seconds that backends have to become ready before a pool is taken for what it is, where nothing is known of before:
a gateway and its engines may be started together."""
GATEWAY = "tidegate"
_NOT_YET = "not every backend of the pool is known yet"
_NO_LEADER = "no gateway has said lately how many the pool wants"


Decider = Callable[[PoolLoad, Rules, Memory, float], Decision]


class CapacityRefused(Exception):
    """What a person asks for cannot be done; the message says why."""


@dataclass(frozen=True, slots=True)
class PoolWant:
    """What one pool wants, as it is shown. `problem` says why that is unknown, "" while it is known.

    `record` is the last that was known, None before the first, and holds until `valid_until` (seconds since the epoch).
    """

    pool: PoolSpec
    capacity: CapacitySpec
    record: CapacityRecord | None
    problem: str
    valid_until: float | None

    @property
    def want(self) -> Want | None:
        """The want, None while it is unknown."""
        return None if self.problem or self.record is None else self.record.want


class CapacityController:
    """Decides what every pool wants, while this gateway leads; else follows what the one that leads has decided.

    A want is shown once it is saved, so that no two gateways say different things for long. `changes` counts those that
    were decided here, by (pool, rule).
    """

    def __init__(
        self,
        current: CurrentTable,
        reader: LoadReader,
        audit: Audit,
        *,
        clock: Clock,
        epoch: Clock,
        leads: Callable[[], bool],
        request_save: Callable[[], None],
        waking: Callable[[], Collection[str]] = tuple,
        decider: Decider = decide,
    ) -> None:
        """Take a clock for durations, one of seconds since the epoch, and what has changes saved at once.

        `waking` tells the pools for whose first replica requests wait here.
        """
        self._decider = decider
        self._waking = waking
        self._calls = CapacityCalls(clock, epoch)
        self.history = CapacityHistory()
        self._budgets = Budgets()
        self._current = current
        self._reader = reader
        self._audit = audit
        self._clock = clock
        self._epoch = epoch
        self._leads = leads
        self._request_save = request_save
        self._decided: dict[str, CapacityRecord] = {}
        self._saving: dict[str, CapacityRecord] = {}
        self._shown: dict[str, CapacityRecord] = {}
        self._told_at: dict[str, float] = {}
        self.changes: Counter[tuple[str, str]] = Counter()
        self._problems: dict[str, str] = {}
        self._first_seen: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<CapacityController {' '.join(f'{name}={each.want.target}' for name, each in self._shown.items())}>"

    def __iter__(self) -> Iterator[PoolWant]:
        for name in self._current.routes.pools:
            found = self.get(name)
            if found is not None:
                yield found

    def get(self, pool: str) -> PoolWant | None:
        """Return what a pool wants, None where the routes name no such pool, or it wants no number of replicas."""
        spec = self._current.routes.pools.get(pool)
        if spec is None or spec.capacity is None:
            return None
        record, problem = self._shown.get(pool), ""
        if record is None or record.want.valid_until <= self._clock():
            problem = self._problems.get(pool, "") or _NO_LEADER
        elif not record.want.target and pool in self._waking() and _may_wake(record, spec.capacity):
            record = _woken(record)  # the leader will say the same in a moment
        until = None if record is None else record.want.valid_until - self._clock() + self._epoch()
        return PoolWant(spec, spec.capacity, record, problem, until)

    async def run(self, slices: Slices) -> None:
        """Decide until cancelled, in slices of the loop's time."""
        while True:
            await next_turn(INTERVAL)
            if self._leads():
                await slices.do(self.deciding())
            elif self._waking():
                self._request_save()

    def deciding(self) -> Work[None]:
        """Decide once for every pool, in small pieces."""
        routes = self._current.routes
        pools = [pool for pool in routes.pools.values() if pool.capacity is not None]
        for gone in self._decided.keys() - {pool.name for pool in pools}:
            del self._decided[gone]
        loads = yield from self._reader.reading(pools)
        parties: dict[str, list[Party]] = {}
        for pool in pools:
            load, capacity = self._with_calls(pool.name, loads[pool.name]), pool.capacity
            if capacity is None:
                continue
            party = Party(pool, capacity)
            parties.setdefault(capacity.budget, []).append(party)
            if load is None or not self._is_settled(pool, capacity, load):
                self._problems[pool.name] = _NOT_YET
                continue
            self._problems.pop(pool.name, None)
            if capacity.predictive:
                load = replace(load, expected=(yield from self.history.looking(pool, load, self._epoch())))
            try:
                party.load, party.decision = load, self._decide(pool, capacity, load)
                if not capacity.budget:
                    self._keep(pool.name, capacity, party.decision)
            except Exception:  # noqa: BLE001 - the other pools are still to be decided for
                _log.exception("it could not be decided what a pool wants", extra={"pool": pool.name})
            yield
        parties.pop("", None)
        for name, sharing in parties.items():
            yield from self._sharing(routes.budgets[name], sharing)

    def _sharing(self, budget: BudgetSpec, parties: list[Party]) -> Work[None]:
        """Keep what the pools of a budget want, as far as there is as much."""
        for party in parties:
            party.before = self._last(party.pool.name)
        decisions = yield from self._budgets.sharing(budget, parties, self._clock())
        for party in parties:  # in one piece: what one pool gives, and another gets, is saved together
            decision = decisions.get(party.pool.name)
            if decision is None:
                continue
            try:
                self._keep(party.pool.name, party.capacity, decision)
            except Exception:  # noqa: BLE001 - the other pools are still to be decided for
                _log.exception("it could not be decided what a pool wants", extra={"pool": party.pool.name})

    def _with_calls(self, pool: str, load: PoolLoad | None) -> PoolLoad | None:
        """Count requests that wait elsewhere for the first replica of a pool."""
        calls = pool in self._waking() or pool in self._calls
        return replace(load, queued=1) if load is not None and not load.queued and calls else load

    def _is_settled(self, pool: PoolSpec, capacity: CapacitySpec, load: PoolLoad) -> bool:
        """Whether what is seen of a pool is what there is: a first want must not be that of engines that just start."""
        if self._last(pool.name) is not None:
            return True
        now = self._clock()
        since = self._first_seen.setdefault(pool.name, now)
        all_there = (load.ready + load.drained) * capacity.backends_per_replica >= len(pool.backends)
        return all_there or now - since >= SETTLED or bool(load.queued and not load.replicas)

    def approve(self, pool: str, *, actor: str, reason: str, replicas: int | None = None) -> PoolWant:
        """Let a pool want as many replicas as wait for approval, or at least so many; to do so again changes nothing.

        Raises KeyError for a pool without wants, and CapacityRefused.
        """
        found, record = self._asked(pool)
        wanted = replicas if replicas is not None else record.want.awaits
        if wanted is None:
            if record.approved is not None and record.want.target <= record.approved:
                return replace(found, record=record)
            raise CapacityRefused("no want of this pool waits for approval")
        if wanted > found.capacity.rules.max:
            raise CapacityRefused(f"`max` of this pool is {found.capacity.rules.max} {found.capacity.unit}")
        if record.approved is None or record.approved < wanted:
            record = replace(record, approved=wanted, approved_at=self._clock(), rejected=None, asked=0)
            self._change(pool, record)
            words = f"up to {wanted} {found.capacity.unit}: {reason}"
            self._audit.record(actor, "approve", _subject(pool), words)
        return replace(found, record=record)

    def reject(self, pool: str, *, actor: str, reason: str) -> PoolWant:
        """Refuse what waits for approval, and take back what was approved; a want of more asks again.

        Raises KeyError for a pool without wants, and CapacityRefused.
        """
        found, record = self._asked(pool)
        if record.awaits is None and record.approved is None:
            if record.rejected is not None:
                return replace(found, record=record)
            raise CapacityRefused("no want of this pool waits for approval, and none was approved")
        refused = max(record.want.awaits or 0, record.approved or 0)
        record = replace(record, approved=None, approved_at=0.0, rejected=refused, asked=0)
        self._change(pool, record)
        self._audit.record(actor, "reject", _subject(pool), f"{refused} {found.capacity.unit}: {reason}")
        return replace(found, record=record)

    def documents(self) -> list[Document]:
        """Return what changed since the last call, or has to be told again, while this gateway leads."""
        if not self._leads():
            return self._calls.documents(self._waking())
        found, now, epoch = [], self._clock(), self._epoch()
        for pool, record in self._decided.items():
            before = self._saving.get(pool)
            is_news = before is None or _essence(before) != _essence(record)
            if is_news or now - self._told_at[pool] >= RENEWED:
                try:
                    found.append(record.document(now, epoch))
                except ValueError:  # one that cannot be written must not keep the rest from being saved
                    _log.exception("a want cannot be saved", extra={"pool": pool})
                    continue
                self._saving[pool], self._told_at[pool] = record, now
        return found + self.history.documents()

    def saved(self) -> None:
        """Show what is saved by now."""
        if self._leads():
            self._shown |= self._saving

    def restore(self, documents: Iterable[Document]) -> None:
        """Go on from what was kept over a restart: what it was, not that it still holds."""
        self._take(documents, fresh=False)

    def follow(self, documents: Iterable[Document]) -> None:
        """Say what the gateway that leads has decided meanwhile, and hear where requests wait for a first replica."""
        found = list(documents)
        self._take(found, fresh=True)
        for each in found:
            if each.kind == WAKING:
                self._calls.hear(each)

    def undone(self) -> None:
        """Forget what was decided here and may not be saved: another gateway leads."""
        self._decided.clear()
        self._saving.clear()
        self._told_at.clear()
        self.history.forget()

    def _take(self, documents: Iterable[Document], *, fresh: bool) -> None:
        now, epoch, found = self._clock(), self._epoch(), list(documents)
        self.history.take(found)
        for each in found:
            if each.kind != KIND:
                continue
            try:
                record = kept(each.body, now, epoch, fresh=fresh)
            except (KeyError, TypeError, ValueError, AttributeError):
                _log.error("a saved want cannot be read", extra={"pool": each.name})
                continue
            self._shown[each.name] = record if fresh else renewed(record, now)

    def _asked(self, pool: str) -> tuple[PoolWant, CapacityRecord]:
        found = self.get(pool)
        if found is None:
            raise KeyError(pool)
        if not self._leads():
            raise CapacityRefused("another gateway leads now: ask that one")
        record = self._decided.get(pool)
        if record is None:
            raise CapacityRefused(found.problem or _NOT_YET)
        return found, record

    def _last(self, pool: str) -> CapacityRecord | None:
        """Return what was decided here last, or what was shown where nothing was; None before the first."""
        return self._decided.get(pool) or self._shown.get(pool)

    def _change(self, pool: str, record: CapacityRecord) -> None:
        self._decided[pool] = record
        self._request_save()

    def _decide(self, pool: PoolSpec, capacity: CapacitySpec, load: PoolLoad) -> Decision:
        """Return what a pool wants by itself."""
        before = self._last(pool.name)
        memory = Memory() if before is None else before.memory
        approved = None if before is None else before.approved
        return self._decider(replace(load, approved=approved), capacity.rules, memory, self._clock())

    def _keep(self, pool: str, capacity: CapacitySpec, decision: Decision) -> None:
        now, want = self._clock(), decision.want
        before = self._last(pool)
        inputs = {name: None if value is None or not isfinite(value) else value for name, value in want.inputs.items()}
        if not (isfinite(want.value) and want.value >= 0):
            raise ValueError(f"a want of {want.value} is no number of replicas")
        want = replace(want, inputs=inputs, unit=capacity.unit)
        if want.rule is Rule.STALE:
            want = replace(want, valid_until=before.want.valid_until if before is not None and want.known else now)
        if before is None:
            record = CapacityRecord(want, decision.memory, since=self._epoch())
        else:
            record = replace(before, want=want, memory=decision.memory)
            if want.target != before.want.target:
                record = replace(record, intent=before.intent + 1, since=self._epoch())
            record = _answered(record, capacity, now)
        asked = 0 if before is None else before.asked_lately(capacity.rules.cool_down, now)
        if record.awaits is not None:
            record = replace(record, asked=max(asked, record.awaits), awaited_at=now)
        self._decided[pool] = record
        self._tell(pool, before, record, asked)

    def _tell(self, pool: str, before: CapacityRecord | None, record: CapacityRecord, asked: int) -> None:
        """Record what changes, with the reason and what it follows from."""
        want, was = record.want, None if before is None else before.want
        told = None if was is None else was.target
        if told != want.target:
            now = f"{want.target} {want.unit}" if told is None else f"{told} -> {want.target} {want.unit}"
            self.changes[pool, want.rule] += 1
            self._audit.record(GATEWAY, "want", _subject(pool), f"{now}: {_words(want)}")
            self._request_save()
        if record.awaits is not None and record.awaits > asked:
            words = f"{record.awaits} {want.unit} wait for approval: {_words(want)}"
            self._audit.record(GATEWAY, "await approval", _subject(pool), words)
            self._request_save()
        if Rail.COST in want.rails and (was is None or Rail.COST not in was.rails):
            words = f"{want.proposed} {want.unit} would cost too much, {want.target} do not: {_words(want)}"
            self._audit.record(GATEWAY, "cost cap", _subject(pool), words)


def _may_wake(record: CapacityRecord, capacity: CapacitySpec) -> bool:
    """Whether no rail keeps a pool from its first replica."""
    return Rail.BUDGET not in record.want.rails and most_allowed(capacity.rules, record.approved) >= 1


def _woken(record: CapacityRecord) -> CapacityRecord:
    """Return a want of none as one of the first replica."""
    reason = "requests wait and there is no replica"
    return replace(record, want=replace(record.want, target=1, value=1.0, rule=Rule.WAKE, reason=reason))


def _answered(record: CapacityRecord, capacity: CapacitySpec, now: float) -> CapacityRecord:
    """Forget a person's word once the want has fallen below what needs one: the next time they are asked again."""
    limit, want = capacity.rules.approval_above, record.want
    if limit is None:
        return replace(record, approved=None, rejected=None)
    is_over = max(want.target, want.proposed) <= limit
    if record.approved is not None and is_over and now - record.approved_at > capacity.rules.cool_down:
        record = replace(record, approved=None)
    return replace(record, rejected=None) if record.rejected is not None and is_over else record


def _essence(record: CapacityRecord) -> tuple[object, ...]:
    """Return what the others have to know at once."""
    want = record.want
    return (
        want.target,
        want.value,
        want.rule,
        want.awaits,
        record.approved,
        record.rejected,
        record.asked,
        record.intent,
    )


def _words(want: Want) -> str:
    inputs = ", ".join(f"{name} {value:.4g}" for name, value in want.inputs.items() if value is not None)
    rails = f", bounded by {', '.join(want.rails)}" if want.rails else ""
    return f"{want.reason} ({want.rule}{rails}; {inputs})"


def _subject(pool: str) -> str:
    return f"capacity of pool {pool}"
