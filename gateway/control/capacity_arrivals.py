"""How many requests come to a pool in each second, from those that have ended and those that are still inside."""

from dataclasses import dataclass, field

from gateway.policy.capacity.arrivals import ArrivalMeter

LONGEST_PAUSE = 2
"""Seconds without a look after which what came meanwhile is of no certain second: counting begins anew."""


@dataclass(slots=True)
class _Flow:
    """What was seen last: in which second, and how many were inside; `ended` have ended since."""

    second: int
    inside: float
    ended: float = 0.0
    meter: ArrivalMeter = field(default_factory=ArrivalMeter)


class PoolArrivals:
    """One meter for each pool, which is looked at about once a second."""

    def __init__(self) -> None:
        self._flows: dict[str, _Flow] = {}

    def __repr__(self) -> str:
        return f"<PoolArrivals of {', '.join(self._flows)}>"

    def look(self, pool: str, ended: float, inside: float, now: float) -> ArrivalMeter:
        """Return a pool's meter after a look: so many have ended since the last, and so many are inside."""
        second, flow = round(now), self._flows.get(pool)
        if flow is None or not 0 <= second - flow.second <= LONGEST_PAUSE:
            flow = self._flows[pool] = _Flow(second, inside)
        elif second == flow.second:
            flow.ended += ended
        else:
            flow.meter.observe(second, max(0.0, flow.ended + ended + inside - flow.inside))
            flow.second, flow.inside, flow.ended = second, inside, 0.0
        return flow.meter
