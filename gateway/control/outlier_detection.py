"""The loop that turns what was counted into weights, ejections and returns, four times a second."""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from random import Random

from gateway.backends.backend import Backend
from gateway.backends.registry import Registry
from gateway.clock import Clock, next_turn
from gateway.policy.routing import ejection
from gateway.policy.routing.ejection import Cause, Transition
from gateway.policy.routing.outlier import Signal
from gateway.policy.routing.pool_state import PoolState
from gateway.policy.slo.alerts import FASTEST
from gateway.policy.slo.burn import routing_burn
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.objective import Sli
from gateway.policy.slo.series import Kind, Series
from gateway.policy.slo.windows import MINUTE, TICK
from gateway.state.store import BackendFinding, Ejection
from gateway.wire.slices import Slices, Work, finish

_log = logging.getLogger(__name__)
_REMEMBERED = 256
_SLACK = 5.0
"""Seconds by which a clock may have been set back between two starts without being called wrong."""
_QUIET = 2 * MINUTE
"""Seconds after the last event by which the windows of the last minute are certainly empty."""
HIDDEN_BURN = 1.25
"""The routing burn that failures stand for which no client noticed: what their backend scores beyond a tie.

It gets few requests while its peers are idle, and nearly its due where they could not do its work in time.
"""
Recent = tuple[int, int, int, int]
"""Good and bad of the last minute, then of the last ten seconds."""


class OutlierDetector:
    """Advances the ledger and lets every pool judge its backends.

    `ejections` counts by (backend, pool, cause); `history` holds the latest transitions, the newest last.
    `request_save` is called with what other gateways should know soon.
    """

    def __init__(
        self,
        ledger: SloLedger,
        registry: Registry,
        *,
        clock: Clock,
        epoch: Clock,
        rng: Random,
        settle: Callable[[], None] = lambda: None,
        shares_network: bool = True,
    ) -> None:
        """Take the registry's clock, and `epoch`, one of seconds since the epoch that never jumps.

        `settle` brings the ledger up to date. All gateways that read the same state may share one machine, and its
        network: where they do not, what this one could not reach is not kept for them.
        """
        self.request_save: Callable[[], None] = lambda: None
        self._shares_network = shares_network
        self._settle = settle
        self.ejections: Counter[tuple[str, str, Cause]] = Counter()
        self.history: deque[Transition] = deque(maxlen=_REMEMBERED)
        self._ledger = ledger
        self._registry = registry
        self._clock = clock
        self._epoch = epoch
        self._rng = rng
        self._unsaved: list[Ejection] = []
        self._findings: list[BackendFinding] = []
        self._panics: set[str] = set()

    async def run(self, slices: Slices) -> None:
        """Detect until cancelled, in slices of the loop's time."""
        while True:
            await next_turn(TICK)
            await slices.do(self.detecting())

    def detect(self) -> None:
        """Look at every pool once."""
        finish(self.detecting())

    def detecting(self) -> Work[None]:
        """Do so in small pieces."""
        self._settle()
        yield from self._ledger.advancing(self._epoch())
        now = self._clock()
        signals: dict[str, Signal] = {}
        for backend in list(self._registry):
            signals[backend.id] = self._signal(backend)
            yield
        for peers in list(self._registry.pools.values()):
            least = peers.thresholds.min_requests
            peers.take_burns(pool_burns(self._ledger.get(Kind.POOL, peers.pool), least=least))
            yield from peers.ticking(now, signals, self._rng)
            for transition in peers.take_transitions():
                self._tell(peers, transition, now)
            self._tell_panic(peers)
            yield

    def unsaved_ejections(self) -> list[Ejection]:
        """Return the ejections since the last call, to be kept over a restart."""
        taken, self._unsaved = self._unsaved, []
        return taken

    def unsaved_findings(self) -> list[BackendFinding]:
        """Return what was found since the last call that concerns other gateways too."""
        taken, self._findings = self._findings, []
        return taken

    def found(self, findings: Iterable[BackendFinding]) -> None:
        """Take what other gateways have found, of the backends that the routes name."""
        now = self._clock()
        offset = self._epoch() - now
        for each in findings:
            here = replace(each.finding, until=each.finding.until - offset, since=each.finding.since - offset)
            for peers in self._registry.pools.values():
                peers.told(each.backend, here, now, self._rng)

    def restore(self, ejections: Iterable[Ejection]) -> None:
        """Take back ejections kept over a restart: one that still lasts holds again, the others count as recent.

        One of a time to come is of a clock that was wrong, and none lasts for longer than ejections do. No more of a
        pool are out than may be: several gateways may have ejected some each.
        """
        epoch = self._epoch()
        offset = epoch - self._clock()
        recent: dict[str, list[Ejection]] = {}
        for each in ejections:
            recent.setdefault(each.backend, []).append(each)
        for backend in self._registry:
            longest = backend.health.outlier.thresholds.max_ejection_time
            known = [
                replace(each, at=(at := min(each.at, epoch)), until=min(each.until, at + longest))
                for each in recent.get(backend.id, ())
                if epoch - 2 * longest < each.at <= epoch + _SLACK
            ]
            if known:
                peers, standing = backend.health.peers, _standing(known, epoch=epoch, offset=offset)
                if standing.out and not peers.has_room:
                    standing = replace(standing, state=ejection.State.IN_SERVICE, since=epoch - offset, until=0.0)
                backend.health.outlier.restore(standing)

    def _signal(self, backend: Backend) -> Signal:
        least = backend.health.peers.thresholds.min_requests
        series, progressed = self._ledger.get(Kind.BACKEND, backend.id), backend.engine.progressed
        hidden = backend.health.symptoms.residual.hidden_share
        return signal(series, gone=backend.is_gone, least=least, progressed=progressed, hidden=hidden)

    def _tell(self, peers: PoolState, transition: Transition, now: float) -> None:
        after = transition.after
        self.history.append(transition)
        if transition.cause is not None:
            self.ejections[transition.backend, peers.pool, transition.cause] += 1
            self._keep(peers, transition, self._epoch() - now)
        _log.log(
            logging.WARNING if after.state is ejection.State.EJECTED else logging.INFO,
            "backend %s",
            after.state.replace("_", " "),
            extra={
                "backend": transition.backend,
                "pool": peers.pool,
                "before": transition.before,
                "reason": after.reason,
                "seconds": round(max(0.0, after.until - now), 1),
                "recent_ejections": after.ejections,
            },
        )

    def _keep(self, peers: PoolState, transition: Transition, offset: float) -> None:
        """Keep an ejection over a restart, and tell other gateways of it where that concerns them.

        In a panic the fault is the load's, or this gateway's own.
        """
        after, finding = transition.after, transition.finding
        if finding is not None and not peers.panic:
            told = replace(finding, until=finding.until + offset, since=finding.since + offset)
            self._findings.append(BackendFinding(transition.backend, told))
            self.request_save()
        if finding is not None or (self._shares_network and transition.cause is not Cause.PEER):
            self._unsaved.append(Ejection(transition.backend, after.since + offset, after.until + offset, after.reason))

    def _tell_panic(self, peers: PoolState) -> None:
        if peers.panic == (peers.pool in self._panics):
            return
        if peers.panic:
            self._panics.add(peers.pool)
            _log.warning(
                "more than half of the pool is out or burning: ejections are ignored",
                extra={"pool": peers.pool, "reason": peers.panic_reason},
            )
        else:
            self._panics.discard(peers.pool)
            _log.info("ejections are applied again", extra={"pool": peers.pool})


