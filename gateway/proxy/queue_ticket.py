"""One request's place in a line: made when it has to wait, gone when it gets a slot, gives up or is turned away."""

import asyncio
from math import inf
from typing import Protocol

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.policy.admission.decide import TurnedAway
from gateway.policy.admission.queue import Entry
from gateway.policy.routing.refusals import Refusals
from gateway.proxy.admission_queue import Queued
from gateway.proxy.routed_request import RoutedRequest
from gateway.wire.guarded import later


class Waiter(Protocol):
    """A request that waits."""

    def try_again(self, waited: float) -> bool:
        """Take a slot after so many seconds; return False where there is none."""

    def turned_away(self, why: TurnedAway) -> None:
        """Learn that there will be no slot."""

    def give_up(self, error: GatewayError) -> None:
        """End at once."""

    def renewed(self) -> RoutedRequest | None:
        """Follow a reload of the routes; return the request as it goes on, None when that was the end."""


class QueueTicket:
    """Waits for a slot of one version. After it got one it may `rejoin` the line, if the engine had too much to do."""

    __slots__ = ("_clock", "_entry", "_held", "_line", "_routed", "_since", "_waiter", "_waits", "claim")

    def __init__(self, waiter: Waiter, routed: RoutedRequest, clock: Clock) -> None:
        self._clock = clock
        self._held: asyncio.TimerHandle | None = None
        self._waiter = waiter
        self._routed = routed
        self._line = routed.route.line
        self.claim = routed.claim
        self._entry: Entry[Queued] | None = None
        self._since = 0.0
        self._waits = False

    def enter(self, routed: RoutedRequest, exchange: Exchange, *, now: float, deadline: float, chance: float) -> bool:
        """Join the queue; where that is hopeless the request is turned away at once, and False returned."""
        self._routed, self._line, self._since, self._waits = routed, routed.route.line, now, True
        entry = self._line.enter(
            self,
            routed.spec.service_class,
            routed.spec.tenant.name,
            now=now,
            patience=_patience(routed, exchange, deadline - now, now),
            chance=chance,
        )
        if isinstance(entry, TurnedAway):
            self._waits = False
            self._waiter.turned_away(entry)
            return False
        self._entry = entry
        return True

    def rejoin(
        self, routed: RoutedRequest, exchange: Exchange, refusals: Refusals, *, now: float, deadline: float
    ) -> bool:
        """Wait on in the old place, that of its arrival if it never waited, for what is left of the old patience.

        A request that is itself to blame is held back first; False where there is no time left for that.
        """
        self._routed, self._line = routed, routed.route.line
        if self._entry is None:
            since = exchange.received
            self._entry = self._place(since, since + _patience(routed, exchange, deadline - since, now))
        pause = refusals.pause(self._entry.until - now)
        if pause is None:
            return False
        self._since, self._waits = now, True
        if pause:
            self._held = later(pause, self._waiter, self._go_on, self._entry)
        else:
            self._line.rejoin(self._entry, now)
        return True

    def hold(self, routed: RoutedRequest, *, now: float, until: float, pause: float) -> None:
        """Wait for an engine, in order and by class as for a slot; one that has waited before goes on in its place.

        One that an engine took no connection of is held back first, for a `pause` in seconds.
        """
        self._routed, self._line, self._since, self._waits = routed, routed.route.line, now, True
        entry = self._entry
        if entry is None:
            entry = self._entry = self._place(now, until)
        entry.until = until
        if pause:
            self._held = later(pause, self._waiter, self._go_on, entry)
        else:
            self._line.adopt(entry)

    def _place(self, since: float, until: float) -> Entry[Queued]:
        """Return its place in the queue, from the time it came."""
        spec, line = self._routed.spec, self._line
        return Entry(
            self,
            spec.service_class,
            spec.tenant.name,
            self.claim.kv,
            since,
            holding=self.claim.kind.mean or line.forecast.seconds,
            until=until,
        )

    def is_over(self, now: float) -> bool:
        """Whether it waits, and its patience is over."""
        entry = self._entry
        if not self._waits or entry is None or now <= entry.until:
            return False
        return now > entry.until + self._excused(entry, now)

    def _go_on(self, entry: Entry[Queued]) -> None:
        """Go back into line after having been held back."""
        self._held = None
        routed = self._waiter.renewed()
        if routed is not None:
            self._routed, self._line = routed, routed.route.line
            self._line.rejoin(entry, self._clock())

    def begin(self, now: float) -> bool:
        """Go on, if there is a slot."""
        self._waits = not self._waiter.try_again(now - self._since)
        return not self._waits

    def turned_away(self, why: TurnedAway) -> None:
        """Make room for somebody of a higher class."""
        self._waiter.turned_away(why)

    def broke(self) -> None:
        """End with an error of the gateway's own."""
        self._waiter.give_up(GatewayError("the gateway failed on this request; its log says why"))

    def renew(self, now: float) -> None:  # noqa: ARG002 - called as any that waits
        """Follow a reload of the routes, into another line where need be; one that waits no more is left alone."""
        entry, routed = self._entry, self._waiter.renewed() if self._waits else None
        if routed is None:
            return
        self._routed, line = routed, routed.route.line
        if line is not self._line and entry is not None:
            self._line.hand_over(entry)
            line.adopt(entry)
            self._line = line

    def check(self, now: float, chance: float) -> bool:
        """Turn the request away when its patience is over; return whether it was."""
        entry = self._entry
        if entry is None or not self.is_over(now):
            return False
        self._waiter.turned_away(self._line.waited(entry, chance))
        return True

    def _excused(self, entry: Entry[Queued], now: float) -> float:
        """Return the seconds of its wait in which this process was late: slots may have come free that it did not see.

        The time that a client named goes on.
        """
        backends = self._routed.route.backends
        return backends[0].lateness.excuse(entry.since, now) if backends and not self._routed.spec.is_timed else 0.0

    def leave(self, now: float) -> float:
        """Leave the line for good; return how long it has been waited, in seconds."""
        waits, self._waits = self._waits, False
        entry, self._entry = self._entry, None  # it and this would keep each other in memory
        if self._held is not None:
            self._held.cancel()
        if not waits or entry is None:
            return 0.0
        self._line.leave(entry, now)
        return now - self._since


def _patience(routed: RoutedRequest, exchange: Exchange, left: float, now: float) -> float:
    """Return for how many seconds a request waits for a slot; `left` are those until its deadline."""
    spec = routed.spec
    if spec.is_timed:
        return left
    prompt, ttft = exchange.prompt_estimate, routed.objective.ttft if spec.stream else None
    threshold = inf if ttft is None else ttft.threshold(prompt)
    usual = routed.route.line.patience(spec.service_class, spec.kind, threshold, prompt, now)
    return min(left, usual - exchange.queued)
