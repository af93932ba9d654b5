"""Addresses of an engine that a connect waited for in vain."""

from math import inf
from typing import Final

_SLOW_FOR: Final = 60.0


class SlowAddresses:
    """Those come last for a minute, so that a silent address delays one connect only."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<SlowAddresses {' '.join(self._since) or 'none'}>"

    def last(self, addresses: tuple[str, ...], now: float) -> tuple[str, ...]:
        """Return these addresses with the slow ones last."""
        if not self._since:
            return addresses
        slow = [each for each in addresses if now - self._since.get(each, -inf) < _SLOW_FOR]
        return (*(each for each in addresses if each not in slow), *slow)

    def learn(self, tried: tuple[str, ...], connected: str, now: float) -> None:
        """Note those that were tried before the address that a connection came about with."""
        slow = tried[: tried.index(connected)]
        if slow:
            self._since = {a: at for a, at in self._since.items() if now - at < _SLOW_FOR} | dict.fromkeys(slow, now)
