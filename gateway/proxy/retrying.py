"""What follows a failed attempt: another one, a place in the queue, or the end."""

from enum import Enum, auto

from gateway.backends.backend import Backend
from gateway.exchange import AttemptEnd, Exchange
from gateway.policy.routing.retry import may_retry
from gateway.policy.slo.classify import RULINGS
from gateway.proxy.finding import others
from gateway.proxy.order import Order


class Next(Enum):
    """What follows."""

    ELSEWHERE = auto()
    QUEUE = auto()
    END = auto()


def after(
    end: AttemptEnd, order: Order, exchange: Exchange, tried: list[Backend], *, begun: bool, deadline: float, now: float
) -> Next:
    """Return what follows an attempt that ended so, at the last of those `tried`; the retry budget is charged.

    A backend that is only busy leaves `tried`: it is left alone for a while, and may be asked again then.
    """
    again = may_retry(
        worth=RULINGS[end].retry and (order.repeatable or end is AttemptEnd.CONNECT_FAILED),
        attempts=exchange.attempts,
        begun=begun,
        time_left=deadline - now,
    )
    if end is not AttemptEnd.SATURATED or not order.waits or not order.repeatable or begun or now >= deadline:
        return Next.ELSEWHERE if again and others(order, tried) and order.retries.take(now) else Next.END
    tried.pop()
    free = any(each.health.takes(order.claim, now) for each in others(order, tried))
    return Next.ELSEWHERE if again and free and order.retries.take(now) else Next.QUEUE
