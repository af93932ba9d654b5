"""The last hour of each objective, for the charts of a dashboard that is opened now."""

import asyncio
from collections import deque

import msgspec
from fastapi import APIRouter, Response

from gateway.clock import Clock, next_turn
from gateway.policy.slo.burn import burn
from gateway.policy.slo.ledger import SloLedger
from gateway.policy.slo.series import Kind, Series, SeriesKey
from gateway.policy.slo.time_in_use import HOUR
from gateway.policy.slo.windows import MINUTE
from gateway.wire.slices import Slices, Work

EVERY = 20.0
"""Seconds between two points."""
_POINTS = int(HOUR / EVERY)
_MOST = 60
"""Objectives whose points are kept, as many as the dashboard shows."""
Point = tuple[float, float | None, float | None, float | None, float | None]


class History:
    """Keeps points: when, the share of good events in 5 min, and the burn rates of 5 min, 1 h and 6 h.

    Shares and rates are None without events; `now` returns seconds since the epoch.
    """

    def __init__(self, ledger: SloLedger, slices: Slices, now: Clock) -> None:
        self._ledger = ledger
        self._slices = slices
        self._now = now
        self._points: dict[SeriesKey, deque[Point]] = {}

    async def run(self) -> None:
        """Take points until cancelled."""
        while True:
            await next_turn(EVERY)
            await self._slices.do(self.taking())

    def taking(self) -> Work[None]:
        """Take one point of each objective, in small pieces; what the routes no longer name is forgotten."""
        before, self._points = self._points, {}
        at = round(self._now(), 1)
        for series in self._shown():
            points = self._points[series.key] = before.get(series.key) or deque(maxlen=_POINTS)
            points.append((at, *_measured(series)))
            yield

    def telling(self) -> Work[bytes]:
        """Return all of it as JSON, made in small pieces."""
        found = []
        for key, points in list(self._points.items()):
            row = {"model": key.name, "objective": key.objective, "sli": key.sli, "points": list(points)}
            found.append(msgspec.json.encode(row))
            yield
        return b"[%b]" % b",".join(found)

    async def told(self) -> bytes:
        """Return all of it as JSON."""
        return await self._slices.do(self.telling())

    def _shown(self) -> list[Series]:
        models = (each for each in self._ledger if each.kind is Kind.MODEL and not each.prompt_tokens)
        return [series for series, _ in zip(models, range(_MOST), strict=False)]


def history_routes(history: History) -> APIRouter:
    """Return its path."""
    router, turn = APIRouter(prefix="/admin"), asyncio.Lock()

    @router.get("/history", response_class=Response)
    async def last_hour() -> Response:
        """Return the last hour of objectives: time, good share in 5 min, and burn rates of 5 min, 1 h and 6 h."""
        async with turn:
            return Response(await history.told(), media_type="application/json")

    return router


def _measured(series: Series) -> tuple[float | None, float | None, float | None, float | None]:
    windows, allowed = series.windows, series.target.budget
    latest = windows.count(5 * MINUTE)
    good = latest.good / latest.total if latest.total else None
    hour, six = burn(windows.count(HOUR), allowed), burn(windows.count(6 * HOUR), allowed)
    return _rounded(good), _rounded(burn(latest, allowed)), _rounded(hour), _rounded(six)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
