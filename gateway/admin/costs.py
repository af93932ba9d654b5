"""Showback: what tenants used, and what that cost, as the gateway's own metrics count it."""

import asyncio
import csv
import io
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel

from gateway.clock import wall
from gateway.wire.slices import Slices, Work

_REQUESTS = "tidegate_tenant_requests_total"
_TOKENS = "tidegate_tenant_tokens_total"
_CACHED = "tidegate_tenant_cached_prompt_tokens_total"
_COST = "tidegate_tenant_cost_total"
_MIRRORED = "tidegate_cost_mirrored_total"
_IDLE = "tidegate_cost_idle_total"
_ENGINES = "tidegate_cost_engines_total"
METRICS = frozenset((_REQUESTS, _TOKENS, _CACHED, _COST, _MIRRORED, _IDLE, _ENGINES))
"""What costs are read from."""
_SAMPLE = re.compile(r"(\w+)\{(.*)\} (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_TOGETHER = 64
"""Lines that are read, and rows that are made, in one piece."""
_CSV = "text/csv"
_DIGITS = 9


class TenantCosts(BaseModel):
    """What one tenant used of one model; `other` are all that are not counted by name.

    `requests` are by result: `ok`, `failed`, `limited` (by its own quota), `client` (what availability does not count).
    `cached_prompt_tokens` are those that engines say they had in their caches, the others were `computed`. `cost` is
    what its attempts cost, `idle_cost` its part of what idle engines cost, 0 where that is told apart.
    """

    tenant: str
    model: str
    requests: dict[str, int]
    prompt_tokens: int
    cached_prompt_tokens: int
    computed_prompt_tokens: int
    output_tokens: int
    cost: float
    cost_by_pool: dict[str, float]
    idle_cost: float


class PoolCosts(BaseModel):
    """What the engines of one pool cost: `cost` is the sum of the other numbers.

    `charged` is for attempts of tenants, `mirrored` for copies of requests, `idle` while no attempt held an engine,
    `in_progress` for attempts that have not ended.
    """

    pool: str
    cost: float
    charged: float
    mirrored: float
    idle: float
    in_progress: float


class Costs(BaseModel):
    """What engines cost since the gateway started, by pool, and by tenant and model."""

    since: datetime
    until: datetime
    pools: list[PoolCosts]
    tenants: list[TenantCosts]


@dataclass(slots=True)
class _Row:
    """What is known of one tenant and model."""

    requests: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    cached: int = 0
    costs: dict[str, float] = field(default_factory=dict)


class CostReport:
    """What metrics say of costs."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], _Row] = {}
        self._by_pool: dict[str, dict[str, float]] = {_ENGINES: {}, _IDLE: {}, _MIRRORED: {}}

    def __repr__(self) -> str:
        return f"<CostReport of {len(self._rows)} tenants and models>"

    def reading(self, text: str) -> Work[None]:
        """Read metrics in Prometheus' own text, in small pieces."""
        for number, line in enumerate(text.splitlines()):
            match = None if line.startswith("#") else _SAMPLE.fullmatch(line)
            if match is not None and match[1] in METRICS:
                labels = {name: _unescaped(value) for name, value in _LABEL.findall(match[2])}
                self._take(match[1], labels, float(match[3]))
            if number % _TOGETHER == 0:
                yield

    def _take(self, name: str, labels: Mapping[str, str], value: float) -> None:
        if name in self._by_pool:
            of_pools, pool = self._by_pool[name], labels["pool"]
            of_pools[pool] = of_pools.get(pool, 0.0) + value
            return
        row = self._rows.setdefault((labels["tenant"], labels["model"]), _Row())
        if name == _REQUESTS:
            row.requests[labels["result"]] = int(value)
        elif name == _TOKENS:
            row.tokens[labels["direction"]] = int(value)
        elif name == _CACHED:
            row.cached = int(value)
        else:
            row.costs[labels["pool"]] = value

    def _charged(self) -> dict[str, float]:
        charged: dict[str, float] = {}
        for row in self._rows.values():
            for pool, cost in row.costs.items():
                charged[pool] = charged.get(pool, 0.0) + cost
        return charged

    def tenants(self, tenant: str, model: str, *, distribute: bool) -> Work[list[TenantCosts]]:
        """Return tenants and models by what they cost, the dearest first: all, or of one; made in small pieces.

        To `distribute` what idle engines cost gives each its part, in each pool by what its attempts cost there.
        """
        charged, idle = self._charged() if distribute else {}, self._by_pool[_IDLE]
        shares = {pool: idle.get(pool, 0.0) / cost for pool, cost in charged.items()}
        wanted = [item for item in self._rows.items() if tenant in ("", item[0][0]) and model in ("", item[0][1])]
        told = []
        for number, ((its_tenant, its_model), row) in enumerate(sorted(wanted, key=_dearest)):
            prompt = row.tokens.get("prompt", 0)
            costs = TenantCosts(
                tenant=its_tenant,
                model=its_model,
                requests=row.requests,
                prompt_tokens=prompt,
                cached_prompt_tokens=row.cached,
                computed_prompt_tokens=prompt - row.cached,
                output_tokens=row.tokens.get("output", 0),
                cost=round(sum(row.costs.values()), _DIGITS),
                cost_by_pool={pool: round(cost, _DIGITS) for pool, cost in sorted(row.costs.items())},
                idle_cost=round(sum(cost * shares.get(pool, 0.0) for pool, cost in row.costs.items()), _DIGITS),
            )
            told.append(costs)
            if number % _TOGETHER == 0:
                yield
        return told

    def pools(self) -> Iterator[PoolCosts]:
        """Yield pools by name."""
        charged, mirrored = self._charged(), self._by_pool[_MIRRORED]
        for pool, cost in sorted(self._by_pool[_ENGINES].items()):
            paid, copies, idle = charged.get(pool, 0.0), mirrored.get(pool, 0.0), self._by_pool[_IDLE].get(pool, 0.0)
            yield PoolCosts(
                pool=pool,
                cost=round(cost, _DIGITS),
                charged=round(paid, _DIGITS),
                mirrored=round(copies, _DIGITS),
                idle=round(idle, _DIGITS),
                in_progress=round(max(0.0, cost - paid - copies - idle), _DIGITS),
            )


def _dearest(row: tuple[tuple[str, str], _Row]) -> tuple[float, tuple[str, str]]:
    return -sum(row[1].costs.values()), row[0]


_FORMATS: dict[int | str, dict[str, Any]] = {200: {"content": {_CSV: {"schema": {"type": "string"}}}}}


def cost_routes(told: Callable[[], Awaitable[bytes]], slices: Slices, began: Callable[[], float]) -> APIRouter:
    """Return its path: `told` are metrics as text, `began` is when they began (seconds since the epoch)."""
    router, turn = APIRouter(prefix="/admin"), asyncio.Lock()

    @router.get("/costs", response_model=Costs, responses=_FORMATS)
    async def costs(
        tenant: Annotated[str, Query(max_length=63)] = "",
        model: Annotated[str, Query(max_length=128)] = "",
        idle: Literal["apart", "distributed"] = "apart",
        written: Annotated[Literal["json", "csv"] | None, Query(alias="format")] = None,
        accept: Annotated[str, Header()] = "",
    ) -> Costs | Response:
        """Return what engines cost since the gateway started, by tenant and model: all, or of one tenant or model.

        `idle=distributed` gives each tenant its part of what idle engines cost. With `format=csv`, or where the client
        accepts `text/csv` alone, it is a table; what no tenant is charged has rows of its own, in parentheses.
        """
        async with turn:
            report = CostReport()
            await slices.do(report.reading((await told()).decode()))
            rows = await slices.do(report.tenants(tenant, model, distribute=idle == "distributed"))
        found = Costs(
            since=datetime.fromtimestamp(began(), UTC),
            until=datetime.fromtimestamp(wall(), UTC),
            pools=[*report.pools()],
            tenants=rows,
        )
        if written == "csv" or (written is None and accept.partition(";")[0].strip() == _CSV):
            return Response(_table(found, whole=not tenant and not model), media_type=_CSV)
        return found

    return router


_RESULTS = ("ok", "failed", "limited", "client")
_COUNTS = ("prompt_tokens", "cached_prompt_tokens", "computed_prompt_tokens", "output_tokens")


def _table(costs: Costs, *, whole: bool) -> str:
    """Return costs as CSV; of the `whole` all rows add up to what engines cost."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("tenant", "model", *(f"{each}_requests" for each in _RESULTS), *_COUNTS, "cost", "idle_cost"))
    for row in costs.tenants:
        counts = [row.requests.get(each, 0) for each in _RESULTS] + [getattr(row, each) for each in _COUNTS]
        writer.writerow((row.tenant, row.model, *counts, row.cost, row.idle_cost))
    if whole:
        blank = [""] * (len(_RESULTS) + len(_COUNTS))
        distributed = sum(row.idle_cost for row in costs.tenants)
        idle = round(sum(pool.idle for pool in costs.pools) - distributed, _DIGITS)
        mirrored, rest = (sum(getattr(pool, each) for pool in costs.pools) for each in ("mirrored", "in_progress"))
        writer.writerow(("(idle)", "", *blank, 0, max(0.0, idle)))
        writer.writerow(("(mirrored)", "", *blank, round(mirrored, _DIGITS), 0))
        writer.writerow(("(in progress)", "", *blank, round(rest, _DIGITS), 0))
    return text.getvalue()


def _unescaped(value: str) -> str:
    if "\\" not in value:
        return value
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], value)
