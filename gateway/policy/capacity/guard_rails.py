"""What a rule asks for, within what the people who run a pool allow: each rail that changes it is named."""

from dataclasses import dataclass, replace
from math import ceil, floor
from typing import Final

from gateway.policy.capacity.reactive import Proposal
from gateway.policy.capacity.want import Memory, PoolLoad, Rail, Rule, Rules

OUT_STEP: Final = 60.0
"""Seconds in which a pool goes out by one step at most."""
_NEAR: Final = 1e-6
_BELOW: Final = 0.002
"""What a value is below the dead band: more than a thousandth, which is what Kubernetes counts in."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What is left of a proposal, by which rails and why; `awaits` is what would be wanted with an approval."""

    target: int
    rails: tuple[Rail, ...]
    reason: str
    awaits: int | None


def rule(proposal: Proposal, load: PoolLoad, rules: Rules, memory: Memory, now: float) -> Ruling:
    """Return what is wanted of a proposal.

    From the softest to the hardest rail: step, cool-down, approval, cost, and then `max` and `min` in any case. The
    first replica of a pool that has none is never too soon: requests wait for it.
    """
    before = load.replicas if memory.target is None else memory.target
    target, rails, why = proposal.target, [], [proposal.reason]
    stepped = _step(target, before, rules, memory, now)
    if stepped != target:
        target = stepped
        rails.append(Rail.STEP)
        why.append(f"at most {target} in this step")
    if proposal.rule is not Rule.WAKE and _turns_too_soon(target, before, rules, memory, now):
        target = before
        rails.append(Rail.COOL_DOWN)
        why.append(f"no change of direction within {rules.cool_down:.0f} s of the last one")
    target, awaits = _approved(target, before, load, rules)
    if awaits is not None:
        rails.append(Rail.APPROVAL)
        why.append(f"{awaits} need an approval")
    affordable = _affordable(rules)
    if affordable is not None and target > affordable:
        target = affordable
        rails.append(Rail.COST)
        why.append(f"{rules.cost_cap:g} an hour buys {affordable}")
    if target > rules.max:
        target = rules.max
        rails.append(Rail.MAX)
        why.append(f"at most {rules.max}")
    if target < rules.min:
        target = rules.min
        rails.append(Rail.MIN)
        why.append(f"at least {rules.min}")
    ruling = Ruling(target, tuple(rails), "; ".join(why), awaits)
    return ruling if target == before else _out_of_dead_band(ruling, load, rules)


def changed(target: int, before: int, rules: Rules, memory: Memory, now: float) -> Memory:
    """Return the memory after a want of `target`, where it was `before`."""
    if target == before:
        return replace(memory, target=target)
    direction = 1 if target > before else -1
    turned = now if direction == -memory.direction else memory.turned_at
    new_step = _is_new_step(direction, rules, memory, now)
    return replace(
        memory,
        target=target,
        direction=direction,
        changed_at=now,
        turned_at=turned,
        stepped_at=now if new_step else memory.stepped_at,
        stepped_from=before if new_step else memory.stepped_from,
    )


def hpa_value(target: int, load: PoolLoad, rules: Rules) -> float:
    """Return the number by which an HPA (target 1 per replica, rounded up) comes to `target`, if one does.

    It ignores what is within the dead band of the replicas that it has. So a target just below is told as a fraction
    that is rounded up to it.
    """
    edge = load.replicas * (1 - rules.dead_band)
    if rules.dead_band and edge <= target < load.replicas and ceil(edge - _NEAR) == target:
        return edge - _BELOW
    return float(target)


def _step(target: int, before: int, rules: Rules, memory: Memory, now: float) -> int:
    """Return as much of a change as one step may be, counted from where the step began."""
    if target == before:
        return target
    direction = 1 if target > before else -1
    begin = before if _is_new_step(direction, rules, memory, now) else memory.stepped_from
    if direction > 0:
        return target if rules.step_out is None else max(before, min(target, begin + rules.step_out))
    return min(before, max(target, begin // 2 if rules.step_in is None else begin - rules.step_in))


def _is_new_step(direction: int, rules: Rules, memory: Memory, now: float) -> bool:
    lasts = OUT_STEP if direction > 0 else rules.stabilisation
    return memory.stepped_at is None or memory.direction != direction or now - memory.stepped_at >= lasts


def _turns_too_soon(target: int, before: int, rules: Rules, memory: Memory, now: float) -> bool:
    """Whether a change is one of direction, and so was another a moment ago."""
    if memory.turned_at is None or target == before or (target > before) == (memory.direction > 0):
        return False
    return now - memory.turned_at < rules.cool_down


def _approved(target: int, before: int, load: PoolLoad, rules: Rules) -> tuple[int, int | None]:
    """Return what needs no approval, and what is wanted where that is more; what there is already stays.

    A person is asked for no more than `max` and the cost cap let the pool have.
    """
    if rules.approval_above is None:
        return target, None
    allowed = max(rules.approval_above, load.approved or 0, before)
    asked = min(target, _most_payable(rules))
    return (allowed, asked) if asked > allowed else (target, None)


def _affordable(rules: Rules) -> int | None:
    """Return how many replicas the cost cap buys, None without one."""
    if rules.cost_cap is None or not rules.cost_per_hour:
        return None
    return floor(rules.cost_cap / rules.cost_per_hour + _NEAR)


def _most_payable(rules: Rules) -> int:
    affordable = _affordable(rules)
    return rules.max if affordable is None else min(rules.max, affordable)


def most_allowed(rules: Rules, approved: int | None) -> int:
    """Return how many replicas `max`, the cost cap and approvals let a pool have."""
    most = _most_payable(rules)
    return most if rules.approval_above is None else min(most, max(rules.approval_above, approved or 0))


def _out_of_dead_band(ruling: Ruling, load: PoolLoad, rules: Rules) -> Ruling:
    """Return a want that an HPA does not ignore, where there is one that does no harm.

    More is rounded up, within the rails. Less is never rounded down: fewer are not predicted to carry the load.
    """
    now, target = load.replicas, ruling.target
    if not rules.dead_band or not now or target == now or abs(target - now) > rules.dead_band * now + _NEAR:
        return ruling
    rails = (*ruling.rails, Rail.DEAD_BAND)
    ignored = f"an HPA ignores {target} at {now} replicas (within {100 * rules.dead_band:g} %)"
    if target < now:
        if hpa_value(target, load, rules) != target:
            return ruling
        return replace(ruling, rails=rails, reason=f"{ruling.reason}; {ignored}, so they stay until fewer are needed")
    moved = floor(now * (1 + rules.dead_band) + _NEAR) + 1
    if moved > most_allowed(rules, load.approved):
        return replace(ruling, rails=rails, reason=f"{ruling.reason}; {ignored}, and {moved} are not allowed")
    return replace(ruling, target=moved, rails=rails, reason=f"{ruling.reason}; {ignored}, so {moved}")
