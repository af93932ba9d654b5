"""The policies that are compared: a fixed share, two that react to the mean latency, and the gateway's own."""

import time
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from gateway.policy.capacity.allocation import Aim
from gateway.policy.capacity.shared_budget import ModelDemand, Sharing, sharing_out
from gateway.wire.slices import finish
from loadtest.capacity.faro_world import MINUTE, OBJECTIVE, Cluster, Job
from loadtest.capacity.recent_rates import LEVEL_MINUTES, SPREAD_MINUTES, expected_rates

_REPLAN = 20.0
_MOVE_COST = 0.1
"""What no job is expected to need is given away all the same, so only moves have to gain so much."""
_SERVICE_TIME = 0.154
"""The mean that a gateway would measure."""
_VARIABILITY = 2.0
"""That of M/M/c, not 1 as in M/D/c: the workload's requests come in bursts where one minute runs into the next."""
_LOOK_BACK = 30.0
_UP, _DOWN = 3, 60
"""Ticks above and below the objective before the number changes."""


class FairShare:
    """The same for each job, always."""

    name = "FairShare"

    def __init__(self, limit: int, jobs: int) -> None:
        self.start = limit // jobs

    def decide(self, now: float, cluster: Cluster) -> Sequence[int] | None:
        return None


class Reactive:
    """Changes a job's number when its mean latency was above the objective for 3 ticks, or below for 60."""

    start = 1

    def __init__(self, name: str, jobs: int) -> None:
        self.name = name
        self._ticks = [0] * jobs

    def decide(self, now: float, cluster: Cluster) -> Sequence[int]:
        wanted = []
        for index, job in enumerate(cluster.jobs):
            ratio = mean_latency(job, now) / OBJECTIVE
            ticks = self._ticks[index]
            ticks = max(0, ticks) + 1 if ratio > 1 else min(0, ticks) - 1
            number = job.wanted
            if ticks >= _UP or ticks <= -_DOWN:
                if not job.is_changing:
                    number = max(1, self.change(number, ratio, up=ticks > 0))
                ticks = 0
            self._ticks[index] = ticks
            wanted.append(number)
        room = cluster.limit - sum(job.wanted for job in cluster.jobs)
        for index, job in enumerate(cluster.jobs):
            more = wanted[index] - job.wanted
            if more < 0:
                room -= more
        for index, job in enumerate(cluster.jobs):
            more = wanted[index] - job.wanted
            if more > 0:
                granted = min(more, max(0, room))
                wanted[index] = job.wanted + granted
                room -= granted
        return wanted

    def change(self, number: int, ratio: float, *, up: bool) -> int:
        raise NotImplementedError


class Aiad(Reactive):
    """Adds one, or takes one away."""

    def __init__(self, jobs: int) -> None:
        super().__init__("AIAD", jobs)

    def change(self, number: int, ratio: float, *, up: bool) -> int:
        return number + (1 if up else -1)


class Oneshot(Reactive):
    """Multiplies the number by how far the latency is from the objective."""

    def __init__(self, jobs: int) -> None:
        super().__init__("Oneshot", jobs)

    def change(self, number: int, ratio: float, *, up: bool) -> int:
        return int(np.ceil(number * ratio))


def mean_latency(job: Job, now: float) -> float:
    """Return the mean latency of the last 30 s; a dropped request took no time, as in the authors' code."""
    queue = job.queue
    first = max(0, queue.taken - 3000)
    ends = np.array(queue.ends[first : queue.taken])
    arrivals = np.array(queue.arrivals[first : queue.taken])
    ends = np.where(np.isinf(ends), arrivals, ends)
    recent = (ends > now - _LOOK_BACK) & (ends <= now)
    return float(np.mean((ends - arrivals)[recent])) if recent.any() else 0.0


class Tidegate:
    """Shares the limit out among all jobs, by the rates of the minutes that are over."""

    start = 1

    def __init__(self, name: str = "Tidegate", aim: Aim = Aim.FAIR_SUM) -> None:
        self.name = name
        self._aim = aim
        self.seconds: list[float] = []
        """CPU time of each decision."""

    def decide(self, now: float, cluster: Cluster) -> Sequence[int] | None:
        if now % _REPLAN:
            return None
        begun = time.process_time()
        demands = [
            ModelDemand(
                str(index),
                expected_rates(past_rates(job, now)),
                service_time=_SERVICE_TIME,
                objective=OBJECTIVE,
                replicas=job.replicas,
                most=cluster.limit,
                variability=_VARIABILITY,
            )
            for index, job in enumerate(cluster.jobs)
        ]
        sharing = Sharing(cluster.limit, aim=self._aim, move_cost=_MOVE_COST, spend_all=True)
        shares = finish(sharing_out(demands, sharing))
        self.seconds.append(time.process_time() - begun)
        return [share.replicas for share in shares]


def past_rates(job: Job, now: float) -> list[float]:
    """Return the requests a second of the whole minutes up to a moment, or of what there is of the first."""
    arrivals = job.queue.arrivals
    minutes = min(int(now // MINUTE), LEVEL_MINUTES + SPREAD_MINUTES)
    if not minutes:
        return [job.queue.taken / now]
    cuts = [bisect_left(arrivals, now - MINUTE * back) for back in range(minutes, -1, -1)]
    return [(after - before) / MINUTE for before, after in pairwise(cuts)]
