"""The one entry point: from what is known of a pool to what it wants."""

from dataclasses import replace
from math import inf

from gateway.policy.capacity.guard_rails import changed, hpa_value, rule
from gateway.policy.capacity.needs import demand_now, needed_now, usage
from gateway.policy.capacity.reactive import Proposal, propose, watch
from gateway.policy.capacity.want import Decision, Memory, PoolLoad, Rail, Rule, Rules, Want


def decide(load: PoolLoad, rules: Rules, memory: Memory, now: float) -> Decision:
    """Return what a pool wants at `now`, and the memory to hand to the next call. Called once a second or so."""
    before = load.replicas if memory.target is None else memory.target
    if not 0 <= load.age <= rules.stale_after:
        old = f"are {load.age:.0f} s old" if load.age < inf else "have not come yet"
        told = before if memory.told is None else memory.told
        frozen = Proposal(told, Rule.STALE, f"the signals {old}, so nothing changes")
        return Decision(_frozen(load, rules, memory, frozen, now), _forgotten(memory))
    if memory.seen_at is not None and not 0 <= now - memory.seen_at <= rules.stale_after:
        memory = _forgotten(memory)  # no gateway looked, or the clock was set
    watched = watch(load, rules, memory, now)
    proposal = propose(load, rules, watched, now)
    ruling = rule(proposal, load, rules, watched, now)
    after = changed(ruling.target, before, rules, watched, now)
    if proposal.rule is Rule.BURN and ruling.target > before:
        after = replace(after, burned_at=now)
    want = Want(
        load.pool,
        rules.min,
        rules.max,
        ruling.target,
        "replicas",
        load.replicas,
        ruling.reason,
        proposal.rule,
        _inputs(load, watched, now),
        now + rules.valid_for,
        hpa_value(ruling.target, load, rules),
        proposal.target,
        ruling.rails,
        ruling.awaits,
        _cost(ruling.target, rules),
    )
    return Decision(want, replace(after, told=None))


def _forgotten(memory: Memory) -> Memory:
    """Return a memory that does not know any more what a pool has been for how long, and what it carried at most."""
    forgotten = replace(memory, calm_since=None, idle_since=None, short_since=None, heavy_since=None)
    return replace(forgotten, known_since=None, needs=(), seen_at=None)


def _frozen(load: PoolLoad, rules: Rules, memory: Memory, proposal: Proposal, now: float) -> Want:
    inputs: dict[str, float | None] = {"ready": load.ready, "starting": load.starting, "drained": load.drained}
    inputs["age"] = load.age
    if memory.told is not None:
        inputs["without_budget"] = memory.target
    return Want(
        load.pool,
        rules.min,
        rules.max,
        proposal.target,
        "replicas",
        load.replicas,
        proposal.reason,
        proposal.rule,
        inputs,
        now + rules.valid_for,
        hpa_value(proposal.target, load, rules),
        proposal.target,
        () if memory.told is None else (Rail.BUDGET,),
        None,
        _cost(proposal.target, rules),
        memory.target is not None,
    )


def _cost(target: int, rules: Rules) -> float | None:
    return None if rules.cost_per_hour is None else target * rules.cost_per_hour


def _inputs(load: PoolLoad, memory: Memory, now: float) -> dict[str, float | None]:
    """Return the numbers that a want follows from."""
    demand = demand_now(load, memory.smoothed)
    return {
        "ready": load.ready,
        "starting": load.starting,
        "drained": load.drained,
        "burn": load.burn,
        "burn_now": load.burn_now,
        "page_factor": load.page_factor,
        "queue_wait": load.queue_wait,
        "patience": load.patience,
        "queued": load.queued,
        "in_flight": load.in_flight,
        "limit": load.limit,
        "arrivals": load.arrivals,
        "holding": load.holding,
        "demand": demand,
        "usage": usage(load, memory.smoothed),
        "needed": needed_now(load, demand),
        "needed_to_stay": memory.needs[0][1] if memory.needs else None,
        "expected": load.expected.middle if load.expected is not None else None,
        "expected_upper": load.expected.upper if load.expected is not None else None,
        "calm_for": now - memory.calm_since if memory.calm_since is not None else None,
        "age": load.age,
    }
