"""Budgets that several pools share: what each of them may want while all of them want more than there is."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.config.table import BudgetSpec, CapacitySpec, PoolSpec
from gateway.control.capacity_record import CapacityRecord
from gateway.policy.capacity.guard_rails import hpa_value
from gateway.policy.capacity.rate_level import RateLevel
from gateway.policy.capacity.rations import Claim, Ration, rationing, spent, topping_up
from gateway.policy.capacity.want import Decision, Memory, PoolLoad, Rail, Rule
from gateway.wire.slices import Work

_log = logging.getLogger(__name__)
HELD: Final = 60.0
"""Seconds for which a division stays as it is, as long as it can."""
_PARTS: Final = 10_000
"""Parts of one unit of cost that are reckoned with."""
_ENOUGH_USED: Final = 0.1
"""The share of a pool in use from which on that says how much a replica carries."""


@dataclass(slots=True)
class Party:
    """One pool of a budget: what is known of it, what it wants by itself (None: nothing new), and did before."""

    pool: PoolSpec
    capacity: CapacitySpec
    load: PoolLoad | None = None
    decision: Decision | None = None
    before: CapacityRecord | None = None


@dataclass(slots=True)
class _Division:
    """How a budget was divided last."""

    budget: BudgetSpec
    made_at: float
    rations: dict[str, Ration] = field(default_factory=dict)


class Budgets:
    """Divides budgets, each again once in `HELD` seconds.

    What a pool wants by itself goes on in its memory, as if there were no budget; only its want is cut. The memory has
    what is left as well, which is what stays while the signals of the pool are old.
    """

    def __init__(self) -> None:
        self._divisions: dict[str, _Division] = {}
        self._slots: dict[str, float] = {}
        self._levels: dict[str, RateLevel] = {}
        self._moves: dict[str, tuple[int, float]] = {}

    def __repr__(self) -> str:
        return f"<Budgets, short: {', '.join(self._divisions) or 'none'}>"

    def sharing(self, budget: BudgetSpec, parties: Sequence[Party], now: float) -> Work[dict[str, Decision]]:
        """Return what the pools want that were decided for, by name: as they did if that is not too much together."""
        bound = [each for each in parties if budget.price(each.capacity) > 0]
        claims = [self._claim(budget, each, now) for each in bound]
        decisions = {each.pool.name: each.decision for each in parties if each.decision is not None}
        total = int(budget.total * _PARTS + 0.5)
        if spent(claims, [each.wants for each in claims]) <= total:
            self._divisions.pop(budget.name, None)
            return decisions
        try:
            rations = yield from self._rations(budget, claims, total, now)
        except Exception:  # noqa: BLE001 - what pools had is better than nothing
            _log.exception("a budget cannot be divided", extra={"budget": budget.name})
            rations = {each.pool: Ration(min(each.wants, each.has), "it stays as it was") for each in claims}
        for party, claim in zip(bound, claims, strict=True):
            more = rations[claim.pool].replicas - claim.has
            if more:
                self._moves[claim.pool] = (1 if more > 0 else -1), now
            if party.decision is not None and party.load is not None and rations[claim.pool].replicas < claim.wants:
                decisions[claim.pool] = _cut(party.decision, rations[claim.pool], budget, party.load, party.capacity)
        return decisions

    def _rations(
        self, budget: BudgetSpec, claims: Sequence[Claim], total: int, now: float
    ) -> Work[Mapping[str, Ration]]:
        last = self._divisions.get(budget.name)
        if last is not None and last.budget == budget and _still_holds(last, claims, total, now):
            made_at = last.made_at
            found = yield from topping_up(claims, [last.rations[claim.pool] for claim in claims], total)
        else:
            made_at = now
            found = yield from rationing(claims, total, budget.aim)
        made = {claim.pool: ration for claim, ration in zip(claims, found, strict=True)}
        self._divisions[budget.name] = _Division(budget, made_at, made)
        return made

    def _claim(self, budget: BudgetSpec, party: Party, now: float) -> Claim:
        name, rules = party.pool.name, party.capacity.rules
        load, decision, before = party.load, party.decision, party.before
        cost = max(1, int(budget.price(party.capacity) * _PARTS + 0.5))
        if load is None or decision is None:  # what it is told to have stays, and so do the engines of the routes
            engines = -(-len(party.pool.backends) // party.capacity.backends_per_replica)
            count = before.want.target if before is not None else max(rules.min, engines)
            return Claim(name, count, count, count, count, cost)
        wants = decision.want.target
        has = load.replicas if before is None else before.want.target
        serves = bool(load.queued or load.in_flight or load.arrivals)
        least = min(wants, max(rules.min, 1 if serves else 0))
        known = None if decision.want.rule is Rule.STALE else self._known(load, decision.memory, now)
        claim = Claim(name, wants, has, rules.min, least, cost, party.capacity.weight)
        if known is None:
            return claim
        rates, service_time, objective = known
        direction, moved_at = self._moves.get(name, (0, now))
        moved = direction if serves and now - moved_at < rules.cool_down else 0
        return replace(claim, rates=rates, service_time=service_time, objective=objective, moved=moved)

    def _known(self, load: PoolLoad, memory: Memory, now: float) -> tuple[tuple[float, ...], float, float] | None:
        """Return the rates of a pool, how long a request takes a whole replica, and how long it may take.

        None where they are not known: without traffic only that is known.
        """
        slots = self._slots_of_one(load, memory.smoothed)
        if load.arrivals == 0 and not load.queued and not load.in_flight:
            return (0.0,), 1.0, 1.0
        if load.arrivals is None or not load.holding or load.patience is None or not slots:
            return None
        rate = max(load.arrivals, memory.smoothed / load.holding)
        level = self._levels.setdefault(load.pool, RateLevel(rate, now))
        rates = [level.observe(rate, now)]
        if load.bursts is not None:
            rates.append(load.bursts.mean)
        if load.expected is not None:
            rates.append(load.expected.middle)
        service_time = load.holding / slots
        return tuple(rates), service_time, load.patience + service_time

    def _slots_of_one(self, load: PoolLoad, smoothed: float) -> float | None:
        """Return how many requests one replica works on at a time: by its limit, or by how much of it is in use."""
        if load.ready and load.limit:
            self._slots[load.pool] = load.limit / load.ready
        elif load.ready and smoothed:
            shares = [max(each.slots_used or 0.0, each.kv_used or 0.0) for each in load.engines]
            used = sum(shares) / len(shares) if shares else 0.0
            if used >= _ENOUGH_USED:
                self._slots[load.pool] = smoothed / load.ready / used
        return self._slots.get(load.pool)


def _still_holds(last: _Division, claims: Sequence[Claim], total: int, now: float) -> bool:
    """Whether a division was made a moment ago, and is still possible."""
    if not 0 <= now - last.made_at < HELD or last.rations.keys() != {each.pool for each in claims}:
        return False
    counts = [min(each.wants, last.rations[each.pool].replicas) for each in claims]
    return spent(claims, counts) <= total and all(
        count >= each.least for count, each in zip(counts, claims, strict=True)
    )


def _cut(decision: Decision, ration: Ration, budget: BudgetSpec, load: PoolLoad, capacity: CapacitySpec) -> Decision:
    """Return a decision with as many replicas as the budget leaves; its memory has this, and what the pool wants."""
    want, target, price = decision.want, ration.replicas, capacity.rules.cost_per_hour
    words = f"of {want.target} the budget {budget.name} ({budget}) leaves {target}: {ration.reason}"
    if want.rule is not Rule.STALE:  # which says that nothing changes
        words = f"{want.reason}; {words}"
    cut = replace(
        want,
        target=target,
        value=hpa_value(target, load, capacity.rules),
        reason=words,
        rails=want.rails if Rail.BUDGET in want.rails else (*want.rails, Rail.BUDGET),
        inputs={"without_budget": float(want.target), **want.inputs},
        cost_per_hour=None if price is None else target * price,
    )
    return Decision(cut, replace(decision.memory, told=target))
