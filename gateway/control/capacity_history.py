"""The load of pools over the days, from which the load ahead is forecast: by the minute, kept in the store."""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from gateway.config.table import PoolSpec
from gateway.policy.capacity.forecast import MINUTE, LoadForecast
from gateway.policy.capacity.want import Forecast, PoolLoad
from gateway.state.store import Document
from gateway.wire.slices import Work

_log = logging.getLogger(__name__)
KIND = "capacity_history"
SAVED = 10
"""Minutes after which a history is saved again: so much of it may be lost with a gateway."""
_TOGETHER = 512
"""Numbers that are written in one piece."""


class CapacityHistory:
    """One forecast for each pool with `mode: predictive`; what others saved is read once this gateway decides."""

    def __init__(self) -> None:
        self._forecasts: dict[str, LoadForecast] = {}
        self._kept: dict[str, str] = {}
        self._minutes: dict[str, int] = {}
        self._unsaved: Counter[str] = Counter()
        self._documents: list[Document] = []

    def __repr__(self) -> str:
        return f"<CapacityHistory of {', '.join(self._forecasts)}>"

    def forecast(self, pool: str) -> LoadForecast | None:
        """Return the forecast of a pool, None where there is none here."""
        return self._forecasts.get(pool)

    def looking(self, pool: PoolSpec, load: PoolLoad, now: float) -> Work[Forecast | None]:
        """Learn the load of a whole minute when one is over, and return what is expected, in small pieces.

        `now` is in seconds since the epoch: the time of the day counts.
        """
        known = self._forecasts.get(pool.name)
        if known is None or known.ahead != pool.warm_up:
            known = self._begun(pool)
            yield
        minute = int(now // MINUTE)
        before = self._minutes.get(pool.name)
        if before != minute:
            self._minutes[pool.name] = minute
            self._unsaved[pool.name] += before is not None
            if before == minute - 1 and load.arrivals is not None:
                known.observe(before, load.arrivals)
                yield
        if self._unsaved[pool.name] >= SAVED:
            self._unsaved[pool.name] = 0
            yield from self._saving(pool.name, known)
        return known.expected(now)

    def documents(self) -> list[Document]:
        """Return what is to be saved since the last call."""
        found, self._documents = self._documents, []
        return found

    def take(self, documents: Iterable[Document]) -> None:
        """Keep what was saved, until it is needed here."""
        for each in documents:
            if each.kind == KIND:
                self._kept[each.name] = each.body

    def forget(self) -> None:
        """Let another gateway go on with what was learnt here: what it saves is read when this one decides again."""
        self._forecasts.clear()
        self._minutes.clear()

    def _begun(self, pool: PoolSpec) -> LoadForecast:
        found = self._forecasts[pool.name] = LoadForecast(pool.warm_up)
        body = self._kept.get(pool.name)
        if body is not None:
            try:
                found.restore(json.loads(body))
            except (KeyError, IndexError, TypeError, ValueError, AttributeError):
                _log.error("a saved history cannot be read: forecasts begin anew", extra={"pool": pool.name})
        return found

    def _saving(self, pool: str, forecast: LoadForecast) -> Work[None]:
        state = forecast.state()
        yield
        parts = []
        for name, numbers in state.items():
            rest = iter(numbers)
            texts: list[str] = []
            while some := [_written(each) for each in islice(rest, _TOGETHER)]:
                texts.append(", ".join(some))
                yield
            parts.append(f'"{name}": [{", ".join(texts)}]')
        body = "{" + ", ".join(parts) + "}"
        self._kept[pool] = body
        self._documents.append(Document(KIND, pool, body))


def _written(number: float) -> str:
    """Return a number as text: whole ones exactly, since minutes are such."""
    return str(int(number)) if number.is_integer() else f"{number:.6g}"


def shown(forecast: LoadForecast | None) -> Iterator[tuple[str, float]]:
    """Yield how good forecasts were, by the name of each measure, as far as that is known."""
    if forecast is None:
        return
    if forecast.mase is not None:
        yield "mase", forecast.mase
    if forecast.pinball is not None:
        own, naive = forecast.pinball
        yield "pinball", own
        yield "pinball_naive", naive
