"""Gateways that cannot reach a backend: would those that can do so gain by hearing of it, and what would it cost them?

The rule tried here: a backend that two machines at least, and half of those that tried it in the last 10 s, could not
connect to is out for all, as with other findings. Readiness, ejections and returns are the gateway's own.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

from gateway.exchange import Fault, Verdict
from gateway.policy.routing import readiness
from gateway.policy.routing.ejection import Finding
from gateway.policy.routing.outlier import Signal
from gateway.policy.routing.pool_state import PoolState
from gateway.policy.routing.readiness import Readiness
from gateway.policy.routing.retry import pause
from gateway.policy.slo.windows import TICK

BACKENDS = 4
CONNECT = PROBE = 2.0
"""Seconds until a connect, or a probe, that nothing answers is given up."""
ANSWER = 0.2
RECENT = 10.0
OUT = 30.0
BEGINS, ENDS = 30.0, 120.0


@dataclass(frozen=True)
class Case:
    """What happens to the first backend at `BEGINS`: for so long, `lost` machines of `rates` cannot reach it.

    A rate is in requests a second. `silent` says that connects wait in vain, and are not refused.
    """

    name: str
    rates: tuple[float, ...]
    lost: int
    seconds: float
    silent: bool = False


@dataclass
class Result:
    """What one case comes to: requests that met the lost backend first, all their vain seconds, and how long a gateway
    that could reach the backend had it out of service, in seconds of all such gateways."""

    requests: int = 0
    met: float = 0.0
    vain: float = 0.0
    needless: float = 0.0


class Gateway:
    """One gateway: what it believes of the backends, and when it last tried to connect to the first, and failed."""

    def __init__(self, rng: Random) -> None:
        self.peers = PoolState("p", 0.0)
        self.peers.follow([f"p/{number}" for number in range(BACKENDS)])
        self.healths = list(self.peers.members.values())
        self.readiness = [Readiness(readiness.State.READY) for _ in self.healths]
        self.tried = self.failed = self.failing_since = float("-inf")
        self.rng = rng

    def serving(self, now: float) -> list[int]:
        """Return the backends that get requests."""
        found = [each for each in range(BACKENDS) if self.readiness[each].eligible]
        return [each for each in found if self.healths[each].available(now)] or found

    def noted(self, now: float, *, failed: bool) -> None:
        """Note that it tried the first backend."""
        self.tried = now
        if not failed:
            return
        if now - self.failed > RECENT:
            self.failing_since = now
        self.failed = now


class World:
    """Gateways, one on each machine, and their requests, probes and exchanges in virtual time."""

    def __init__(self, case: Case, seed: int, *, rule: bool) -> None:
        self.now = 0.0
        self.result = Result()
        self._case = case
        self._rng = Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.gateways = [Gateway(self._rng) for _ in case.rates]
        self._told: list[tuple[float, float, float]] = [(float("-inf"),) * 3] * len(self.gateways)
        for index, gateway in enumerate(self.gateways):
            self._after(self._rng.random() * TICK, self._ticking(gateway, index))
            self._after(self._rng.expovariate(case.rates[index] or 1e-9), self._asking(gateway, index))
            self._after(self._rng.random(), self._exchanging(gateway, index, rule=rule))
            for backend in range(BACKENDS):
                self._after(self._rng.random(), self._probing(gateway, index, backend))

    def run(self) -> Result:
        """Let it happen."""
        while self._events and self._events[0][0] <= ENDS:
            self.now, _, do = heapq.heappop(self._events)
            do()
        return self.result

    def _after(self, seconds: float, steps: Iterator[float]) -> None:
        def step() -> None:
            wait = next(steps, None)
            if wait is not None:
                self._after(wait, steps)

        heapq.heappush(self._events, (self.now + seconds, next(self._order), step))

    def _is_lost(self, index: int, backend: int) -> bool:
        case = self._case
        return backend == 0 and index < case.lost and BEGINS <= self.now < BEGINS + case.seconds

    def _probing(self, gateway: Gateway, index: int, backend: int) -> Iterator[float]:
        while True:
            if self._is_lost(index, backend):
                if self._case.silent:
                    yield PROBE
                current, silent = gateway.readiness[backend], self._case.silent
                gateway.readiness[backend] = readiness.probe_failed(current, "", silent=silent)
                gateway.noted(self.now, failed=True)
            else:
                gateway.readiness[backend] = readiness.probe_passed(gateway.readiness[backend])
                if not backend:
                    gateway.noted(self.now, failed=False)
            yield 1.0

    def _ticking(self, gateway: Gateway, index: int) -> Iterator[float]:
        while True:
            signals = {
                each.id: Signal(gone=not ready.eligible)
                for each, ready in zip(gateway.healths, gateway.readiness, strict=True)
            }
            gateway.peers.tick(self.now, signals, gateway.rng)
            if self.now >= BEGINS and not self._is_lost(index, 0) and 0 not in gateway.serving(self.now):
                self.result.needless += TICK
            yield TICK

    def _asking(self, gateway: Gateway, index: int) -> Iterator[float]:
        while True:
            self._after(0.0, self._request(gateway, index))
            yield self._rng.expovariate(self._case.rates[index])

    def _request(self, gateway: Gateway, index: int) -> Iterator[float]:
        self.result.requests += 1
        tried: set[int] = set()
        while rest := [each for each in gateway.serving(self.now) if each not in tried]:
            backend = self._rng.choice(rest)
            tried.add(backend)
            health, lost = gateway.healths[backend], self._is_lost(index, backend)
            lease = health.lease(100, now=self.now)
            yield (CONNECT if self._case.silent else 0.0) if lost else ANSWER
            self._tried(gateway, backend, lost=lost)
            if lost:
                health.ended(lease, Verdict.BAD, self.now, gateway.rng, fault=Fault.SILENCE)
            else:
                health.ended(lease, Verdict.GOOD, self.now, gateway.rng, seconds=ANSWER)
            lease.release()
            if not lost:
                return
            self.result.met += 1
            self.result.vain += self.now - lease.at
            yield pause(len(tried), gateway.rng)

    def _tried(self, gateway: Gateway, backend: int, *, lost: bool) -> None:
        if not backend:
            gateway.noted(self.now, failed=lost)
        if lost:
            gateway.readiness[backend] = readiness.connect_failed(gateway.readiness[backend], "")

    def _exchanging(self, gateway: Gateway, index: int, *, rule: bool) -> Iterator[float]:
        """Tell the others, and hear of them, once a second."""
        while True:
            self._told[index] = gateway.tried, gateway.failed, gateway.failing_since
            tried = [each for each in self._told if self.now - each[0] <= RECENT]
            failed = [each for each in tried if self.now - each[1] <= RECENT]
            if rule and len(failed) >= 2 and 2 * len(failed) >= len(tried):
                since = min(each[2] for each in failed)
                finding = Finding(self.now + OUT, "could not be reached", since=since, in_row=True)
                if not gateway.healths[0].outlier.ejection.out:
                    gateway.peers.told("p/0", finding, self.now, gateway.rng)
            yield 1.0


BUSY, QUIET, IDLE = 20.0, 0.2, 0.001
CASES = (
    Case("refuses all, 3 machines: 1 busy, 2 quiet", (BUSY, QUIET, QUIET), 3, 60.0),
    Case("silent to all, 3 machines: 1 busy, 2 quiet", (BUSY, QUIET, QUIET), 3, 60.0, silent=True),
    Case("silent to all, 10 machines: 1 busy, 9 quiet", (BUSY, *[QUIET] * 9), 10, 60.0, silent=True),
    Case("refuses for 5 s, 10 machines: 1 busy, 9 quiet", (BUSY, *[QUIET] * 9), 10, 5.0),
    Case("lost by 1 of 2", (BUSY, QUIET), 1, 60.0),
    Case("lost by 2 of 3, the third quiet", (BUSY, BUSY, QUIET), 2, 60.0),
    Case("lost by 2 of 3, the third busy", (BUSY, BUSY, BUSY), 2, 60.0),
    Case("lost by 5 of 10, the others quiet", (*[BUSY] * 5, *[QUIET] * 5), 5, 60.0),
)


def compare(case: Case, seeds: int) -> tuple[Result, Result]:
    """Return what a case comes to on average without the rule and with it."""
    averages = []
    for rule in (False, True):
        found = [World(case, seed, rule=rule).run() for seed in range(seeds)]
        averages.append(
            Result(
                sum(each.requests for each in found) // seeds,
                sum(each.met for each in found) / seeds,
                sum(each.vain for each in found) / seeds,
                sum(each.needless for each in found) / seeds,
            )
        )
    return averages[0], averages[1]
