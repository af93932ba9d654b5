"""What the load of a pool speaks for: out, in, or neither. Guard rails come after.

Out is quick and by evidence: the budget is being spent, requests wait, or the load is more than what is there carries.
In is slow: nothing burned for half an hour, and those who stay would carry the highest load of the last minutes.
"""

from dataclasses import dataclass, replace
from math import exp
from typing import Final

from gateway.policy.capacity.needs import (
    IN,
    OUT,
    certain,
    demand_for_certain,
    demand_now,
    demand_of_bursts,
    needed,
    needed_now,
    needed_to_stay,
    usage,
)
from gateway.policy.capacity.want import Memory, PoolLoad, Rule, Rules

CALM_BURN: Final = 2.0
"""The burn rate below which a pool is calm."""
LASTING: Final = 10.0
"""Seconds for which the queue or the load is too much before that counts: one large request is soon over."""
SMOOTHING: Final = 20.0
"""Seconds over which requests with a slot are averaged."""
MINUTE: Final = 60.0
"""Seconds of which a forecast tells the mean rate."""
SHORT: Final = 300.0
"""Seconds of the window that says whether a burn goes on."""
HALF: Final = 0.5
"""The share of a pool in use below which one more replica has not helped, where the first did not."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """How many replicas a rule asks for, and why."""

    target: int
    rule: Rule
    reason: str


def watch(load: PoolLoad, rules: Rules, memory: Memory, now: float) -> Memory:
    """Return what is known of a pool's load after a look at it."""
    elapsed = 0.0 if memory.seen_at is None else max(0.0, now - memory.seen_at)
    fresh = 1.0 if memory.seen_at is None else 1.0 - exp(-elapsed / SMOOTHING)
    smoothed = memory.smoothed + (load.in_flight - memory.smoothed) * fresh
    demand = demand_now(load, smoothed)
    target = load.replicas if memory.target is None else memory.target
    least, most = needed_now(load, demand_for_certain(load, smoothed)), needed_to_stay(load, demand)
    is_idle = load.arrivals == 0 and not load.queued and not load.in_flight
    expected = _expected(load, IN, load.budget / 2, for_certain=False)
    if is_idle:
        most = 0
    elif most is not None:
        most = max(most, least or 0, expected or 0)
    is_calm = min(load.burn or 0.0, load.burn_now or 0.0) < CALM_BURN
    return replace(
        memory,
        smoothed=smoothed,
        seen_at=now,
        calm_since=_since(memory.calm_since, is_calm, now),
        idle_since=_since(memory.idle_since, is_idle, now),
        short_since=_since(memory.short_since, _is_short(load), now),
        heavy_since=_since(memory.heavy_since, least is not None and least > target, now),
        known_since=_since(memory.known_since, most is not None, now),
        needs=() if most is None else _highest(memory.needs, most, now, rules.stabilisation),
        burned_at=None if is_calm else memory.burned_at,
    )


def propose(load: PoolLoad, rules: Rules, memory: Memory, now: float) -> Proposal:
    """Return what a load that was just watched speaks for."""
    target = load.replicas if memory.target is None else memory.target
    return _out(load, rules, memory, now, target) or _in(load, rules, memory, now, target) or _stay(target)


def _out(load: PoolLoad, rules: Rules, memory: Memory, now: float, target: int) -> Proposal | None:
    if not load.replicas and (load.queued or load.arrivals):
        return Proposal(max(1, target), Rule.WAKE, f"there is no replica, and requests wait ({load.queued})")
    one_more = target + 1 if load.replicas >= target and not load.starting else target
    if _has_lasted(memory.short_since, LASTING, now):
        wanted = max(needed_now(load, demand_now(load, memory.smoothed)) or 0, one_more)
        if wanted > target:
            wait, patience = load.queue_wait or 0.0, load.patience or 0.0
            reason = f"a request would wait {wait:.1f} s for a slot, longer than the {patience:.1f} s that it may wait"
            return Proposal(wanted, Rule.QUEUE, reason)
    if _has_lasted(memory.heavy_since, LASTING, now):
        certain_demand, bursts = demand_for_certain(load, memory.smoothed), demand_of_bursts(load)
        wanted = needed_now(load, certain_demand) or 0
        what = f"bursts fill {bursts:.1f} slots" if bursts > certain_demand else ""
        what = what or f"requests fill {certain_demand:.1f} slots"
        return Proposal(wanted, Rule.LOAD, f"{what}, which takes {_replicas(wanted)}")
    burning = _burning(load, rules, memory, now) if one_more > target else ""
    if burning:
        wanted = needed_now(load, demand_now(load, memory.smoothed)) or 0
        return Proposal(max(wanted, one_more), Rule.BURN, burning)
    expected = _expected(load, OUT, load.budget, for_certain=True)
    if load.expected is not None and expected is not None and expected > target:
        reason = f"up to {load.expected.upper:.2f} requests/s are expected in {rules.warm_up:.0f} s"
        return Proposal(expected, Rule.FORECAST, f"{reason}, which takes {_replicas(expected)}")
    return None


