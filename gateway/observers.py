"""Who is told what happened to requests, and how: an observer never decides, and none can harm a request or another."""

import logging
from collections.abc import Sequence
from typing import Final

from gateway.backends.backend import Backend
from gateway.exchange import AttemptEnd, Exchange
from gateway.marks import mypyc_attr

BATCH: Final = 64
_log = logging.getLogger(__name__)


@mypyc_attr(allow_interpreted_subclasses=True)
class Observer:
    """Is told what happened to requests. Subclasses override what matters to them; `Observers` refuses other `on_*`."""

    def on_attempt_ended(self, exchange: Exchange, backend: Backend, end: AttemptEnd) -> None:
        """Learn how one attempt ended."""

    def on_retried(self, exchange: Exchange, end: AttemptEnd) -> None:
        """Learn that an attempt which ended so was followed by another."""

    def on_first_token(self, exchange: Exchange) -> None:
        """Learn that a stream's first token is there, of a model that has several versions."""

    def on_settled(self, exchange: Exchange) -> None:
        """Learn how a request ended; called exactly once for each."""


class Observers:
    """Every observer, told one after the other.

    One that raises has that logged, once for each kind of error and event; the others are told all the same.
    """

    __slots__ = ("_attempt_ended", "_batched", "_first_token", "_logged", "_retried", "_settled", "_waiting")

    def __init__(self, *observers: Observer, batched: Sequence[Observer] = ()) -> None:
        """Take observers; raises TypeError for one with an `on_*` that no event has, or with none at all.

        Those `batched` learn of settled requests many at a time, and by `flush` at the latest: code that runs for many
        in a row runs from warm caches, and costs about half.
        """
        for each in (*batched, *observers):
            _check(each)
        self._attempt_ended = _overriding("on_attempt_ended", (*batched, *observers))
        self._retried = _overriding("on_retried", (*batched, *observers))
        self._first_token = _overriding("on_first_token", (*batched, *observers))
        self._settled = _overriding("on_settled", observers)
        self._batched = _overriding("on_settled", batched)
        self._waiting: list[Exchange] = []
        self._logged: set[tuple[str, str, str]] = set()

    def attempt_ended(self, exchange: Exchange, backend: Backend, end: AttemptEnd) -> None:
        """Tell how one attempt ended."""
        for each in self._attempt_ended:
            try:
                each.on_attempt_ended(exchange, backend, end)
            except Exception as error:  # noqa: BLE001 - no observer may harm another
                self._log(each, "on_attempt_ended", error)

    def retried(self, exchange: Exchange, end: AttemptEnd) -> None:
        """Tell that an attempt was followed by another."""
        for each in self._retried:
            try:
                each.on_retried(exchange, end)
            except Exception as error:  # noqa: BLE001 - no observer may harm another
                self._log(each, "on_retried", error)

    def first_token(self, exchange: Exchange) -> None:
        """Tell that a stream has begun."""
        for each in self._first_token:
            try:
                each.on_first_token(exchange)
            except Exception as error:  # noqa: BLE001 - no observer may harm another
                self._log(each, "on_first_token", error)

    def settled(self, exchange: Exchange) -> None:
        """Tell how a request ended, now or soon."""
        self._waiting.append(exchange)
        if len(self._waiting) >= BATCH:
            self.flush()
        for each in self._settled:
            self._tell_settled(each, exchange)

    def flush(self) -> None:
        """Tell the batched ones of what waits; an error costs its observer one request alone."""
        waiting, self._waiting = self._waiting, []
        for each in self._batched:
            for exchange in waiting:
                self._tell_settled(each, exchange)

    def _tell_settled(self, observer: Observer, exchange: Exchange) -> None:
        try:
            observer.on_settled(exchange)
        except Exception as error:  # noqa: BLE001 - no observer may harm another
            self._log(observer, "on_settled", error)

    def _log(self, observer: Observer, event: str, error: Exception) -> None:
        key = (type(observer).__name__, event, type(error).__name__)
        if key not in self._logged:
            self._logged.add(key)
            _log.error("an observer failed", exc_info=error, extra={"observer": key[0], "event": event})


def _overriding(event: str, observers: Sequence[Observer]) -> list[Observer]:
    """Return the observers that an event matters to."""
    return [each for each in observers if _overrides(each, event)]


def _overrides(observer: Observer, event: str) -> bool:
    return getattr(type(observer), event) is not getattr(Observer, event)


def _check(observer: Observer) -> None:
    names = [name for name in dir(type(observer)) if name.startswith("on_")]
    events = [name for name in dir(Observer) if name.startswith("on_")]
    unknown = ", ".join(name for name in names if name not in events)
    if unknown:
        raise TypeError(f"{type(observer).__name__} has {unknown}; the events are {', '.join(events)}")
    if not any(_overrides(observer, event) for event in events):
        raise TypeError(f"{type(observer).__name__} overrides no event; the events are {', '.join(events)}")
