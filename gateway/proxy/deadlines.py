"""What an attempt in progress may take: the time to its first token, and between two."""

from math import inf
from typing import Final

from gateway.backends.backend import Backend
from gateway.config.table import FIRST_TOKEN, LONGEST, STALL
from gateway.exchange import AttemptEnd, Exchange
from gateway.proxy.routed_request import RoutedRequest

SHORTEST: Final = 60.0
TIMES: Final = 5.0
"""How long a backend may answer no request, in seconds and as a multiple of the slowest answer of the kind."""
ENOUGH: Final = 10
"""Answers for each of its peers, while a backend gave none, by which it hangs: chance does that once in 22,000."""
_FAIR: Final = 1.0
_TIMES_TTFT: Final = 2.0
"""Seconds, and times an idle backend's TTFT, below which a wait in vain says nothing of a backend."""


def overdue(
    routed: RoutedRequest, exchange: Exchange, backend: Backend, *, resumed: float, now: float, answered: bool
) -> tuple[AttemptEnd, str] | None:
    """Return how an attempt that takes too long ends, and why in words; None while it is in time.

    There is one timer of silence for each attempt. `resumed` is when the client last went on reading: a pause of the
    client's is none of the engine's, nor is one of this process. `answered` says that the head of an answer has come.
    """
    last = exchange.last_content
    if last:
        backend.health.activity.worked(last)
        silent = _silent(routed.model.timeouts.stall, STALL, max(last, resumed), backend, now)
        return (AttemptEnd.STALLED, f"no token for {silent:g} s") if silent else None
    if routed.spec.stream:
        silent = _silent(routed.model.timeouts.first_token, FIRST_TOKEN, max(exchange.sent, resumed), backend, now)
        return (AttemptEnd.FIRST_TOKEN_TIMEOUT, f"no first token within {silent:g} s") if silent else None
    if not answered:
        return _without_answer(routed, exchange, backend, now)
    return None


def time_is_over(
    routed: RoutedRequest,
    exchange: Exchange,
    backend: Backend | None,
    *,
    resumed: float,
    now: float,
    answered: bool,
) -> tuple[AttemptEnd, str]:
    """Return how an attempt ends at the deadline of its request, which no excuse moves.

    Where the client named less time than the route allows, that is its own doing, as a hang-up is: unless the attempt
    is overdue as well, or its backend answers none. Else the user waited in vain, and the backend is blamed unless this
    process was late for half of the time that it had.
    """
    late = backend.lateness.excuse(exchange.sent, now) if backend is not None else 0.0
    if late and late * 2 >= now - exchange.sent:
        return AttemptEnd.GATEWAY_LATE, "the request's time is over"
    if not routed.spec.is_hurried:
        return AttemptEnd.DEADLINE_EXCEEDED, "the request's time is over"
    if backend is not None and not routed.spec.is_lookup:
        failed = overdue(routed, exchange, backend, resumed=resumed, now=now, answered=answered)
        failed = failed or _answers_none(routed, exchange, backend, now)
        if failed is not None:
            return failed
    return AttemptEnd.CLIENT_TIMEOUT, "the time that `x-request-timeout` allows is over"


def _silent(limit: float | None, usual: float, since: float, backend: Backend, now: float) -> float:
    """Return the limit that a silent stream has exceeded, in seconds; 0.0 while it has not.

    Without a `limit` in the routes, `usual` counts only while the backend does not work for anyone: hidden reasoning,
    the arguments of a tool and long prompts keep a healthy engine silent for longer than that.
    """
    lateness = backend.lateness
    if not lateness.has_passed(usual if limit is None else limit, since, now):
        return 0.0
    if limit is not None:
        return limit
    if lateness.has_passed(usual, max(since, backend.health.activity.worked_at, backend.engine.progressed), now):
        return usual
    return LONGEST if lateness.has_passed(LONGEST, since, now) else 0.0


def _without_answer(
    routed: RoutedRequest, exchange: Exchange, backend: Backend, now: float
) -> tuple[AttemptEnd, str] | None:
    """Judge an answer in one piece that has not begun.

    Without a timeout in the routes a long answer is no reason to give it up. A backend hangs that has answered none
    since, and whose metrics have stood still, for far longer than the latest answers of this kind took: some engines
    still say that they are well.
    """
    limit = routed.model.timeouts.first_byte
    if limit is not None:
        late = backend.lateness.has_passed(limit, exchange.sent, now)
        return (AttemptEnd.FIRST_TOKEN_TIMEOUT, f"no answer within {limit:g} s") if late else None
    slowest = routed.spec.kind.slowest
    if slowest is None or now - exchange.sent <= SHORTEST:
        return None
    since = max(exchange.sent, backend.health.activity.worked_at, backend.engine.progressed)
    silent = now - since
    if not backend.lateness.has_passed(max(SHORTEST, TIMES * slowest), since, now):
        return None
    return (
        AttemptEnd.FIRST_TOKEN_TIMEOUT,
        f"no answer to anyone for {silent:.0f} s; the slowest of late took {slowest:.3g} s",
    )


def _answers_none(
    routed: RoutedRequest, exchange: Exchange, backend: Backend, now: float
) -> tuple[AttemptEnd, str] | None:
    """Judge a backend by a request whose client gave it less time than the route does: it may hang all the same.

    It does where its probes fail too, or where for long it has answered no such request, nor any other, although they
    waited longer than it usually takes. Answers in one piece that have become longer than clients wait look the same:
    there its peers have to do better.
    """
    activity, kind, waited = backend.health.activity, routed.spec.kind, now - exchange.sent
    worked_at = max(activity.worked_at, backend.engine.progressed, exchange.last_content)
    if waited < _FAIR or worked_at > exchange.sent:
        return None
    if not backend.readiness.eligible:
        return AttemptEnd.DEADLINE_EXCEEDED, f"the request's time is over; {backend.readiness.reason}"
    if routed.spec.stream:
        predicted = backend.health.latency.ttft.predict(exchange.prompt_estimate, 0.0)
        usual = _TIMES_TTFT * max(activity.quickest.seconds, predicted)
        limit = routed.model.timeouts.first_token or FIRST_TOKEN
    else:
        usual = inf if kind.slowest is None else kind.slowest
        limit = routed.model.timeouts.first_byte or max(SHORTEST, TIMES * usual)
    if waited < usual:
        return None
    peers = backend.health.peers.vitals
    answers = sum(each.activity.answers for each in peers)
    silent, theirs = activity.vain.add(exchange.sent, now, worked_at=worked_at, answers=answers)
    if silent <= limit:
        return None
    if (
        not routed.spec.stream
        and routed.model.timeouts.first_byte is None
        and not _stands_out(silent, theirs, len(peers) - 1)
    ):
        return None
    return AttemptEnd.DEADLINE_EXCEEDED, f"the request's time is over; no answer to anyone for {silent:.0f} s"


def _stands_out(silent: float, theirs: int, peers: int) -> bool:
    """Whether a backend that gave no answer for so many seconds hangs, by `theirs`: the answers that its `peers` gave.

    Where they gave none either, the pool answers nobody at all; that is bad for its users whatever the reason.
    """
    return theirs >= ENOUGH * peers if theirs else silent > LONGEST
