"""What pools want, over HTTP: for people, in the shape that KEDA's metrics-api scaler reads, and a person's word."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Header, Response
from pydantic import BaseModel, ConfigDict, Field

from gateway.admin.canary import Asked
from gateway.admin.protection import error
from gateway.config.problems import suggest
from gateway.control.capacity import CapacityController, CapacityRefused, PoolWant

_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"description": "No such pool, or it wants no number of replicas."}}
_AWAY: dict[int | str, dict[str, Any]] = {503: {"description": "What the pool wants is not known at the moment."}}
_REFUSED: dict[int | str, dict[str, Any]] = {409: {"description": "Refused; the message says why."}}


class PoolCapacity(BaseModel):
    """How many replicas a pool wants, and why.

    `target` is null while that is not known, and `problem` says why; `valid_until` then says until when it was. `rule`
    is what the want follows from, with these `inputs`; it asked for `proposed` replicas before `rails` (guard rails)
    changed that. `value` is what KEDA is told: the HorizontalPodAutoscaler comes to `target` by it in spite of its
    tolerance. `awaits` is how many are wanted once a person approves; a person has `approved` or `rejected` so many.
    `intent` counts the targets of the pool: with the same number the want is the same, `since` then. `cost_per_hour` is
    that of `target`. `budget` is the name of the one that the pool shares with others, null without; while it is short,
    `inputs` says how many are wanted `without_budget`.
    """

    pool: str
    mode: str
    min: int
    max: int
    unit: str
    target: int | None
    value: float | None
    replicas_now: int | None
    reason: str
    rule: str
    inputs: dict[str, float | None]
    rails: list[str]
    proposed: int | None
    awaits: int | None
    approved: int | None
    rejected: int | None
    cost_per_hour: float | None
    intent: int
    since: datetime | None
    valid_until: datetime | None
    problem: str
    budget: str | None


class KedaValue(BaseModel):
    """One number, for `valueLocation: value`."""

    value: float


class AskedOfCapacity(Asked):
    """Why somebody wants it; `replicas` approves as many, whether they are wanted now or not.

    A key that is misspelled must not approve all that waits.
    """

    model_config = ConfigDict(extra="forbid")

    replicas: Annotated[int, Field(ge=1, le=10_000)] | None = None


def capacity_routes(capacity: CapacityController) -> APIRouter:
    """Return the paths of capacity."""
    router = APIRouter(prefix="/admin/capacity")

    @router.get("")
    async def listed() -> list[PoolCapacity]:
        """Return what every pool wants that has a `capacity` in the routes."""
        return [pool_capacity(each) for each in capacity]

    @router.get("/{pool}", response_model=PoolCapacity, responses=_UNKNOWN)
    async def one(pool: str) -> PoolCapacity | Response:
        """Return what one pool wants."""
        found = capacity.get(pool)
        return _none(pool, capacity) if found is None else pool_capacity(found)

    @router.get("/{pool}/keda", response_model=KedaValue, responses=_UNKNOWN | _AWAY)
    async def keda(pool: str) -> KedaValue | Response:
        """Return what the whole pool wants as one number; 503 while that is not known, so that a fallback counts."""
        found = capacity.get(pool)
        if found is None:
            return _none(pool, capacity)
        if found.want is None:
            return error(503, "want_unknown", f"what pool `{pool}` wants is not known: {found.problem}")
        return KedaValue(value=found.want.value)

    @router.post("/{pool}/{action}", response_model=PoolCapacity, responses=_UNKNOWN | _REFUSED)
    async def act(
        pool: str,
        action: Literal["approve", "reject"],
        asked: Annotated[AskedOfCapacity | None, Body()] = None,
        x_gateway_actor: Annotated[str, Header()] = "admin API",
    ) -> PoolCapacity | Response:
        """Let a pool have what waits for approval, or refuse that. To do so again changes nothing."""
        reason = (asked.reason if asked else "") or "no reason given"
        replicas = asked.replicas if asked else None
        try:
            if action == "approve":
                found = capacity.approve(pool, actor=x_gateway_actor, reason=reason, replicas=replicas)
            else:
                found = capacity.reject(pool, actor=x_gateway_actor, reason=reason)
        except KeyError:
            return _none(pool, capacity)
        except CapacityRefused as refused:
            return error(409, "capacity_refused", str(refused))
        return pool_capacity(found)

    return router


def _none(pool: str, capacity: CapacityController) -> Response:
    hint = suggest(pool[:128], [each.pool.name for each in capacity], "pools with a capacity")
    return error(404, "pool_not_found", f"the routes have no pool `{pool[:128]}` with a `capacity`; {hint}")


def pool_capacity(found: PoolWant) -> PoolCapacity:
    """Return a want as people read it."""
    rules, record, want = found.capacity.rules, found.record, found.want
    last = None if record is None else record.want
    return PoolCapacity(
        pool=found.pool.name,
        mode="predictive" if found.capacity.predictive else "reactive",
        min=rules.min,
        max=rules.max,
        unit=found.capacity.unit,
        target=None if want is None else want.target,
        value=None if want is None else want.value,
        replicas_now=None if last is None else last.replicas_now,
        reason="" if last is None else last.reason,
        rule="" if last is None else last.rule,
        inputs={} if last is None else dict(last.inputs),
        rails=[] if last is None else [str(each) for each in last.rails],
        proposed=None if want is None else want.proposed,
        awaits=None if record is None or want is None else record.awaits,
        approved=None if record is None else record.approved,
        rejected=None if record is None else record.rejected,
        cost_per_hour=None if want is None else want.cost_per_hour,
        intent=0 if record is None else record.intent,
        since=None if record is None else datetime.fromtimestamp(record.since, UTC),
        valid_until=None if found.valid_until is None else datetime.fromtimestamp(found.valid_until, UTC),
        problem=found.problem,
        budget=found.capacity.budget or None,
    )
