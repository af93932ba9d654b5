"""Faro's simulated cluster: jobs whose replicas run in pods, of which there are only so many.

The pod of a removed replica is kept for its own job, where it serves again after `WARM` seconds. After `KEPT` s it is
free for other jobs, where a new replica needs `COLD` seconds to start. All of it is as in the authors' simulation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from loadtest.capacity.replica_queue import ReplicaQueue

MINUTE = 60.0
TICK = 10.0
STEP = 5.0
"""Seconds between looks at which pods are free."""
COLD, WARM, KEPT, LEAVING = 35.0, 3.0, 30.0, 5.0
OBJECTIVE = 0.72
"""Seconds within which a request has to be answered."""
_LOC, _SCALE, _SHAPE = 0.07930158214998745, 0.06858078649769431, 0.42247119243841247
"""The service time of a ResNet34 on one CPU, as the authors fitted it."""


class Policy(Protocol):
    """What decides how many replicas each job has."""

    name: str
    start: int
    """Replicas of each job at first."""

    def decide(self, now: float, cluster: "Cluster") -> Sequence[int] | None:
        """Return the replicas that each job should have, None to leave everything; called every `TICK` seconds."""
        ...


@dataclass(slots=True)
class Job:
    """One job, its queue and its pods."""

    queue: ReplicaQueue
    wanted: int
    starting: list[float] = field(default_factory=list)
    """When each replica that starts will be ready."""
    idle: list[float] = field(default_factory=list)
    """When each pod without a replica is given back."""
    leaving: float | None = None
    """When replicas go, None while none does."""
    turns: int = 0
    """How often the wanted number went the other way than the time before."""
    direction: int = 0

    @property
    def pods(self) -> int:
        return self.queue.replicas + len(self.starting) + len(self.idle)

    @property
    def replicas(self) -> int:
        """Replicas that run or start."""
        return self.queue.replicas + len(self.starting)

    @property
    def is_changing(self) -> bool:
        return bool(self.starting) or self.wanted != self.queue.replicas

    def want(self, replicas: int) -> None:
        if replicas == self.wanted:
            return
        direction = 1 if replicas > self.wanted else -1
        self.turns += direction == -self.direction
        self.direction = direction
        self.wanted = replicas

    def settle(self, now: float) -> None:
        """Let replicas that are ready start, and go those that are due; give back pods that were idle for long."""
        for ready in sorted(each for each in self.starting if each <= now):
            self.queue.advance(ready)
            self.queue.resize(self.queue.replicas + 1, ready)
            self.starting.remove(ready)
        surplus = self.queue.replicas - max(1, self.wanted)
        if surplus <= 0:
            self.leaving = None
        elif self.leaving is None:
            self.leaving = now + LEAVING
        elif now >= self.leaving:
            self.queue.advance(now)
            self.queue.resize(self.queue.replicas - surplus, now)
            self.idle += [now + KEPT] * surplus
            self.leaving = None
        self.idle = [each for each in self.idle if each > now]


class Cluster:
    """All jobs of one run."""

    def __init__(self, counts: NDArray[np.int64], limit: int, start: int, seed: int) -> None:
        self.counts = counts
        self.limit = limit
        self.jobs = [Job(queue, start) for queue in _queues(counts, start, seed)]

    def run(self, policy: Policy, watch: Callable[[float, "Cluster"], None] | None = None) -> None:
        """Play the workload to its end."""
        end = self.counts.shape[1] * MINUTE
        for step in range(1, int(end / STEP) + 1):
            now = step * STEP
            for job in self.jobs:
                job.settle(now)
            if now % TICK == 0:
                for job in self.jobs:
                    job.queue.advance(now)
                wanted = policy.decide(now, self)
                for job, replicas in zip(self.jobs, wanted or (), strict=wanted is not None):
                    job.want(replicas)
                if watch is not None:
                    watch(now, self)
            self._start(now)
        for job in self.jobs:
            job.queue.advance(end + 2 * MINUTE)

    def _start(self, now: float) -> None:
        """Start what is wanted and has a pod, its job's own one first."""
        free = self.limit - sum(job.pods for job in self.jobs)
        for job in self.jobs:
            while job.replicas < job.wanted:
                if job.idle:
                    job.idle.pop()
                    job.starting.append(now + WARM)
                elif free > 0:
                    free -= 1
                    job.starting.append(now + COLD)
                else:
                    break


def _queues(counts: NDArray[np.int64], start: int, seed: int) -> list[ReplicaQueue]:
    """Draw when requests come, and how long each takes."""
    queues = []
    for job, row in enumerate(counts):
        rng = np.random.default_rng([seed, job])
        minutes = [
            minute * MINUTE + np.concatenate(([0.0], np.cumsum(rng.exponential(MINUTE / count, count - 1))))
            for minute, count in enumerate(row.tolist())
            if count
        ]
        arrivals = np.sort(np.concatenate(minutes)) if minutes else np.zeros(0)
        services = _LOC + _SCALE * np.exp(_SHAPE * rng.standard_normal(len(arrivals)))
        queues.append(ReplicaQueue(arrivals, services, start))
    return queues


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to: shares of requests that were late or dropped, by job, and the utility that was lost."""

    violations: tuple[float, ...]
    lost_utility: float
    changes_of_direction: int

    @property
    def violation_rate(self) -> float:
        return sum(self.violations) / len(self.violations)


def judge(cluster: Cluster) -> Result:
    """Weigh each minute of each job the same, as the authors do."""
    minutes = cluster.counts.shape[1]
    violations, utility = [], 0.0
    for job in cluster.jobs:
        arrivals = np.array(job.queue.arrivals[:-1])
        latencies = np.array(job.queue.ends) - arrivals
        cuts = np.searchsorted(arrivals, np.arange(1, minutes) * MINUTE)
        late, kept = [], []
        for part in np.split(latencies, cuts):
            late.append(float(np.mean(part > OBJECTIVE)) if len(part) else 0.0)
            p99 = float(np.sort(part)[int(np.ceil(0.99 * (len(part) - 1)))]) if len(part) else 0.0
            kept.append(min(1.0, OBJECTIVE / p99) if p99 else 1.0)
        violations.append(float(np.mean(late)))
        utility += float(np.mean(kept))
    return Result(tuple(violations), len(cluster.jobs) - utility, sum(job.turns for job in cluster.jobs))
