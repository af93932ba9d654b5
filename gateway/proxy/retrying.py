"""What follows a failed attempt: another one, a place in the queue, or the end."""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final, TypeAlias

from gateway.backends.backend import Backend
from gateway.exchange import BAD, AttemptEnd, Exchange
from gateway.policy.routing.readiness import State
from gateway.policy.routing.refusals import Refusals
from gateway.policy.routing.retry import MAX_RETRIES, may_retry
from gateway.policy.slo.classify import RULINGS
from gateway.proxy.finding import others
from gateway.proxy.routed_request import RoutedRequest

Failure: TypeAlias = tuple[AttemptEnd, str, Backend | None]
"""How an attempt ended, why in words, and at which backend."""


Refused: TypeAlias = tuple[int, bytes, bytes]
"""An engine's error answer as the client would get it: status, head, body."""


class Failures:
    """What has gone wrong with a request so far, made with its first failure.

    `tried` are backends that are not asked again, `last` is what its client is told if nothing follows, `refusal` an
    engine's own words, which are told instead where they can be; `refusals` are those of engines that were too busy.
    """

    __slots__ = ("last", "refusal", "refusals", "tried")

    def __init__(self) -> None:
        self.tried: list[Backend] = []
        self.last: Failure | None = None
        self.refusal: Refused | None = None
        self.refusals = Refusals()

    def note(self, failed: Failure, refusal: Refused | None, *, committed: bool) -> Failure:
        """Take the latest failure, and what the engine said; return what to tell the client if nothing follows."""
        backend = failed[2]
        if backend is not None:
            self.tried.append(backend)
        self.refusal = refusal or self.refusal
        self.last = last = blamed(self.last, failed, committed=committed)
        return last

    def forget(self) -> None:
        """Let go of what only another attempt would need."""
        self.tried.clear()
        self.last = self.refusal = None


NONE_YET: Final = Failures()
"""Those of a request that nothing has gone wrong with; never changed."""


class Next(Enum):
    """What follows."""

    ELSEWHERE = auto()
    QUEUE = auto()
    END = auto()


def after(
    end: AttemptEnd,
    routed: RoutedRequest,
    exchange: Exchange,
    failures: Failures,
    *,
    committed: bool,
    deadline: float,
    now: float,
) -> Next:
    """Return what follows an attempt that ended so, at the last of those tried; the retry budget is charged.

    Those that are only busy leave `failures.tried` when the request queues: they may be asked again then. An idle one
    is asked again at most twice, inside the budget; after that its refusal is passed on.
    """
    spec, retries, tried, refusals = routed.spec, routed.model.memory.retries, failures.tried, failures.refusals
    if spec.is_copy:
        return Next.END
    again = may_retry(
        worth=RULINGS[end].retry and (spec.repeatable or end is AttemptEnd.CONNECT_FAILED),
        attempts=len(exchange.attempts),
        committed=committed,
        time_left=deadline - now,
    )
    may_wait = spec.repeatable and not committed and now < deadline
    if end is not AttemptEnd.SATURATED or not may_wait:
        return Next.ELSEWHERE if again and others(routed, tried) and retries.take(now) else Next.END
    free = any(each.health.takes(routed.claim, now) for each in others(routed, tried))
    if again and free and retries.take(now):
        return Next.ELSEWHERE
    if refusals.is_alone and (refusals.are_many or not retries.take(now)):
        return Next.END
    tried[:] = [each for each in tried if each.id not in refusals.by]
    return Next.QUEUE


def blamed(before: Failure | None, last: Failure, *, committed: bool) -> Failure:
    """Return what to tell the client if nothing follows: the last failure.

    A client whose own time was over lived through the one `before`, unless the attempt was `committed` after that.
    """
    if last[0] is not AttemptEnd.CLIENT_TIMEOUT or before is None or committed:
        return last
    return before if RULINGS[before[0]].verdict is BAD else last


def may_resend(routed: RoutedRequest, exchange: Exchange, deadline: float, now: float) -> bool:
    """Whether a request whose idle connection the engine had closed may go to it once more; the budget is charged."""
    worth = routed.spec.repeatable and not routed.spec.is_copy
    again = may_retry(worth=worth, attempts=len(exchange.attempts), committed=False, time_left=deadline - now)
    return again and routed.model.memory.retries.take(now)


def is_stranded(
    routed: RoutedRequest, exchange: Exchange, backend: Backend, tried: Sequence[Backend], now: float
) -> bool:
    """Whether an attempt without output is better made elsewhere: its backend has gone, and another has a free slot.

    While none has, the request stays: its backend may come back, and in the queue it would get no more than the time of
    its class. Requests in the queue go first. Of an answer that comes in one piece nothing is known until it is there,
    so that it is given more time.
    """
    if (
        exchange.last_content
        or routed.spec.is_copy
        or not routed.spec.repeatable
        or not backend.readiness.is_lost(long=not routed.spec.stream)
    ):
        return False
    if not backend.is_gone:
        return False  # it is too slow for its probes, but works
    if len(exchange.attempts) > MAX_RETRIES or not routed.model.memory.retries.allows(now):
        return False
    if routed.route.line.must_wait(routed.spec.service_class):
        return False
    return any(_is_free(each, routed, now) for each in others(routed, (*tried, backend)))


def _is_free(backend: Backend, routed: RoutedRequest, now: float) -> bool:
    health = backend.health
    return backend.readiness.state is State.READY and health.available(now) and health.takes(routed.claim, now)
