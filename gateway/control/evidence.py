"""What requests say about rollouts and deployments, on its way from the data path to the controllers that decide."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from gateway.exchange import Exchange
from gateway.observers import Observer

_log = logging.getLogger(__name__)
Weigh = Callable[[Exchange], None]
"""What a controller does with a request."""


class Controller(Protocol):
    """Decides by what requests say, in a turn of the event loop in which no request is served."""

    @property
    def watched(self) -> dict[str, Any]:
        """Its state by model, for the models whose requests it weighs; always the same dictionary."""

    def weigh_first_token(self, exchange: Exchange) -> None:
        """Take the first token of a stream."""

    def weigh_settled(self, exchange: Exchange) -> None:
        """Take how a request ended."""


def next_turn(act: Callable[[], None]) -> None:
    """Have something done in the next turn of the event loop."""
    asyncio.get_running_loop().call_soon(act)


class EvidenceQueue(Observer):
    """Notes on the data path what concerns a controller, and hands it over in the next turn of the loop."""

    def __init__(self, soon: Callable[[Callable[[], None]], None] = next_turn) -> None:
        self._soon = soon
        self._fed: list[tuple[dict[str, Any], Controller]] = []
        self._queued: list[tuple[Weigh, Exchange]] = []

    def __repr__(self) -> str:
        return f"<EvidenceQueue of {len(self._queued)}>"

    def feed(self, *controllers: Controller) -> None:
        """Hand over to these controllers."""
        # What they watch is looked up here: a call of each controller would be made for every request.
        self._fed = [(controller.watched, controller) for controller in controllers]

    def on_first_token(self, exchange: Exchange) -> None:
        """Note a first token the moment it is there: a slow candidate's streams may take minutes to settle."""
        for watched, controller in self._fed:
            if exchange.model in watched:
                self._queue(controller.weigh_first_token, exchange)

    def on_settled(self, exchange: Exchange) -> None:
        """Note how a request ended."""
        for watched, controller in self._fed:
            if exchange.model in watched:
                self._queue(controller.weigh_settled, exchange)

    def _queue(self, weigh: Weigh, exchange: Exchange) -> None:
        self._queued.append((weigh, exchange))
        if len(self._queued) == 1:
            self._soon(self._hand_over)

    def _hand_over(self) -> None:
        queued, self._queued = self._queued, []
        for weigh, exchange in queued:
            try:
                weigh(exchange)
            except Exception:  # noqa: BLE001 - the other requests are still to be weighed
                _log.exception("a request could not be weighed", extra={"model": exchange.model})
