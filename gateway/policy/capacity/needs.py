"""How many replicas a load needs, by what is known of the pool: slots, or what its engines say of themselves."""

from collections.abc import Iterable
from math import ceil, exp, floor, sqrt
from typing import Final

from gateway.policy.capacity.want import PoolLoad

OUT: Final = 0.9
"""The share of slots or KV cache in use above which there are too few replicas."""
IN: Final = 0.75
"""The share that those who stay may have to use, when one goes: well below `OUT`, so that it does not come back."""
FULL: Final = 0.9
"""The share of slots in use from which on requests may have to wait: those that have a slot are not all the load."""
BURSTY: Final = 4.0
"""The dispersion from which on requests come in bursts, rather than by chance."""
OFTEN: Final = 0.1
"""Requests per second from which on their dispersion says something."""
GROWS: Final = 1.5
"""How much larger the next burst may be than the largest one."""
CERTAIN: Final = 1.64
"""Standard errors by which chance makes a demand look larger in one of twenty cases."""
RECENT: Final = 30.0
LONG: Final = 900.0
"""Seconds over which the arrivals of now, and their mean, are taken."""
MOST: Final = 100_000
"""Replicas that no pool needs."""
MANY: Final = 2000
"""Slots beyond which only one request in 100,000 has to wait while `OUT` of them are in use."""


def late_share(demand: float, slots: int, patience: float, holding: float) -> float:
    """Return the share of requests that wait longer than `patience` for one of so many slots; 1 where all of them do.

    `demand` is the mean number of slots that they would hold, each for `holding` seconds: M/M/c, Erlang's formula C.
    """
    blocked = 1.0
    for each in range(1, slots + 1):
        blocked = _with_one_more(blocked, demand, each)
    return _late(blocked, demand, slots, patience, holding)


def carried_by(demand: float, each: float, use: float, load: PoolLoad, budget: float) -> int:
    """Return how many replicas of `each` slots keep the objective under a demand, none of them used beyond `use`."""
    count = min(MOST, ceil(demand / (each * use) - 1e-9))
    if not demand or load.patience is None or load.patience <= 0 or not load.holding:
        return count  # Where even the first in line is late, more replicas are no help.
    blocked, slots = 1.0, 0
    while count * each <= MANY:
        while slots < floor(count * each):
            slots += 1
            blocked = _with_one_more(blocked, demand, slots)
        if _late(blocked, demand, slots, load.patience, load.holding) <= budget:
            break
        count += 1
    return count


def _with_one_more(blocked: float, demand: float, slots: int) -> float:
    """Return the share that would find all slots taken (Erlang's formula B), from that with one fewer."""
    return demand * blocked / (slots + demand * blocked)


def _late(blocked: float, demand: float, slots: int, patience: float, holding: float) -> float:
    if demand >= slots:
        return 1.0 if demand else 0.0
    waits = blocked / (1 - demand / slots * (1 - blocked))
    return waits * exp(-(slots - demand) * patience / holding)


def demand_of_bursts(load: PoolLoad) -> float:
    """Return how many slots the next burst would hold, 0 where requests do not come in bursts.

    It is told by the busiest half minute of late, and may be larger: who waits for a replica to start is late.
    """
    bursts = load.bursts
    if bursts is None or bursts.dispersion < BURSTY or bursts.mean < OFTEN:
        return 0.0
    return GROWS * bursts.peak * (load.holding or 0.0)


def demand_now(load: PoolLoad, smoothed: float) -> float:
    """Return how many slots the requests that come would hold, if each of them had one.

    While slots are free, that is how many are in use. Else it follows from how many come (Little's law), since those
    in the queue have gathered.
    """
    if load.limit is None or (load.in_flight < FULL * load.limit and not load.queued):
        return smoothed
    if load.arrivals is None or not load.holding:
        return max(smoothed, load.in_flight + load.queued)
    return max(smoothed, load.arrivals * load.holding)


def needed(load: PoolLoad, demand: float, use: float, budget: float) -> int | None:
    """Return how many replicas a demand needs by slots, None where it is not known how much one carries."""
    if not load.limit or not load.ready:
        return None
    return load.drained + carried_by(demand, load.limit / load.ready, use, load, budget)


def _needed(load: PoolLoad, demand: float, use: float, budget: float, *, by_cache: bool) -> int | None:
    """Return how many replicas a load needs, by all that is known of it."""
    if not load.ready:
        return None
    counts = []
    if load.limit:
        each = load.limit / load.ready
        counts.append(carried_by(demand, each, use, load, budget))
        counts.append(ceil(demand_of_bursts(load) / (each * OUT)))
    else:
        slots = _mean(each.slots_used for each in load.engines)
        if slots is not None:
            counts.append(ceil(load.ready * slots / use - 1e-9))
    cache = _mean(each.kv_used for each in load.engines)
    if cache is not None and by_cache:
        counts.append(ceil(load.ready * cache / use - 1e-9))
    return load.drained + max(counts) if counts else None


def certain(demand: float, requests: float) -> float:
    """Return what a demand that was taken from so many requests is at least, with 95 % certainty."""
    return demand * max(0.0, 1 - CERTAIN / sqrt(requests)) if requests > 0 else 0.0


def demand_for_certain(load: PoolLoad, smoothed: float) -> float:
    """Return how many slots the load holds for certain: by the last half minute, or by all that is looked back at.

    What was before does not count as far as the last half minute speaks against it.
    """
    demand = demand_now(load, smoothed)
    requests = demand if load.arrivals is None else max(demand, load.arrivals * RECENT)
    least = certain(demand, requests)
    if load.bursts is None or not load.holding or requests <= 0:
        return least
    before = certain(load.bursts.mean * load.holding, load.bursts.mean * LONG)
    return max(least, min(before, demand * (1 + CERTAIN / sqrt(requests))))


def needed_now(load: PoolLoad, demand: float) -> int | None:
    """Return how many replicas the load needs now; a full KV cache matters once requests wait."""
    waits = load.queued > 0 or any(each.backlog for each in load.engines)
    return _needed(load, demand, OUT, load.budget, by_cache=waits)


def needed_to_stay(load: PoolLoad, demand: float) -> int | None:
    """Return how many replicas have to stay for a demand: with less in use, and half of the budget to be wrong by."""
    return _needed(load, demand, IN, load.budget / 2, by_cache=True)


def usage(load: PoolLoad, smoothed: float) -> float | None:
    """Return the highest share in use of what the pool has, slots or KV cache; None where neither is known."""
    slots = smoothed / load.limit if load.limit else _mean(each.slots_used for each in load.engines)
    cache = _mean(each.kv_used for each in load.engines)
    known = [each for each in (slots, cache) if each is not None]
    return max(known) if known else None


def _mean(shares: Iterable[float | None]) -> float | None:
    known = [each for each in shares if each is not None]
    return sum(known) / len(known) if known else None
