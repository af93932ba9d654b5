"""The p99 latency that a number of replicas is expected to keep, and how much it is worth.

Erlang's C formula gives the wait in an M/M/c queue. With a constant service time (M/D/c) it is about half as long:
this is what Faro (EuroSys'25) uses. In general the wait grows with the sum of the squared coefficients of variation of
arrivals and service times (Allen and Cunneen's approximation).
"""

from collections.abc import Sequence
from functools import cache
from math import log
from typing import Final

MOST_UTILISATION: Final = 0.95
"""Above it the formulas give infinity: no more than this share of the replicas serves, and the rest waits in vain."""
_BEYOND_P99: Final = 0.01
"""The share of requests that take longer than the p99."""


POISSON: Final = 1.0
"""The variability of M/D/c: requests that come by chance, and a constant service time. M/M/c has 2."""


def p99_latencies(rate: float, service_time: float, most: int, *, variability: float = POISSON) -> list[float]:
    """Return the p99 in seconds for 1 to `most` replicas; `rate` is in requests a second, `service_time` in seconds.

    It is that of the requests which are served, where there are more.
    """
    found = []
    offered = rate * service_time
    blocked = 1.0  # Erlang's B of the whole load, from one number of servers to the next
    for replicas in range(1, most + 1):
        blocked = offered * blocked / (replicas + offered * blocked)
        served = MOST_UTILISATION * replicas
        if offered <= served:
            wait = _wait(blocked, offered, replicas)
        else:
            wait = _wait(_blocked_at_most(replicas), served, replicas)
        found.append(service_time * (1.0 + wait * variability))
    return found


def mean_utilities(
    rates: Sequence[float],
    service_time: float,
    objective: float,
    most: int,
    *,
    variability: float = POISSON,
    steepness: float = 1.0,
) -> list[float]:
    """Return what 0 to `most` replicas are worth, as a mean over the rates that may come.

    A rate is worth `min(1, objective / p99) ** steepness`: 1 where the p99 keeps the objective, less the longer it is.
    Of more than can be served only that share counts. Without requests no replicas are worth as much as any number.
    """
    total = [0.0] * (most + 1)
    for rate in rates:
        if rate <= 0.0:
            total = [each + 1.0 for each in total]
            continue
        latencies = p99_latencies(rate, service_time, most, variability=variability)
        for index, latency in enumerate(latencies):
            share = min(1.0, MOST_UTILISATION * (index + 1) / (rate * service_time))
            total[index + 1] += share * (1.0 if latency <= objective else (objective / latency) ** steepness)
    return [each / len(rates) for each in total]


def _wait(blocked: float, offered: float, replicas: int) -> float:
    """Return the p99 of the wait in M/D/c, in service times; waits in M/M/c are exponential."""
    waiting = blocked / (1.0 - offered / replicas * (1.0 - blocked))  # Erlang's C: the share of requests that wait
    if waiting <= _BEYOND_P99:
        return 0.0
    return log(waiting / _BEYOND_P99) / (replicas - offered) / 2


@cache
def _blocked_at_most(replicas: int) -> float:
    """Return Erlang's B at `MOST_UTILISATION`: the share that would find all replicas busy if none could wait."""
    offered = MOST_UTILISATION * replicas
    blocked = 1.0
    for servers in range(1, replicas + 1):
        blocked = offered * blocked / (servers + offered * blocked)
    return blocked