def _standing(ejections: Sequence[Ejection], *, epoch: float, offset: float) -> ejection.EjectionState:
    """Return where a backend stands after ejections that were kept over a restart."""
    last = ejections[-1]
    known = ejection.EjectionState(ejections=len(ejections), since=epoch - offset, reason=last.reason)
    if last.until <= epoch:
        return known
    return replace(known, state=ejection.State.EJECTED, since=last.at - offset, until=last.until - offset)


def pool_burns(series: Iterable[Series], *, least: int = ejection.USUAL.min_requests) -> dict[str, float]:
    """Return the highest routing burn of a pool by objective; none while the last minute holds fewer than `least`."""
    burns: dict[str, float] = {}
    for each in series:
        recent = each.windows.recent
        if recent[0] + recent[1] >= least:
            burn = routing_burn(recent, each.target.budget)
            burns[each.objective] = max(burn, burns.get(each.objective, 0.0))
    return burns


def _are_quiet(series: Sequence[Series]) -> bool:
    """Whether nothing was counted for so long that nothing is recent."""
    for each in series:
        windows = each.windows
        if windows.now - windows.last <= _QUIET:
            return False
    return True


def signal(
    series: Sequence[Series],
    *,
    gone: bool,
    least: int = ejection.USUAL.min_requests,
    progressed: float = float("-inf"),
    hidden: float = 0.0,
) -> Signal:
    """Return what the ledger says of one backend: the highest routing burn, and which SLIs burn at page rate.

    Failures that no client noticed, a part `hidden` of all (0 to 1), cost a retry and no answer: they lower its share,
    and eject nothing. Without it the others might have more to do than they can in time.

    To burn takes `least` requests of the last minute. Every objective that runs there counts, each with its own
    targets, and all of them together: what each sees of a failing backend may be too little to say.
    """
    if _are_quiet(series):
        return Signal(gone, progressed=progressed)
    highest, failing, slow = 0.0, "", ""
    for sli, counted, budget, factor in _rows(series):
        recent, burn = counted, routing_burn(counted, budget)
        if hidden and sli == Sli.AVAILABILITY:
            highest = max(highest, min(burn, HIDDEN_BURN))
            recent = _noticed(counted, hidden)
            burn = routing_burn(recent, budget)
        highest = max(highest, burn)
        if burn < factor or recent[0] + recent[1] < least:
            continue
        words = f"{sli} burns at {burn:.1f} (limit {factor:.1f}), {recent[1]} of {recent[0] + recent[1]} bad in 1 m"
        if sli == Sli.AVAILABILITY:
            failing = words
        else:
            slow = slow or words
    return Signal(gone, highest or 1.0, failing, slow, progressed)


def _noticed(recent: Recent, hidden: float) -> Recent:
    """Return counts without the part of failures that no client noticed."""
    good, bad, good_now, bad_now = recent
    return good, bad - round(bad * hidden), good_now, bad_now - round(bad_now * hidden)


def _rows(series: Iterable[Series]) -> Iterator[tuple[str, Recent, float, float]]:
    """Return SLI, counts, budget and the factor of page rate: of every series, then of several of one SLI together."""
    together: dict[str, list[tuple[Recent, float, float]]] = {}
    for each in series:
        row = each.windows.recent, each.target.budget, FASTEST.factor(each.windows.slo)
        together.setdefault(each.sli, []).append(row)
        yield each.sli, *row
    for sli, rows in together.items():
        total = sum(recent[0] + recent[1] for recent, _, _ in rows)
        if len(rows) > 1 and total:
            good, bad, good_now, bad_now = (sum(counts) for counts in zip(*(row[0] for row in rows), strict=True))
            budget = sum((recent[0] + recent[1]) * budget for recent, budget, _ in rows) / total
            yield sli, (good, bad, good_now, bad_now), budget, max(factor for _, _, factor in rows)
