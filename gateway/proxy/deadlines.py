"""What an attempt in progress may take: the time to its first token, and between two."""

from gateway.backends.backend import Backend
from gateway.exchange import AttemptEnd, Exchange
from gateway.proxy.order import Order


def overdue(
    order: Order, exchange: Exchange, backend: Backend, *, resumed: float, now: float
) -> tuple[AttemptEnd, str] | None:
    """Return how an attempt that takes too long ends, and why in words; None while it is in time.

    `resumed` is when the client last went on reading: a pause of the client's is none of the engine's.
    """
    timeouts, last = order.timeouts, exchange.last_content
    if last:
        activity = backend.health.activity
        activity.worked_at = max(activity.worked_at, last)
        if now - max(last, resumed) > timeouts.stall:
            return AttemptEnd.STALLED, f"no token for {timeouts.stall:g} s"
    elif order.stream and now - exchange.sent > timeouts.first_token:
        return AttemptEnd.FIRST_TOKEN_TIMEOUT, f"no first token within {timeouts.first_token:g} s"
    return None
