"""Telling an endpoint that has gone from one that is on its way from one object to another."""

from collections.abc import Iterable

from gateway.discovery.kubernetes.endpoints import Found, subject_of
from gateway.discovery.target import Target, TargetState


class Settling:
    """Keeps endpoints that were ready and are in no object any more, until a later list does not have them either.

    The controller of EndpointSlices moves endpoints by two writes, which come in any order. In between an endpoint is
    in no slice, though its pod serves. One that ends in the usual way terminates first, and is not kept: `ending` notes
    that, since all that happened to an endpoint may come at once. `hold` is the seconds within which both writes are
    done.
    """

    def __init__(self, hold: float) -> None:
        self._hold = hold
        self._told: dict[str, Target] = {}
        self._missing: dict[str, float] = {}
        self._ending: set[str] = set()
        self._targets: tuple[Target, ...] = ()

    @property
    def waits(self) -> bool:
        """Whether an endpoint is kept until there has been another list."""
        return bool(self._missing)

    def ending(self, subjects: Iterable[str]) -> None:
        """Note pods, or addresses of endpoints without one, that were not ready for a moment since `settle`."""
        self._ending.update(subjects)

    def settle(self, found: Found, now: float, listed: float) -> tuple[Target, ...]:
        """Return the targets, one an address; the same tuple as before where nothing has changed.

        `listed` is when the last complete list was asked for.
        """
        missing = {}
        for key, target in self._told.items():
            if key in found.targets or key in found.unready or target.state is not TargetState.READY:
                continue
            if subject_of(key) in self._ending:
                continue
            since = self._missing.get(key, now)
            if listed < since + self._hold:
                missing[key] = since
        self._ending.clear()
        kept = [self._told[key] for key in missing]
        self._told = {target.key: target for target in _one_an_address([*kept, *found.targets.values()])}
        self._missing = {key: since for key, since in missing.items() if key in self._told}
        targets = tuple(self._told[key] for key in sorted(self._told))
        if targets != self._targets:
            self._targets = targets
        return self._targets


def _one_an_address(targets: Iterable[Target]) -> Iterable[Target]:
    """Return for each address the target that is there now: an address is used again when its pod has gone."""
    places: dict[tuple[str, int], Target] = {}
    for target in targets:
        there = places.get((target.host, target.port))
        if there is None or target.state is TargetState.READY or there.state is TargetState.DRAINING:
            places[target.host, target.port] = target
    return places.values()
