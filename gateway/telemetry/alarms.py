"""What a person should be told although the data plane goes on."""

import logging
from typing import Final

from gateway.backends.backend import Backend
from gateway.clock import Clock
from gateway.exchange import AttemptEnd, Exchange
from gateway.observers import Observer

_log = logging.getLogger(__name__)
_EVERY: Final = 60.0
_UNAUTHORIZED: Final = AttemptEnd.UNAUTHORIZED


class UnauthorizedAlarm(Observer):
    """Says, once a minute for each backend, that it rejects the gateway's key."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}

    def on_attempt_ended(self, _exchange: Exchange, backend: Backend, end: AttemptEnd) -> None:
        """Look for rejected keys."""
        if end is not _UNAUTHORIZED:
            return
        now = self._clock()
        if now - self._told.get(backend.id, -_EVERY) >= _EVERY:
            self._told[backend.id] = now
            _log.error(
                "the engine rejects the gateway's key: set the `api_key` of this backend in the routes",
                extra={"backend": backend.id},
            )
