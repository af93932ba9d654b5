"""Which targets of one origin are backends: those that it names, and for a while those that it named before."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Final

from gateway.discovery.target import Target, TargetState

LINGER: Final = 60.0
"""Seconds for which a target that is gone is kept without requests: one that comes back goes on as it was."""
MOST_GONE: Final = 64
"""Targets without requests that are kept so, or as many as there are present."""


class Membership:
    """The targets that an origin named last, and those that are gone.

    What is gone gets no new requests. It is forgotten once it has none in progress, and has been gone for long enough.
    `confirmed_at` is when the origin last told of its targets (seconds of the clock), None before it did.
    """

    def __init__(self) -> None:
        self.confirmed_at: float | None = None
        self._present: dict[str, Target] = {}
        self._gone: dict[str, tuple[Target, float]] = {}

    def __repr__(self) -> str:
        return f"<Membership of {len(self._present)} targets, {len(self._gone)} gone>"

    def take(self, targets: Iterable[Target], now: float) -> bool:
        """Take all that the origin names; return whether that changes anything."""
        self.confirmed_at = now
        before, self._present = self._present, _without_doubles(targets)
        for key, target in before.items():
            if key not in self._present:
                self._gone[key] = (target, now)
        addresses = {(target.host, target.port) for target in self._present.values()}
        for key, (target, _) in list(self._gone.items()):
            if key in self._present or (target.host, target.port) in addresses:
                del self._gone[key]
        return before != self._present

    def forget(self, busy: Collection[str], now: float) -> bool:
        """Let go of what is gone, but for the keys that are `busy` with requests; return whether that is any."""
        idle = {key: since for key, (_, since) in self._gone.items() if key not in busy}
        most = max(MOST_GONE, len(self._present))
        over = [key for key, since in idle.items() if now - since >= LINGER]
        over += [key for key in list(idle)[: max(0, len(idle) - most)] if key not in over]
        for key in over:
            del self._gone[key]
        return bool(over)

    @property
    def targets(self) -> list[Target]:
        """What the origin names."""
        return list(self._present.values())

    @property
    def gone(self) -> list[Target]:
        """What it named before, in the state of those that get no new requests."""
        return [replace(target, state=TargetState.DRAINING) for target, _ in self._gone.values()]


def _without_doubles(targets: Iterable[Target]) -> dict[str, Target]:
    """Return targets by key, in an order of their own; of those with one address, one that is ready comes first."""
    found: dict[str, Target] = {}
    addresses: set[tuple[str, int]] = set()
    for target in sorted(targets, key=lambda each: (each.state is not TargetState.READY, each.key)):
        address = target.host, target.port
        if target.key not in found and address not in addresses:
            found[target.key] = target
            addresses.add(address)
    return dict(sorted(found.items()))
