"""Observers for tests."""

from gateway.backends.backend import Backend
from gateway.exchange import AttemptEnd, Exchange
from gateway.observers import Observer


class Raising(Observer):
    """Fails at every event."""

    def on_attempt_ended(self, exchange: Exchange, backend: Backend, end: AttemptEnd) -> None:
        raise ValueError("attempt")

    def on_retried(self, exchange: Exchange, end: AttemptEnd) -> None:
        raise ValueError("retry")

    def on_first_token(self, exchange: Exchange) -> None:
        raise ValueError("token")

    def on_settled(self, exchange: Exchange) -> None:
        raise ValueError("settled")