def _burning(load: PoolLoad, rules: Rules, memory: Memory, now: float) -> str:
    """Return that the budget is spent too fast, "" where it is not, or where what was done about it may yet help."""
    if load.burn is None or load.burn <= load.page_factor:
        return ""
    if load.burn_now is not None and load.burn_now <= load.page_factor:
        return ""  # It is over, and stays in the last hour.
    last = memory.changed_at if memory.direction > 0 else None
    if last is not None and now - last < rules.warm_up + SHORT:
        return ""
    used = usage(load, memory.smoothed)
    if memory.burned_at is not None and used is not None and used < HALF:
        return ""
    return f"the burn rate of the last hour is {load.burn:.1f}, and above {load.page_factor:.2f} it pages"


def _in(load: PoolLoad, rules: Rules, memory: Memory, now: float, target: int) -> Proposal | None:
    # What was asked for needs time to serve before it can be idle.
    is_coming = load.starting > 0 and memory.direction > 0
    is_coming = is_coming and not _has_lasted(memory.changed_at, 2 * rules.warm_up, now)
    if not is_coming and _has_lasted(memory.idle_since, rules.idle_for, now):
        # What may come, or not, is answered when it does; what is due comes every day.
        soon = load.expected is not None and load.expected.middle * rules.warm_up >= 1
        least = max(rules.min, 1 if soon else 0)
        if least < target:
            return Proposal(least, Rule.IDLE, f"there was no request for {rules.idle_for / 60:.0f} min")
        return None
    if memory.direction > 0 and memory.changed_at is not None and now - memory.changed_at < rules.calm_for:
        return None  # What was needed a moment ago may be needed again.
    known = _has_lasted(memory.known_since, rules.stabilisation, now)
    if not (known and _has_lasted(memory.calm_since, rules.calm_for, now)):
        return None
    least = max(1, memory.needs[0][1])
    if least >= target:
        return None
    reason = f"the burn rate was below {CALM_BURN:g} for {rules.calm_for / 60:.0f} min, and the objective is predicted"
    return Proposal(least, Rule.CALM, f"{reason} to be met with {_replicas(least)}")


def _stay(target: int) -> Proposal:
    return Proposal(target, Rule.HOLD, "nothing calls for a change")


def _replicas(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"


def _is_short(load: PoolLoad) -> bool:
    """Whether a request that came now would wait for longer than its objective allows."""
    if not load.queued or load.queue_wait is None or load.patience is None:
        return False
    return 0 < load.patience < load.queue_wait


def _expected(load: PoolLoad, use: float, budget: float, *, for_certain: bool) -> int | None:
    """Return how many replicas the load to expect needs, None where that is not known."""
    if load.expected is None or not load.holding:
        return None
    upper = load.expected.upper
    if for_certain:
        upper = certain(upper, upper * MINUTE)  # Chance within a minute is in what a replica carries, too.
    return needed(load, upper * load.holding, use, budget)


def _since(since: float | None, holds: bool, now: float) -> float | None:
    if not holds:
        return None
    return now if since is None else since


def _has_lasted(since: float | None, seconds: float, now: float) -> bool:
    return since is not None and now - since >= seconds


def _highest(
    needs: tuple[tuple[float, int], ...], count: int, now: float, within: float
) -> tuple[tuple[float, int], ...]:
    """Return needs by falling number, the highest of the last seconds first, with one more."""
    return (*(each for each in needs if each[1] > count and now - each[0] <= within), (now, count))
