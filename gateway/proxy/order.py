"""What a request asks for, understood, and what every request is handed to get it."""

import logging
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol, TypeAlias

from gateway.backends.backend import Backend
from gateway.clock import Clock
from gateway.config.table import Timeouts
from gateway.exchange import AttemptEnd, Endpoint, Exchange
from gateway.policy.routing.choose import Choice, choose
from gateway.policy.routing.pick import Chance
from gateway.proxy.live import LiveModel, LiveVersion

_log = logging.getLogger(__name__)


class Observer(Protocol):
    """Whoever is told what happened; never asked what to do."""

    def attempt_ended(self, exchange: Exchange, backend: Backend, end: AttemptEnd) -> None:
        """Learn how one attempt ended."""

    def retried(self, exchange: Exchange, end: AttemptEnd) -> None:
        """Learn that an attempt which ended so was followed by another."""

    def settled(self, exchange: Exchange) -> None:
        """Learn how a request ended; called exactly once for each."""


class Order:
    """What a request asks for, understood: where it may go and the bytes that go there; `size` is its body's."""

    __slots__ = (
        "body",
        "choices",
        "endpoint",
        "fields",
        "model",
        "size",
        "stream",
        "strip_usage",
        "timeouts",
        "version",
    )

    def __init__(self, endpoint: Endpoint, model: LiveModel, version: LiveVersion, *, fields: bytes) -> None:
        self.endpoint = endpoint
        self.model = model
        self.version = version
        self.timeouts: Timeouts = model.timeouts
        self.size = 0
        self.fields = fields
        self.body = b""
        self.stream = False
        self.strip_usage = False
        self.choices = 1

    def written_for(self, backend: Backend) -> bytes:
        """Return the request as this backend shall read it."""
        return b"POST %b%b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n%b%bcontent-length: %d\r\n\r\n%b" % (
            backend.base_path,
            self.endpoint.target,
            backend.authority,
            backend.authorization,
            self.fields,
            len(self.body),
            self.body,
        )


Chooser: TypeAlias = Callable[[Sequence[Backend], int, float, Chance], Choice[Backend]]
"""Chooses among ready backends for a prompt of so many tokens, at a time (s): `policy.routing.choose.choose`."""


class Tools:
    """What every flight is handed: a clock, chance, the observers, and who chooses a backend."""

    __slots__ = ("choose", "clock", "observer", "rng")

    def __init__(self, clock: Clock, rng: Random, observer: Observer, choose: Chooser = choose) -> None:
        self.clock = clock
        self.rng = rng
        self.observer = observer
        self.choose = choose


class Observers:
    """Several observers as one. One that breaks is logged and does not harm the request."""

    __slots__ = ("_attempt_ended", "_retried", "_settled")

    def __init__(self, *observers: object) -> None:
        """Take observers that have any of an observer's methods."""
        self._attempt_ended = _having(observers, "attempt_ended")
        self._retried = _having(observers, "retried")
        self._settled = _having(observers, "settled")

    def attempt_ended(self, exchange: Exchange, backend: Backend, end: AttemptEnd) -> None:
        """Tell whoever wants to know."""
        try:
            for tell in self._attempt_ended:
                tell(exchange, backend, end)
        except Exception:
            _log.exception("an observer broke")

    def retried(self, exchange: Exchange, end: AttemptEnd) -> None:
        """Tell whoever wants to know."""
        try:
            for tell in self._retried:
                tell(exchange, end)
        except Exception:
            _log.exception("an observer broke")

    def settled(self, exchange: Exchange) -> None:
        """Tell whoever wants to know."""
        try:
            for tell in self._settled:
                tell(exchange)
        except Exception:
            _log.exception("an observer broke")


def _having(observers: Sequence[object], name: str) -> list[Callable[..., None]]:
    return [getattr(observer, name) for observer in observers if hasattr(observer, name)]
