"""What an attempt in progress may take: the time to its first token, and between two."""

from gateway.backends.backend import Backend
from gateway.exchange import AttemptEnd, Exchange
from gateway.proxy.order import Order

SHORTEST, TIMES = 60.0, 5.0
"""How long a backend may answer nobody, in seconds and as a multiple of the slowest answer of the kind."""


def overdue(
    order: Order, exchange: Exchange, backend: Backend, *, resumed: float, now: float, answered: bool
) -> tuple[AttemptEnd, str] | None:
    """Return how an attempt that takes too long ends, and why in words; None while it is in time.

    `resumed` is when the client last went on reading: a pause of the client's is none of the engine's. `answered` says
    that the head of an answer has come.
    """
    timeouts, last = order.timeouts, exchange.last_content
    if last:
        activity = backend.health.activity
        activity.worked_at = max(activity.worked_at, last)
        if now - max(last, resumed) > timeouts.stall:
            return AttemptEnd.STALLED, f"no token for {timeouts.stall:g} s"
    elif order.stream and now - exchange.sent > timeouts.first_token:
        return AttemptEnd.FIRST_TOKEN_TIMEOUT, f"no first token within {timeouts.first_token:g} s"
    elif not order.stream and not answered:
        return _without_answer(order, exchange, backend, now)
    return None


def _without_answer(order: Order, exchange: Exchange, backend: Backend, now: float) -> tuple[AttemptEnd, str] | None:
    """Judge an answer in one piece that has not begun.

    Without a timeout in the routes a long answer is no reason to give it up. A backend that has answered nobody since,
    for far longer than the latest answers of this kind took, hangs: some engines still say that they are well.
    """
    limit = order.timeouts.first_byte
    if limit is not None:
        late = now - exchange.sent > limit
        return (AttemptEnd.FIRST_TOKEN_TIMEOUT, f"no answer within {limit:g} s") if late else None
    slowest = order.kind.slowest
    if slowest is None or now - exchange.sent <= SHORTEST:
        return None
    silent = now - max(exchange.sent, backend.health.activity.worked_at)
    if silent <= max(SHORTEST, TIMES * slowest):
        return None
    return (
        AttemptEnd.FIRST_TOKEN_TIMEOUT,
        f"no answer to anyone for {silent:.0f} s; the slowest of late took {slowest:.3g} s",
    )
