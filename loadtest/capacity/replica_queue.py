"""The queue of one job as Faro's authors simulate it, one request after the other.

Requests wait at the head in the order they came. The head hands each to the next replica in turn that has fewer than
`OUTSTANDING` unfinished ones; a replica serves one at a time. A request that finds the head full is dropped.
"""

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

OUTSTANDING = 4
WAITING = 50
"""The longest queue at the head that still takes a request."""


class ReplicaQueue:
    """The requests of one job, and the replicas that serve them; `ends` is inf for what was dropped or never came."""

    def __init__(self, arrivals: NDArray[np.float64], services: NDArray[np.float64], replicas: int) -> None:
        self.arrivals: list[float] = [*arrivals.tolist(), math.inf]
        self.ends: list[float] = [math.inf] * len(arrivals)
        self.taken = 0
        """How many requests came so far."""
        self._services: list[float] = services.tolist()
        self._waiting: deque[int] = deque()
        self._replicas = [_idle(0.0) for _ in range(replicas)]
        self._turn = 0

    @property
    def replicas(self) -> int:
        return len(self._replicas)

    def resize(self, replicas: int, now: float) -> None:
        """Add idle replicas, or take some away; these finish what they were handed."""
        while len(self._replicas) < replicas:
            self._replicas.append(_idle(now))
        del self._replicas[replicas:]
        self._turn = 0

    def advance(self, until: float) -> None:
        """Serve what comes before a moment."""
        arrivals, services, ends, replicas = self.arrivals, self._services, self.ends, self._replicas
        turn, count, index = self._turn, len(self._replicas), self.taken
        waiting = self._waiting
        while (now := arrivals[index]) < until:
            if waiting:
                self._turn = turn
                self._hand_out(now)
                turn = self._turn
            if waiting:
                if len(waiting) <= WAITING:
                    waiting.append(index)
                index += 1
                continue
            for _ in range(count):
                replica = replicas[turn]
                turn += 1
                if turn == count:
                    turn = 0
                if replica[0] <= now:
                    free = replica[3]
                    end = (free if free > now else now) + services[index]
                    del replica[0]
                    replica.append(end)
                    ends[index] = end
                    break
            else:
                waiting.append(index)
            index += 1
        self.taken = index
        self._turn = turn
        self._hand_out(until)

    def _hand_out(self, until: float) -> None:
        """Hand those who wait to the replicas that have room before a moment."""
        waiting, replicas, count = self._waiting, self._replicas, len(self._replicas)
        while waiting:
            room = min([replica[0] for replica in replicas])
            first = self.arrivals[waiting[0]]
            now = room if room > first else first
            if now > until:
                return
            while replicas[self._turn][0] > now:
                self._turn = (self._turn + 1) % count
            replica = replicas[self._turn]
            self._turn = (self._turn + 1) % count
            index = waiting.popleft()
            end = max(replica[3], now) + self._services[index]
            del replica[0]
            replica.append(end)
            self.ends[index] = end


def _idle(now: float) -> list[float]:
    """Return when the last requests of a replica end, as many as it takes at once."""
    return [now] * OUTSTANDING
