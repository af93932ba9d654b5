"""What `/admin/status` tells of the gateways that share a store, and of the limits that they share."""

from math import floor

from pydantic import BaseModel

from gateway.control.fleet_quotas import LimitUse, QuotaView
from gateway.control.persistence import FleetView


class MemberStatus(BaseModel):
    """A gateway, or one of its workers, that shares the store.

    `name` is of one start of the process. `wrote_seconds` is how long ago it had saved last, when that was asked for.
    """

    name: str
    leads: bool
    wrote_seconds: float


class FleetStatus(BaseModel):
    """The store, and the gateways that share it, as this one sees them; each worker counts as one.

    `name` is this gateway's own name, and `store` the id of the store: gateways that show another one share nothing
    with this one. `alive` is how many have saved something within 10 s, null before that is known; `members` names
    those of them that wrote last, 100 at most. `leader` is "" while none leads. Both are asked for every 5 s.
    `saved_seconds` is how long ago this one saved last, and `save_seconds` how long that took; null before the first
    time. `clock_seconds` is by how much this gateway's time is ahead of the store's, below 0 if it is behind: more than
    10 s are wrong until it is restarted. `unsaved_slots` counts what waits in memory to be saved. `recovering` says
    that the store was emptied, and that what gateways had there is being restored.
    """

    name: str
    store: str
    alive: int | None
    leader: str
    members: list[MemberStatus]
    saved_seconds: float | None
    save_seconds: float | None
    clock_seconds: float
    unsaved_slots: int
    recovering: bool


def fleet_status(view: FleetView | None) -> FleetStatus | None:
    """Return what is shown of a fleet."""
    if view is None:
        return None
    found = view.members
    leader = view.incarnation if view.leads else "" if found is None else found.leader
    return FleetStatus(
        name=view.incarnation,
        store=view.epoch,
        alive=None if found is None else found.alive,
        leader=leader,
        members=[
            MemberStatus(name=each.incarnation, leads=each.incarnation == leader, wrote_seconds=round(each.seconds, 1))
            for each in (() if found is None else found.latest)
        ],
        saved_seconds=_rounded(view.saved),
        save_seconds=None if view.took is None else round(view.took, 3),
        clock_seconds=round(view.ahead, 1),
        unsaved_slots=view.unsaved,
        recovering=view.recovering,
    )


class LimitStatus(BaseModel):
    """One limit a minute of a tenant, over all machines.

    `used_here` and `used_elsewhere` are what this machine and the others have charged in about the last minute; of the
    others less is seen while the limit is hardly used. `left` is below 0 while there is a debt. `heard_seconds` is how
    long ago this machine heard of the others' part, null for never. `part` is how much of what is refilled this machine
    takes while it is alone, 0 to 1, null while it is not.
    """

    tenant: str
    limit: str
    allowed: int
    left: int
    used_here: int
    used_elsewhere: int
    heard_seconds: float | None
    part: float | None


class QuotasStatus(BaseModel):
    """How machines share tenants' limits a minute.

    `machine` is this one, of so many `machines` that took part when others were heard last, `heard_seconds` ago; null
    before the first time. While it is `alone` it goes on without them; `problem` says why, "" while all is well.
    `limits` are those of the tenant that was asked for, or of the 100 that have used most of theirs.
    """

    machine: str
    machines: int
    heard_seconds: float | None
    alone: bool
    problem: str
    limits: list[LimitStatus]


def quotas_status(view: QuotaView | None) -> QuotasStatus | None:
    """Return what is shown of quotas."""
    if view is None:
        return None
    return QuotasStatus(
        machine=view.machine,
        machines=view.machines,
        heard_seconds=_rounded(view.heard),
        alone=view.alone,
        problem=view.problem,
        limits=[_limit(each) for each in view.limits],
    )


def _limit(use: LimitUse) -> LimitStatus:
    return LimitStatus(
        tenant=use.tenant,
        limit=use.limit,
        allowed=use.allowed,
        left=floor(use.left),
        used_here=round(use.here),
        used_elsewhere=round(use.elsewhere),
        heard_seconds=_rounded(use.heard),
        part=None if use.part is None else round(use.part, 3),
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
